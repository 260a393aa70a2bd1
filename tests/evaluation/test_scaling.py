"""The scaling law's fit: finds a known law again, and its bootstrap covers the truth."""

import numpy as np
import pytest

from course_lib.evaluation.scaling import ScalingLaw, bootstrap, columns, fit

LAW = ScalingLaw(floor=0.6, a=12.0, b=9.0, size_exponent=0.25, samples_exponent=0.45)
SIZES = (3e5, 1e6, 3e6, 1e7)
SAMPLES = (2e3, 4e3, 8e3, 16e3, 32e3)


def runs(noise, seed=0):
    """Two trainings of each size; a whole run is better or worse, as with seeds."""
    rng = np.random.default_rng(seed)
    return [
        (n, SAMPLES, [LAW.loss(n, d) * luck for d in SAMPLES])
        for n in SIZES
        for luck in 1 + noise * rng.standard_normal(2)
    ]


def test_a_law_without_noise_is_found():
    found = fit(*columns(runs(0.0)))
    assert found.size_exponent == pytest.approx(0.25, abs=0.005)
    assert found.samples_exponent == pytest.approx(0.45, abs=0.005)
    assert found.floor == pytest.approx(0.6, abs=0.01)
    assert found.loss(2e6, 5e3) == pytest.approx(LAW.loss(2e6, 5e3), rel=1e-4)


def test_the_bootstrap_covers_the_truth_and_widens_with_the_noise():
    spreads = []
    for noise in (0.0005, 0.005):
        found = [law.samples_exponent for law in bootstrap(runs(noise), count=25)]
        low, high = np.quantile(found, [0.025, 0.975])
        assert low - 0.01 < 0.45 < high + 0.01
        spreads.append(high - low)
    assert spreads[0] < spreads[1]


def test_too_few_sizes_are_refused():
    two = [run for run in runs(0.0) if run[0] < 2e6]
    with pytest.raises(ValueError, match="three or more different"):
        fit(*columns(two))
    with pytest.raises(ValueError, match="runs: expected three or more different sizes"):
        bootstrap(two)
    with pytest.raises(ValueError, match="losses: expected 3"):
        fit([1, 2, 3], [1, 2, 3], [1, 2])
