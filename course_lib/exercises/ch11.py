"""Chapter 11: fine-tuning. Low-rank updates, DreamBooth's loss, and a LoRA trained from scratch."""

from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor, nn

from course_lib.exercises.capstones import shaped
from course_lib.recipes import load_pipeline
from course_lib.teaching.check import Choice, Code, Number, Target, Unusable
from course_lib.teaching.fine_tuning import blobs, lessons

# ---- 11.1 write: what a rank can hold ----------------------------------------------------------


def best_of_rank(delta, rank):
    U, S, Vt = torch.linalg.svd(delta, full_matrices=False)
    best = U[:, :rank] @ torch.diag(S[:rank]) @ Vt[:rank]
    return best, (S[rank:] ** 2).sum() / (S**2).sum()


def the_smallest_ones(delta, rank):
    """You kept the smallest singular values. The nearest matrix keeps the largest: torch returns
    them in descending order."""
    U, S, Vt = torch.linalg.svd(delta, full_matrices=False)
    best = U[:, -rank:] @ torch.diag(S[-rank:]) @ Vt[-rank:]
    return best, (S[:-rank] ** 2).sum() / (S**2).sum()


def share_kept(delta, rank):
    """Your matrix is right, but you returned the share that is kept. The share that is *lost* was
    asked for: one minus yours."""
    best, lost = best_of_rank(delta, rank)
    return best, 1 - lost


def share_of_norms(delta, rank):
    """Your matrix is right. The share is of the *squared* norm, which is the sum of the squared
    singular values."""
    S = torch.linalg.svdvals(delta)
    return best_of_rank(delta, rank)[0], S[rank:].sum() / S.sum()


def root_of_the_share(delta, rank):
    """Your matrix is right. You took the ratio of the norms; the ratio of their squares was asked
    for."""
    best, lost = best_of_rank(delta, rank)
    return best, lost.sqrt()


def first_rows(delta, rank):
    """You kept the first rows of the matrix. It has the right rank, but other matrices of this rank
    are nearer: use the singular value decomposition."""
    best = torch.cat([delta[:rank], torch.zeros_like(delta[rank:])])
    return best, (delta - best).square().sum() / delta.square().sum()


def without_singular_values(delta, rank):
    """You multiplied U and Vᵀ, but left out the singular values between them."""
    U, _, Vt = torch.linalg.svd(delta, full_matrices=False)
    return U[:, :rank] @ Vt[:rank], best_of_rank(delta, rank)[1]


def updates_and_ranks():
    return [
        (torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]]), 1),
        (torch.randn(5, 4), 3),
        (torch.randn(6, 9) @ torch.diag(torch.rand(9)), 2),
    ]


# ---- 11.3 debug: DreamBooth's loss --------------------------------------------------------------


def dreambooth_loss(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior):
    def loss(z, c, eps):
        zt = (1 - t) * z + t * eps
        return (network(zt, t, c) - (eps - z)).square().mean()

    return loss(z, c, eps) + weight * loss(z_prior, c_prior, eps_prior)


def planted_wrong_caption(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior):
    zt = (1 - t) * z + t * eps
    loss = (network(zt, t, c) - (eps - z)).square().mean()
    zt = (1 - t) * z_prior + t * eps_prior
    prior = (network(zt, t, c) - (eps_prior - z_prior)).square().mean()
    return loss + weight * prior


def captions_swapped(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior):
    """Each picture is shown with the other's caption now."""
    return dreambooth_loss(network, z, c_prior, z_prior, c, weight, t, eps, eps_prior)


def weight_on_the_object(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior):
    """The captions are right. But the weight belongs to the prior's term, as before."""
    prior = dreambooth_loss(network, z_prior, c_prior, z, c, weight, t, eps_prior, eps)
    return prior


def one_noise(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior):
    """The captions are right. But the prior's pictures have their own noise, `eps_prior`."""
    return dreambooth_loss(network, z, c, z_prior, c_prior, weight, t, eps, eps)


def no_prior(network, z, c, z_prior, c_prior, weight, t, eps, eps_prior):
    """You dropped the prior's term. It was right to be there; find what it is told."""
    return dreambooth_loss(network, z, c, z_prior, c_prior, 0.0, t, eps, eps_prior)


def a_network(x, t, c):
    return torch.tanh(x * (1 + t) + c) + 0.3 * c


def objects_and_priors():
    cases = []
    for size, weight in ((1, 0.5), (3, 0.7), (4, 2.0)):
        z, c, z_prior, c_prior, eps, eps_prior = torch.randn(6, size, 2).unbind()
        t = torch.rand(size, 1)
        cases.append((a_network, z, c, z_prior, c_prior, weight, t, eps, eps_prior))
    return cases


# ---- 11.7 capstone: LoRA, whole -----------------------------------------------------------------

LIMIT = 300_000  # trainable numbers: 4 % of the U-Net's
BOUND = 1.09


