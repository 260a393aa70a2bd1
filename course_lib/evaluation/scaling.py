"""How the loss falls with the size of a network and the data it has seen: a fit with its spread."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, nnls

from course_lib.common.checks import require


@dataclass(frozen=True)
class ScalingLaw:
    """loss = floor + a · size^-size_exponent + b · samples^-samples_exponent.

    Hoffmann et al. 2022, eq. 2; the floor is the part of the loss that no network can avoid.
    """

    floor: float
    a: float
    b: float
    size_exponent: float
    samples_exponent: float

    def loss(self, size: float, samples: float) -> float:
        """The loss that the law predicts."""
        by_size = self.a * size**-self.size_exponent
        return self.floor + by_size + self.b * samples**-self.samples_exponent


def fit(sizes: Sequence[float], samples: Sequence[float], losses: Sequence[float]) -> ScalingLaw:
    """The law with the smallest squared error in the loss.

    For given exponents the law is linear in floor, a and b, none of which may be negative, so only
    the two exponents are searched, in [0.02, 2].

    >>> grid = [(n, d) for n in (1e5, 1e6, 1e7) for d in (1e3, 1e4, 1e5)]
    >>> law = ScalingLaw(0.5, 20.0, 10.0, 0.3, 0.4)
    >>> found = fit(*zip(*grid), [law.loss(n, d) for n, d in grid])
    >>> round(found.size_exponent, 2), round(found.samples_exponent, 2)
    (0.3, 0.4)
    """
    n, d, y = (np.asarray(each, dtype=float) for each in (sizes, samples, losses))
    require(
        n.shape == d.shape == y.shape and n.ndim == 1,
        "losses",
        f"{len(n)}, one for each size and number of samples",
        len(y),
    )
    enough = len({*n.tolist()}) > 2 and len({*d.tolist()}) > 2
    require(enough, "sizes, samples", "three or more different ones of each", (sizes, samples))
    middle_n, middle_d = np.exp(np.log(n).mean()), np.exp(np.log(d).mean())

    def linear(exponents):
        powers = (n / middle_n) ** -exponents[0], (d / middle_d) ** -exponents[1]
        return nnls(np.stack([np.ones_like(y), *powers], 1), y)  # coefficients, residual

    starts = [(p, q) for p in (0.1, 0.5, 1.0) for q in (0.1, 0.5, 1.0)]
    start = min(starts, key=lambda exponents: linear(exponents)[1])
    how = dict(method="Nelder-Mead", bounds=[(0.02, 2.0)] * 2, options=dict(xatol=1e-5, fatol=1e-9))
    p, q = minimize(lambda exponents: linear(exponents)[1], start, **how).x.tolist()
    floor, a, b = linear((p, q))[0].tolist()
    return ScalingLaw(floor, a * middle_n**p, b * middle_d**q, p, q)


def bootstrap(
    runs: Sequence[tuple[float, Sequence[float], Sequence[float]]], count: int = 200, seed: int = 0
) -> list[ScalingLaw]:
    """`count` fits, each to as many runs as there are, drawn with replacement (Efron 1979).

    runs: (size, samples, losses), the last two of equal length. Whole runs are drawn, because the
    losses along one training aren't independent. Draws with fewer than three sizes are repeated.
    """
    require(len({size for size, _, _ in runs}) > 2, "runs", "three or more different sizes", runs)
    rng, laws = np.random.default_rng(seed), []
    while len(laws) < count:
        drawn = [runs[i] for i in rng.integers(len(runs), size=len(runs))]
        if len({size for size, _, _ in drawn}) > 2:
            laws.append(fit(*columns(drawn)))
    return laws


def columns(runs) -> tuple[list[float], list[float], list[float]]:
    """The sizes, samples and losses of all runs, point by point."""
    points = [
        (size, sample, loss)
        for size, samples, losses in runs
        for sample, loss in zip(samples, losses, strict=True)
    ]
    sizes, samples, losses = zip(*points, strict=True)
    return list(sizes), list(samples), list(losses)
