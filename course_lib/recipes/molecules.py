"""Molecules as SMILES: masked diffusion, and its twin that writes from left to right.

Both have the same network but for the causal mask, the same data, steps and optimiser. Each fifth
of the training molecules by logP is a class, which can be asked for, or guided to.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_lib.datasets.molecules import LENGTH, MASK, decode, encode, molecules
from course_lib.diffusion import MaskedDiffusion, Network, drop_condition, guided
from course_lib.evaluation.metrics import Metric, mean, share
from course_lib.evaluation.molecules import judge
from course_lib.models import SequenceTransformer
from course_lib.recipes.recipe import Recipe
from course_lib.training import Optimizer, Scale
from course_lib.training.seeding import seeded

CLASSES = 5  # fifths of the training molecules, from the lowest logP to the highest
ANY = CLASSES  # the class that stands for no wish
PROCESS = MaskedDiffusion(MASK)


class Molecules(Recipe):
    """What the two share: the data, the classes and the judge."""

    goal = "valid"  # which needs RDKit
    settings: ClassVar = dict(
        steps=1000,
        optimizer=Optimizer("muon", lr=6e-3, warmup=50),
        ema=0.99,
        scale=Scale(precision="auto"),
    )
    batch_size, drop = 64, 0.2
    causal: bool

    def __init__(self):
        smiles, properties = molecules("train")
        test_smiles, test_properties = molecules("test")
        logp = properties[:, 0]
        self.edges = logp.quantile(torch.arange(1, CLASSES) / CLASSES)  # between the classes
        self.ids, self.labels = encode(smiles), self.classes_of(logp)
        self.test_ids = encode(test_smiles)
        self.test_labels = self.classes_of(test_properties[:, 0])

    def classes_of(self, logp: Tensor) -> Tensor:
        """The fifth in which each logP lies: (N,) -> (N,), 0 to 4."""
        return torch.bucketize(logp.contiguous(), self.edges)

    def model(self) -> nn.Module:
        sizes = dict(length=LENGTH, dim=96, layers=3, classes=CLASSES)
        return SequenceTransformer(MASK, **sizes, causal=self.causal)

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(self.ids), (self.batch_size,))
        return self.ids[chosen], self.labels[chosen]

    def loss(self, model: nn.Module, data: tuple[Tensor, Tensor]) -> Tensor:
        ids, labels = data
        return self.nats(model, ids, drop_condition(labels, ANY, self.drop)).mean()

    def nats(self, network: Network, ids: Tensor, labels: Tensor) -> Tensor:
        """-log p of each molecule given its class, or an estimate of a bound, in nats: (B,)."""
        raise NotImplementedError

    def draw(self, model: nn.Module, labels: Tensor, seed: int = 0, scale: float = 1.0) -> Tensor:
        """A molecule for each label (B,), as ids (B, 20). scale: of guidance, 1 for none."""
        raise NotImplementedError

    def samples(self, model: nn.Module) -> tuple[Tensor, list[str]]:
        """Each SMILES as a picture, a row for each token and a column for each position."""
        ids = self.draw(model, torch.arange(8) % CLASSES)
        return 2 * F.one_hot(ids, MASK).mT[:, None].float() - 1, decode(ids)  # (8, 1, V, 20)

    @torch.no_grad()
    def measure(self, model: nn.Module, count: int) -> list[Metric]:
        drawn = self.draw(model, torch.arange(count) % CLASSES)
        verdicts = [judge(smiles) for smiles in decode(drawn)]
        return [self.test_nats(model), share("valid", [not v.problem for v in verdicts])]

    @torch.no_grad()
    def test_nats(self, model: nn.Module) -> Metric:
        """Nats for each of a thousand molecules that no training saw, at fixed random times."""
        device = where(model)
        with seeded(0, 0, device):
            ids, labels = self.test_ids[:1000], self.test_labels[:1000]
            return mean("test_nats", self.nats(model, ids.to(device), labels.to(device)).cpu())


class MoleculesMasked(Molecules):
    """Masked diffusion (Sahoo et al. 2024): tokens appear anywhere, the surest first."""

    name, causal = "molecules-masked", False

    def nats(self, network: Network, ids: Tensor, labels: Tensor) -> Tensor:
        return PROCESS.random_bound(network, ids, labels)

    def draw(self, model, labels, seed=0, scale=1.0, steps=None, order="surest"):
        device = where(model)
        options = dict(generator=torch.Generator(device).manual_seed(seed), device=device)
        options["order"] = order
        shape, network = (len(labels), LENGTH), guided(model, ANY, scale)
        return PROCESS.sample(network, shape, labels.to(device), steps, **options).cpu()


class MoleculesAutoregressive(Molecules):
    """The twin: each token given those to its left. The mask stands in front of the first."""

    name, causal = "molecules-autoregressive", True

    def nats(self, network: Network, ids: Tensor, labels: Tensor) -> Tensor:
        before = F.pad(ids[:, :-1], (1, 0), value=MASK)  # (B, L): what is left of each token
        logits = network(before, None, labels)
        return F.cross_entropy(logits.mT, ids, reduction="none").sum(1)

    @torch.no_grad()
    def draw(self, model, labels, seed=0, scale=1.0):
        labels = labels.to(where(model))
        generator = torch.Generator(labels.device).manual_seed(seed)
        network, timestep = guided(model, ANY, scale), torch.zeros(len(labels))  # is not read
        ids = torch.full((len(labels), 1), MASK, device=labels.device)
        for _ in range(LENGTH):
            logits = network(ids, timestep, labels)[:, -1]  # (B, V)
            following = logits.softmax(-1).multinomial(1, generator=generator)
            ids = torch.cat([ids, following], dim=1)
        return ids[:, 1:].cpu()


def where(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


# ---- a baseline without a network --------------------------------------------------------------


def trigram(ids: Tensor, extra: float = 0.01) -> Tensor:
    """p(token | the two before it): (V + 1, V + 1, V), where V stands for "before the start".

    extra: added to every count, so that no probability is 0.
    """
    padded = F.pad(ids, (2, 0), value=MASK)  # (N, 2 + L)
    counts = torch.full((MASK + 1, MASK + 1, MASK), extra)
    places = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    counts.index_put_(places, torch.ones(()), accumulate=True)
    return counts / counts.sum(-1, keepdim=True)


def draw_trigram(table: Tensor, count: int, seed: int = 0) -> Tensor:
    """Sequences of ids from left to right: (count, 20)."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((count, 2), MASK)
    for _ in range(LENGTH):
        following = table[ids[:, -2], ids[:, -1]].multinomial(1, generator=generator)
        ids = torch.cat([ids, following], dim=1)
    return ids[:, 2:]


RECIPES = (MoleculesMasked, MoleculesAutoregressive)
