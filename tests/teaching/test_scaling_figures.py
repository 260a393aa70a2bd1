"""Tables and figures of chapter 14's scaling, from made-up runs that obey a known law."""

import numpy as np
import pytest

from course_lib.evaluation.scaling import ScalingLaw, columns, fit
from course_lib.teaching.results import Result
from course_lib.teaching.scaling_figures import (
    acceptable,
    by_size,
    compute_exponent,
    equal_minutes_figure,
    equal_minutes_table,
    law_figure,
    law_table,
    misfits,
    of,
)

LAW = ScalingLaw(0.2, 15.0, 3.0, 0.4, 0.3)
COUNTS = {"small": 3e5, "medium": 1e6, "large": 3e6}
GRID = np.linspace(0.05, 1.0, 20)


def made_up(network, size, seed, noise=0.002):
    parameters = COUNTS[size] * (2 if network == "DiT" else 1)
    samples = [2000 * 2**k for k in range(5)]
    wobble = noise * np.random.default_rng([len(network), len(size), seed]).standard_normal(5)
    loss = [LAW.loss(parameters, d) + w for d, w in zip(samples, wobble, strict=True)]
    curve = {"step": samples, "cpu_seconds": [15.0 * 2**k for k in range(5)], "loss": loss}
    curve |= {"samples": samples, "flops": [6 * parameters * 64 * d for d in samples]}
    settings = {"steps": 32000, "parameters": int(parameters)}
    variant = f"{network}, {size}"
    return Result("scaling", variant, seed, "", None, settings, {"loss": loss[-1]}, curve, [])


def runs(seeds, **how):
    return [made_up(n, s, seed, **how) for n in ("DiT", "U-Net") for s in COUNTS for seed in seeds]


def test_runs_are_in_order_and_the_table_says_what_each_cost():
    assert list(by_size(runs([0]))) == [f"{n}, {s}" for n in ("U-Net", "DiT") for s in COUNTS]
    lines = equal_minutes_table(runs([0, 1])).splitlines()
    assert len(lines) == 7 and "300,000" in lines[1] and lines[1].count("0.") == 3
    assert f"{6 * 3e5 * 64 / 1e9:.2f}" in lines[1]


def test_without_noise_the_region_closes_around_the_true_exponents():
    some = of(runs([0], noise=0.0), "U-Net")
    grid = np.array([0.3, 0.4, 0.5])
    errors = misfits(some, grid)
    assert np.unravel_index(errors.argmin(), errors.shape) == (1, 0)
    assert acceptable(errors, 15).sum() == 1
    law = fit(*columns(some))
    assert compute_exponent(law) == pytest.approx(0.4 * 0.3 / 0.7, rel=0.01)


def test_the_minimum_over_sizes_falls_with_the_compute_exponent():
    sizes = np.logspace(3, 9, 4001)
    best = [min(LAW.loss(n, c / n) for n in sizes) - LAW.floor for c in (1e10, 1e13)]
    slope = np.log(best[0] / best[1]) / np.log(1e3)
    assert slope == pytest.approx(compute_exponent(LAW), rel=1e-3)


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_one_seed_is_enough_and_a_second_adds_the_spread_over_runs(seeds):
    some = runs(seeds)
    text = law_table(some, GRID)
    assert text.count("fits as well") == 4
    assert text.count("over runs") == (4 if len(seeds) > 1 else 0)
    left, right = law_figure(some, GRID).axes
    assert len(left.get_lines()) == 3 and len(right.get_legend().get_texts()) == 2
    left, right = equal_minutes_figure(some).axes
    assert len(right.get_lines()) == 6 * len(seeds) and len(left.get_legend().get_texts()) == 6
