"""Denoising diffusion probabilistic models (Ho et al. 2020), written as in the paper."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, pad

from course_lib.common.checks import WHOLE, like, one_or_each, require
from course_lib.common.registry import choose
from course_lib.diffusion.noise import noise_source
from course_lib.diffusion.process import Diffusion, Network, broadcast, for_network
from course_lib.diffusion.schedules import linear


class DDPM(nn.Module):
    """A network that predicts the noise, and the tables of the paper's section 4.

    network: eps = network(x, t, context), t (B,)
    Here t is the paper's t - 1: a 0-based index into `betas`, `alphas`, `alpha_bars`, each (T,).
    `process` is the same model as a `Diffusion`, where index i is the time (i + 1) / T.

    >>> ddpm = DDPM(lambda x, t, context: x, timesteps=10)
    >>> loss, x0 = ddpm(torch.zeros(4, 2)), ddpm.sample((4, 2))
    """

    def __init__(
        self,
        network: Network,
        timesteps: int = 1000,
        beta_start: float = 1e-4,
        beta_end: float = 0.02,
    ):
        super().__init__()
        self.network = network
        self.process = Diffusion(linear(timesteps, beta_start, beta_end), "eps")
        table = self.process.schedule
        before = pad(table.alpha_bars, (1, 0), value=1.0)[:-1]  # alpha_bar_{t-1}
        tables = {
            "betas": table.betas,
            "alphas": table.alphas,
            "alpha_bars": table.alpha_bars,
            "noise_vars": 1 - table.alpha_bars,  # computed in float32, it would be off by 3e-4
            "mean_x0": before.sqrt() * table.betas / (1 - table.alpha_bars),  # eq. 7
            "mean_xt": table.alphas.sqrt() * (1 - before) / (1 - table.alpha_bars),
            "beta_tildes": (1 - before) / (1 - table.alpha_bars) * table.betas,
        }
        for name, values in tables.items():  # buffers, so that they move with the module
            self.register_buffer(name, values.float())

    def forward(
        self,
        x: Tensor,
        t: Tensor | None = None,
        noise: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """The loss of one training step (algorithm 1): a scalar.

        x: clean data (B, ...) in [-1, 1]; t: indices (B,), uniform if None; noise like x, or None
        """
        require(x.is_floating_point() and len(x), "x", "a batch of floating-point data", x)
        T = len(self.betas)
        t = torch.randint(T, (len(x),), device=x.device) if t is None else t
        noise = torch.randn_like(x) if noise is None else noise
        ok = t.dtype in WHOLE and t.device == x.device and one_or_each(t, x)
        require(ok and ((t >= 0) & (t < T)).all(), "t", f"indices < {T} on {x.device}, (B,)", t)
        require(like(noise, x), "noise", f"noise {tuple(x.shape)} on {x.device}, as x", noise)
        eps = self.network(self.add_noise(x, t, noise), for_network(t, x), context)
        require(like(eps, x), "prediction", f"the shape {tuple(x.shape)}", eps)
        return mse_loss(eps, noise)

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t in one jump from x_0 (eq. 4)."""
        alpha_bar, noise_var = self.at(t, x0, self.alpha_bars, self.noise_vars)
        return alpha_bar.sqrt() * x0 + noise_var.sqrt() * noise

    def posterior(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, ...) and variance (B, 1, ...) of q(x_{t-1} | x_t, x_0) (eqs. 6 and 7)."""
        mean_x0, mean_xt, variance = self.at(t, x0, self.mean_x0, self.mean_xt, self.beta_tildes)
        return mean_x0 * x0 + mean_xt * xt, variance

    def sample(self, shape: Sequence[int], device=None, **kwargs) -> Tensor:
        """New data of that shape, (B, ...): x_0, the end of the `trajectory`."""
        for x in self.trajectory(shape, device, **kwargs):
            x0 = x
        return x0

    @torch.no_grad()
    def trajectory(
        self,
        shape: Sequence[int],
        device: torch.device | str | None = None,
        context: Tensor | None = None,
        variance: str = "small",
        generators: Sequence[torch.Generator] | None = None,
    ) -> Iterator[Tensor]:
        """Yields x_T, x_{T-1}, ..., x_0 (algorithm 2).

        variance: "small" is beta_tildes, which is exact if the data is a single point; "large" is
        betas, which is exact for data ~ N(0, 1) (section 3.2). generators: one for each sample.
        """
        options = {"small": self.beta_tildes, "large": self.betas}
        variances = choose("variance", variance, options)
        noise = noise_source(self.betas.new_empty(shape, device=device), generators)
        x = noise()
        yield x
        for i in reversed(range(len(self.betas))):
            eps = self.network(x, for_network(i, x), context)
            x = (x - self.betas[i] / self.noise_vars[i].sqrt() * eps) / self.alphas[i].sqrt()
            if i > 0:
                x = x + variances[i].sqrt() * noise()
            yield x

    def at(self, t: Tensor, x: Tensor, *tables: Tensor) -> list[Tensor]:
        """Each table's entries at t, shaped to multiply x."""
        return [broadcast(table[t], x) for table in tables]
