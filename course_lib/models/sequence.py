"""A transformer of token sequences, for masked diffusion or, if causal, for autoregression."""

import torch
from torch import Tensor, nn

from course_lib.common.checks import WHOLE, check_tensor, require
from course_lib.models.layers import keeps_kwargs
from course_lib.models.text import EncoderLayer


class SequenceTransformer(nn.Module):
    """Ids (B, L) -> logits (B, L, vocab_size), of the tokens but not of the mask, id vocab_size.

    `logits = network(ids, timestep, context)`; context: class labels (B,), where label `classes`
    means any, as does None. The timestep is not read: how many masks there are says it all (Ou et
    al. 2025). With `causal`, position n sees the ids 0..n only.

    >>> network = SequenceTransformer(vocab_size=5, length=8, dim=16, layers=1)
    >>> network(torch.tensor([[0, 5, 2]])).shape
    torch.Size([1, 3, 5])
    """

    @keeps_kwargs
    def __init__(
        self,
        vocab_size: int,
        length: int = 32,
        dim: int = 128,
        layers: int = 4,
        heads: int = 4,
        mlp_ratio: float = 4,
        classes: int = 0,
        causal: bool = False,
    ):
        super().__init__()
        self.vocab_size, self.length, self.classes = vocab_size, length, classes
        self.token_embedding = nn.Embedding(vocab_size + 1, dim)
        self.position_embedding = nn.Embedding(length, dim)
        self.class_embedding = nn.Embedding(classes + 1, dim)
        self.layers = nn.Sequential(
            *(EncoderLayer(dim, heads, mlp_ratio, causal) for _ in range(layers))
        )
        self.final_layer_norm = nn.LayerNorm(dim)
        self.to_logits = nn.Linear(dim, vocab_size)

    def forward(
        self, ids: Tensor, timestep: Tensor | None = None, context: Tensor | None = None
    ) -> Tensor:
        check_tensor("ids", ids, ("B", "L"), self.to_logits.weight, WHOLE, (0, self.vocab_size))
        require(ids.shape[1] <= self.length, "ids", f"at most {self.length} in a row", ids)
        context = torch.full_like(ids[:, 0], self.classes) if context is None else context
        check_tensor("context", context, (len(ids),), ids, WHOLE, (0, self.classes))
        x = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]  # (B, L, D)
        x = x + self.class_embedding(context).unsqueeze(1)
        x = self.final_layer_norm(self.layers(x))
        return self.to_logits(x).float()  # (B, L, V), in float32 under autocast too
