"""Chapter 15a's studies: the baselines, the mistakes, and that what is recorded is complete."""

import random

import pytest
import torch

from course_lib.datasets.molecules import LENGTH, MASK, molecules
from course_lib.evaluation.molecules import judge, quality
from course_lib.experiments import molecule_sampling
from course_lib.experiments.molecule_sampling import MISTAKES, ORDERS, SCALES, STEPS, mistaken
from course_lib.experiments.molecules import (
    NONSENSE,
    SAMPLES,
    STUDY,
    VARIANTS,
    held_out,
    with_a_carbon,
)
from course_lib.recipes import RECIPES
from course_lib.teaching.molecules import MASKED, drawings, recorded
from course_lib.teaching.results import by_variant, load_results


def test_one_more_carbon_is_one_more_carbon():
    chance = random.Random(0)
    verdict = with_a_carbon("c1ccccc1O", chance)
    assert not verdict.problem
    assert verdict.weight == pytest.approx(judge("c1ccccc1O").weight + 14.03, abs=2.1)  # CH2, or C


def test_held_out_molecules_are_real_and_new():
    drawn = held_out(1)
    found = quality(drawn.verdicts, set(molecules("train")[0]))
    assert len(drawn.verdicts) == SAMPLES and found == {"valid": 1, "unique": 1, "novel": 1}
    assert drawn.verdicts[0] == judge(molecules("test")[0][SAMPLES])


def test_what_each_mistake_does():
    """On a network that finds all tokens equally likely, the second a little more so."""
    seen = []

    def network(x, timestep, labels):
        seen.append(x)
        logits = torch.zeros(*x.shape, MASK)
        logits[..., 1] = 0.1
        return logits

    labels = torch.zeros(50, dtype=torch.long)
    assert (mistaken(network, labels, "the likeliest token, always", 0) == 1).all()
    drawn = mistaken(network, labels, "visible tokens drawn again", 0)
    assert drawn.shape == (50, LENGTH) and (drawn < MASK).all()
    changed = [(a < MASK) & (a != b) for a, b in zip(seen[-4:], seen[-3:], strict=False)]
    assert any(each.any() for each in changed)


def test_everything_is_recorded_with_three_seeds():
    runs = by_variant(load_results("molecules"))
    assert set(runs) == set(VARIANTS)
    assert {tuple(run.seed for run in each) for each in runs.values()} == {STUDY.seeds}
    sampled = by_variant(load_results("molecule_sampling"))
    assert set(sampled) == set(molecule_sampling.VARIANTS)
    for each in sampled.values():
        assert tuple(run.seed for run in each) == STUDY.seeds
        for run in each:
            assert run.curve["scale"] == list(SCALES)
            assert all(0 <= share <= 1 for share in run.curve["valid"] + run.curve["hits"])
    wanted = {f"valid, {order}, {steps} steps" for order in ORDERS for steps in STEPS}
    wanted |= {f"{what}, {mistake}" for what in ("valid", "unique") for mistake in MISTAKES}
    assert all(run.metrics.keys() == wanted for run in sampled["masked diffusion"])


@pytest.mark.parametrize("variant", [*MASKED, "autoregressive"])
def test_the_recorded_trainings_are_those_of_the_present_recipes(variant):
    name = "molecules-masked" if variant in MASKED else "molecules-autoregressive"
    for run in by_variant(load_results("molecules"))[variant]:
        assert run.settings == {"steps": RECIPES[name].settings["steps"], "samples": SAMPLES}
        assert run.curve["step"][-1] == run.settings["steps"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_recorded_molecules_give_the_recorded_shares(variant):
    (first,) = [run for run in load_results("molecules", variant) if run.seed == 0]
    verdicts, training = recorded(variant), set(molecules("train")[0])
    assert len(verdicts) == SAMPLES
    for name, share in quality(verdicts, training).items():
        assert first.metrics[name] == pytest.approx(share, abs=1e-4)
    for verdict in verdicts[::50]:
        now = judge(verdict.smiles)
        assert (now.smiles, now.problem) == (verdict.smiles, verdict.problem)
        assert now.logp == pytest.approx(verdict.logp, abs=1e-3)


def test_the_nonsense_is_valid():
    verdicts = recorded("valid nonsense")
    assert [v.problem for v in verdicts] == [""] * len(NONSENSE)
    assert [v.smiles for v in verdicts] == [judge(smiles).smiles for smiles in NONSENSE]
    assert list(drawings("valid nonsense")) == [v.smiles for v in verdicts]
