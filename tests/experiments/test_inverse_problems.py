"""The study of reconstructions: its measures, and that the shipped results are whole."""

import pytest
import torch

from course_lib.experiments import inverse_problems
from course_lib.experiments.inverse_problems import best_strength, operator_of, psnr, ranks
from course_lib.pipelines import Operator
from course_lib.teaching.results import by_variant, load_results


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_psnr_of_a_known_error():
    truth = torch.zeros(2, 1, 4, 4)
    off = truth + torch.tensor([0.2, 0.02]).view(2, 1, 1, 1)
    assert psnr(off, truth).tolist() == pytest.approx([20, 40], abs=1e-4)


def test_ranks_count_the_samples_below():
    samples = torch.tensor([[[1.0, 5.0, 0.0]], [[2.0, 6.0, 0.0]], [[3.0, 7.0, 0.0]]])
    truth, where = torch.tensor([[2.5, 9.0, 5.0]]), torch.tensor([[True, True, False]])
    assert ranks(samples, truth, where) == [0, 0, 1, 1]


@pytest.mark.parametrize("variant", inverse_problems.VARIANTS)
def test_a_variant_has_as_many_measurements_as_its_name_says(variant):
    times = int(variant.split()[1])
    assert abs(operator_of(variant, generator()).count - 1024 / times) <= 1


def test_the_best_strength_is_between_the_ends():
    """With every pixel measured, a little noise needs some smoothing, but not the strongest."""
    whole = Operator(torch.eye(1024), (1, 32, 32))
    assert 0 < best_strength(whole, generator()) < inverse_problems.STRENGTHS[-1]


def test_every_variant_is_recorded_with_the_same_seeds_and_whole():
    variants = by_variant(load_results("inverse_problems"))
    assert set(variants) == set(inverse_problems.VARIANTS)
    for run in load_results("inverse_problems"):
        assert run.seed in inverse_problems.STUDY.seeds
        assert len(run.curve["lesion"]) == run.settings["phantoms"] == 2 * inverse_problems.PAIRS
        assert {len(column) for column in run.curve.values()} == {2 * inverse_problems.PAIRS}
        count = inverse_problems.SAMPLES["either"][1]
        pixels = [run.metrics[f"rank {k}"] for k in range(count + 1)]
        assert sum(pixels) > 0.2 * 1024 * run.settings["phantoms"]  # the heads
    assert {len(runs) for runs in variants.values()} == {len(inverse_problems.STUDY.seeds)}
