"""Metrics: intervals against their definitions, and the form that cards store."""

import json

import pytest
import torch

from course_lib.evaluation.metrics import (
    Metric,
    clustered,
    find,
    from_card,
    mean,
    mean_share,
    share,
    to_card,
    wilson,
)


def test_wilson_is_the_root_of_the_normal_approximation():
    low, high = wilson(0.9, 64, z=2.0)
    for true in (low, high):  # where |share - true| is z standard errors of the true share
        assert abs(0.9 - true) == pytest.approx(2 * (true * (1 - true) / 64) ** 0.5)


def test_wilson_covers_the_truth_as_often_as_it_says():
    """Exactly, over all outcomes of 50 trials: 95 % on average, with the dips of Brown 2001."""
    n, truth = 50, torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    hits = torch.arange(n + 1)
    chance = torch.distributions.Binomial(n, truth[:, None]).log_prob(hits.double()).exp()
    edges = torch.tensor([wilson(k / n, n) for k in hits.tolist()], dtype=torch.float64)
    covered = (edges[:, 0] <= truth[:, None]) & (truth[:, None] <= edges[:, 1])
    coverage = (chance * covered).sum(1)
    assert coverage.mean() == pytest.approx(0.95, abs=0.01) and coverage.min() > 0.91


def test_a_means_interval_is_that_of_the_central_limit_theorem():
    metric = mean("psnr", [1.0, 2.0, 3.0, 6.0], kind="pair")
    assert (metric.value, metric.count, metric.kind) == (3.0, 4, "pair")
    half = 1.96 * (14 / 3) ** 0.5 / 2  # squared deviations 4, 1, 0, 9
    assert metric.interval == pytest.approx((3 - half, 3 + half))


def test_a_clustered_interval_counts_clusters_and_not_values():
    values = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = clustered("error", values, range(40))
    assert alone.value == mean("error", values).value
    assert alone.interval == pytest.approx(mean("error", values).interval)
    # each value three times over says no more about the mean
    often = clustered("error", values.repeat(3), list(range(40)) * 3, split="train")
    assert often.interval == pytest.approx(alone.interval)
    assert (often.count, often.split) == (120, "train")


def test_a_clustered_interval_covers_the_truth_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    names, inside = [n // 5 for n in range(300)], 0
    for _ in range(400):
        common = torch.randn(60, generator=generator).repeat_interleave(5)
        low, high = clustered("x", common + torch.randn(300, generator=generator), names).interval
        inside += low <= 0 <= high
    assert 0.91 < inside / 400 < 0.98


def test_a_card_keeps_every_metric():
    right = share("right", [True, False], kind="pair", split="new pairs")
    metrics = [right, Metric("loss", 0.5, 9)]
    card = json.loads(json.dumps({"metrics": to_card(metrics)}))
    assert from_card(card) == metrics and from_card({}) == []
    assert card["metrics"][1] == {"property": "loss", "value": 0.5, "count": 9}


def test_a_card_in_another_form_is_refused():
    for wrong in ({"loss": 0.5}, [{"value": 1}], [3]):
        with pytest.raises(ValueError, match="metrics are not a list of measurements"):
            from_card({"metrics": wrong})


def test_metrics_are_found_by_meaning():
    metrics = [share("right", [True], kind=kind) for kind in ("single", "pair")]
    assert find(metrics, "right", kind="pair") is metrics[1]
    assert mean_share([*metrics, share("right", [False])], "right") == pytest.approx(2 / 3)
    assert [metric.label for metric in metrics] == ["single: right", "pair: right"]
    with pytest.raises(ValueError, match="no metric 'shape'"):
        find(metrics, "shape")
