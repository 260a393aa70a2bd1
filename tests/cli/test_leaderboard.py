"""course leaderboard: its rows, and one line for whatever can't be measured."""

import contextlib
import io

import pytest
import torch

from course_lib.cli import leaderboard
from course_lib.common import paths
from course_lib.common.checkpoints import load_checkpoint, save_checkpoint
from course_lib.evaluation import prompts
from course_lib.experiments import few_steps
from course_lib.experiments.study import Outcome, Study
from course_lib.models import TextUNet, UNet


@pytest.fixture(autouse=True)
def nothing_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RECORDED", tmp_path / "recorded")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """TextUNets for the shipped latents, with 8 channels."""
    folder = tmp_path_factory.mktemp("tiny")
    unet = dict(in_channels=12, channels=8, multipliers=(1,), attention=(True,), context_dim=8)
    text = load_checkpoint(TextUNet, "scenes-latent").kwargs["text"] | dict(dim=8, layers=1)
    for name, interval in (("mine", True), ("plain", False)):
        model = TextUNet(unet | dict(interval=interval), text)
        save_checkpoint(folder / f"{name}.safetensors", model, cpu_minutes=3.2)
    save_checkpoint(
        folder / "other.safetensors", UNet(channels=8, multipliers=(1,), attention=(False,))
    )
    return folder


@pytest.fixture
def oracle(monkeypatch):
    """Judges that a picture is right if its seed is below the number of steps."""
    calls = []

    def right(draw, count):
        images = draw(["a red circle"], [0])
        assert images.shape == (1, 3, 64, 64)
        calls.append(draw.keywords)
        return (torch.arange(count) < draw.keywords["steps"]).expand(6, count)

    for module in (prompts, few_steps):
        monkeypatch.setattr(module, "right", right)
    return calls


def record(verdicts, **variants):
    """The results of the study: the teacher's verdicts and a share at 4 steps for each variant."""

    def run(variant, seed):
        if variant == "teacher":
            return Outcome({"steps": 1}, {}, {"right": verdicts})
        shares = {f"right at {steps}": variants[variant] - 0.1 * (4 - steps) for steps in (1, 2, 4)}
        spread = {"difference at 4": -0.05, "low at 4": -0.07, "high at 4": -0.03}
        return Outcome({"steps": 1, "parameters": 1234}, {"cpu_minutes": 10.0} | shares | spread)

    with contextlib.redirect_stdout(io.StringIO()):
        Study("few_steps", ["teacher", *variants], (0,), run).main([])


def test_the_recorded_rows_are_sorted_by_their_share_at_4_steps(course):
    paths.RECORDED.mkdir()
    record([1] * 6, shortcut=0.8, consistency=0.9)
    out = course("leaderboard", "few-steps").out.splitlines()
    assert out[0] == "| " + " | ".join(leaderboard.COLUMNS) + " |"
    assert out[2] == "| consistency | 1,234 | 60.0% | 70.0% | 90.0% | -5.0 (-7.0 to -3.0) | 10 |"
    assert out[3].startswith("| shortcut | 1,234 | 50.0%") and len(out) == 4


def test_ones_own_row_is_paired_with_the_teachers_verdicts(course, tiny, oracle):
    paths.RECORDED.mkdir()
    record([1, 1, 1, 1, 1, 0, 0, 0] * 6)  # 5 of 8 right; the tiny model: 4 of 8
    result = course(
        "leaderboard", "few-steps", tiny / "mine.safetensors", "--count", 8, "--device", "cpu"
    )
    assert result.status == 0, result.err
    cells = [cell.strip() for cell in result.out.splitlines()[-1].strip("|").split("|")]
    parameters = load_checkpoint(TextUNet, tiny / "mine.safetensors").card["parameters"]
    assert cells[:5] == ["mine", f"{parameters:,}", "12.5%", "25.0%", "50.0%"]
    half = 1.96 * (6 * (1 - 1 / 8) / 47) ** 0.5 / 48**0.5  # 6 of 48 pairs differ, by -1
    assert cells[5] == f"-12.5 ({-12.5 - 100 * half:+.1f} to {-12.5 + 100 * half:+.1f})"
    assert cells[6] == "3"
    assert {call["sampler"].__name__ for call in oracle} == {"flow_map"}


def test_without_a_recorded_teacher_there_are_shares_and_no_difference(course, tiny, oracle):
    result = course(
        "leaderboard", "few-steps", tiny / "plain.safetensors", "--count", 4, "--device", "cpu"
    )
    assert result.out.splitlines()[-1].endswith("| 25.0% | 50.0% | 100.0% | not recorded | 3 |")
    assert {call["sampler"].__name__ for call in oracle} == {"ddim"}
    assert len(result.out.splitlines()) == 3


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["few-step"], "unknown leaderboard 'few-step'; did you mean 'few-steps'?"),
        (["few-steps", "nowhere.safetensors"], "there is no checkpoint nowhere.safetensors"),
        (["few-steps", "other"], "holds a UNet, not a TextUNet"),
        (["few-steps", "mine", "--count", "0"], "--count must be at least 1, got 0"),
        (["few-steps", "mine", "--sampler", "flowmap"], "did you mean 'flow_map'?"),
        (["few-steps", "plain", "--sampler", "flow_map"], "has none: use --sampler ddim"),
    ],
)
def test_refusals_are_one_line(course, tiny, arguments, line):
    board, *more = arguments
    if more and (path := tiny / f"{more[0]}.safetensors").exists():
        more[0] = path
    result = course("leaderboard", board, *more, "--device", "cpu")
    assert result.status in (1, 2) and line in result.err and len(result.err.splitlines()) == 1
    assert result.out == ""