def train_lora(unet, process, z, context, null):
    class Adapted(nn.Module):
        def __init__(self, layer, rank=4):
            super().__init__()
            self.layer = layer
            self.A = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
            self.B = nn.Parameter(torch.zeros(layer.out_features, rank))

        def forward(self, x):
            return self.layer(x) + x @ self.A.T @ self.B.T

    unet.requires_grad_(False)
    for block in list(unet.modules()):
        for name, layer in list(block.named_children()):
            if isinstance(layer, nn.Linear) and name.startswith("to_"):
                setattr(block, name, Adapted(layer))
    weights = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=2e-3)
    for _ in range(120):
        chosen = torch.randint(len(z), (16,))
        kept = torch.rand(16, 1, 1) > 0.1
        loss = process.loss(unet, z[chosen], torch.where(kept, context[chosen], null))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return unet


@cache
def blob_latents(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Latents (N, 24, 8, 8) and contexts (N, 32, 192) of drawings by Blob."""
    model, data = load_pipeline("emoji-latent"), blobs(count, split=split)
    (pair,) = lessons(model, data, steps=1, batch=count)
    return pair


def fixed_draws(process, z: Tensor) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Four times with noise of their own: t, the noisy latents, and what should be predicted."""
    generator = torch.Generator().manual_seed(0)
    for t in (0.2, 0.4, 0.6, 0.8):
        eps = torch.randn(z.shape, generator=generator)
        yield t, process.add_noise(z, t, eps), process.target(z, eps, t)


def adapted_predictions(answer) -> Tensor:
    """Trains the answer's network; its predictions for held-out blobs: (4, 80, 24, 8, 8)."""
    model = load_pipeline("emoji-latent")
    originals = [p.detach().clone() for p in model.unet.parameters()]
    null, process = model.clip.context([""]).detach(), model.process
    network = answer(model.unet, process, *blob_latents("train", 200), null)
    if not isinstance(network, nn.Module):
        raise Unusable("train_lora must return a network, called as network(x, timestep, context).")
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    if not 0 < trained <= LIMIT:
        raise Unusable(f"your network has {trained:,} trainable numbers, expected 1 to {LIMIT:,}.")
    if not all(any(same(p, q) for q in network.parameters()) for p in originals):
        raise Unusable(
            "some of the U-Net's own weights have changed; LoRA leaves them as they are."
        )
    z, context = blob_latents("new pairs", 80)
    with torch.no_grad():
        found = [
            network(zt, process.timestep(t, zt), context) for t, zt, _ in fixed_draws(process, z)
        ]
    return torch.stack([shaped(each, tuple(z.shape), "the network's prediction") for each in found])


def same(p: Tensor, q: Tensor) -> bool:
    return p.shape == q.shape and not q.requires_grad and torch.equal(p, q)


def blob_loss(predictions: Tensor) -> float:
    """The mean squared error of such predictions."""
    process, (z, _) = load_pipeline("emoji-latent").process, blob_latents("new pairs", 80)
    targets = torch.stack([target for _, _, target in fixed_draws(process, z)])
    return (predictions - targets).square().mean().item()


# ---- the chapter -------------------------------------------------------------------------------

EXERCISES = {
    "11.1": Code(
        best_of_rank,
        updates_and_ranks,
        "No matrix of this rank is nearer (Eckart & Young 1936). So a finished fine-tuning can be "
        "turned into a LoRA file, and you know what that costs.",
        [
            the_smallest_ones,
            share_kept,
            share_of_norms,
            root_of_the_share,
            first_rows,
            without_singular_values,
        ],
    ),
    "11.2": Number(
        8 * (1280 + 768) / (1280 * 768),
        "8 · (1280 + 768) = 16,384 numbers beside 983,040: one for every sixty.",
        within=0.0005,
        misconceptions={
            "one factor": (
                8 * 1280 / (1280 * 768),
                "That is B alone. A has numbers, too: 8 for each of the 768 inputs.",
            ),
            "the other factor": (
                8 * 768 / (1280 * 768),
                "That is A alone. B has numbers, too: 8 for each of the 1,280 outputs.",
            ),
        },
    ),
    "11.3": Code(
        dreambooth_loss,
        objects_and_priors,
        "Each picture is denoised under its own caption, so the class keeps its word.",
        [captions_swapped, weight_on_the_object, one_noise, no_prior],
        given=planted_wrong_caption,
    ),
    "11.4": Choice(
        "c",
        {
            "a": "The first output is the same, it's true: B·A is 0 either way. Now write down the "
            "gradient of the loss with respect to each factor.",
            "b": "A's gradient is Bᵀ·G, and B is 0. B's gradient is G·Aᵀ, and A is 0. Which of the "
            "two moves first?",
            "c": "Each factor's gradient is multiplied by the other factor, and both are 0: a "
            "saddle that no gradient step leaves. One of the two must start at random.",
            "d": "Nothing divides by A or B, so nothing becomes infinite.",
        },
    ),
    "11.7": Target(
        train_lora,
        adapted_predictions,
        bound=BOUND,  # seeds 0, 1, 2: 1.058, 1.053, 1.056; untrained 1.138
        meaning="the loss on held-out drawings by Blob is",
        well_done="With under 1 % of its size beside it, the U-Net has learned something of a new "
        "studio, and not one of its own weights has changed.",
        measure=blob_loss,
    ),
}
