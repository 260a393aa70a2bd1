"""`python tests/benchmarks/stable_diffusion.py [bf16|fp32] [PIXELS]`: the cost of one picture.

Stable Diffusion 1.5's three networks at full size with random weights, so nothing is downloaded.
Prints the seconds for a guided call of the U-Net and for the decoder, and the peak memory of each
in addition to the weights. `course_lib.pipelines.stable_diffusion.memory` is based on this.
"""

import resource
import sys
import time

import torch

from course_lib.common.devices import autocast
from course_lib.diffusion import guided
from course_lib.models import SD15_UNET, SD15_VAE, AutoencoderKL, UNet


def peak() -> float:
    """The peak memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def random_model(cls, kwargs: dict, dtype: torch.dtype) -> torch.nn.Module:
    """Full size with small random weights, made without a float32 copy."""
    with torch.device("meta"):
        model = cls(**kwargs)
    model = model.to(dtype).to_empty(device="cpu")
    for name, tensor in model.state_dict().items():
        tensor.fill_(1) if name == "scaling_factor" else tensor.normal_(0, 0.02)
    return model.eval()


@torch.inference_mode()
def main(precision: str = "bf16", pixels: str = "512") -> None:
    dtype, side = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision], int(pixels) // 8
    torch.manual_seed(0)
    unet = random_model(UNet, SD15_UNET, dtype)
    vae = random_model(AutoencoderKL, SD15_VAE, torch.float32)
    weights = [sum(p.numel() * p.itemsize for p in m.parameters()) / 1e9 for m in (unet, vae)]
    start = peak()
    print(f"weights: U-Net {weights[0]:.2f} GB in {precision}, autoencoder {weights[1]:.2f} GB")
    context, x = torch.randn(1, 77, 768), torch.randn(1, 4, side, side)
    network = guided(unet, torch.randn(1, 77, 768), 7.5)

    def guided_call():
        with autocast(x.device):
            network(x, torch.tensor([500.0]), context)

    for what, work in (
        ("guided call of the U-Net", guided_call),
        ("decoding the latent", lambda: vae.decode(x)),
    ):
        before = time.perf_counter()
        work()
        seconds = time.perf_counter() - before
        print(f"{what}: {seconds:.1f} s, peak {peak() - start:.2f} GB beside the weights")


if __name__ == "__main__":
    main(*sys.argv[1:])
