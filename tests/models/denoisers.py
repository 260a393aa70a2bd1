"""Small denoising networks and their inputs, for the tests of the networks."""

import torch

# keywords of UNet
TEXT = dict(
    channels=16, multipliers=(1, 2), layers_per_block=1, attention=(False, True), context_dim=12
)
LABELS = dict(
    channels=16, multipliers=(1, 2), layers_per_block=1, attention=(True, False), classes=10
)
PLAIN = dict(
    channels=16, multipliers=(1, 2, 2), layers_per_block=1, attention=(False, False, False)
)

# and of DiT
PATCHES = dict(size=8, patch_size=2, dim=16, layers=3, mlp_ratio=2)
PATCHES_AND_TEXT = PATCHES | dict(context_dim=12, out_channels=5)
PIXELS = PATCHES | dict(patch_size=1, context_dim=12, layers=1)


def stirred(model):
    """The model with noise added to every weight, so that no branch is zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(keywords, batch=2):
    """Pictures, timesteps, and the context that a network with these keywords expects."""
    context = None
    if keywords.get("context_dim"):
        context = torch.randn(batch, 5, keywords["context_dim"])
    if keywords.get("classes"):
        context = torch.arange(batch) * keywords["classes"]  # the first label and the null
    return torch.randn(batch, 3, 8, 8), 1000 * torch.rand(batch), context
