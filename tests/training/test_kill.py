"""Trainings killed at the worst moments, or stopped by a full disk, resume with equal numbers."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_lib.training.scale.state import read_state

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL and fork are POSIX")
MOMENTS = {  # when the process dies -> the step from which it must resume
    "mid_step": 4,
    "mid_save": 4,
    "before_the_exchange": 4,
    "after_the_exchange": 8,
    "disk_full": 4,
}
AT_RANDOM = [f"random-{seed}" for seed in range(20)]
VICTIM = Path(__file__).with_name("victim.py")


@pytest.fixture(scope="module")
def victim():
    spec = importlib.util.spec_from_file_location("victim", VICTIM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def graveyard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    moments = [*MOMENTS, *AT_RANDOM]
    command = [sys.executable, VICTIM, folder, *moments]
    out = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert dict(line.split() for line in out.stdout.splitlines()) == dict.fromkeys(moments, "True")
    return folder


@pytest.fixture(scope="module")
def whole(victim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, [step.loss for step in victim.begin(folder)]


@pytest.mark.parametrize("moment", [*MOMENTS, *AT_RANDOM])
def test_it_goes_on_with_the_same_numbers(victim, graveyard, whole, moment):
    left = [path.name for path in (graveyard / moment).iterdir()]
    assert sum(name.endswith(".tmp") for name in left) <= 1, left  # the one being written
    run = victim.begin(graveyard / moment)
    assert run.done == MOMENTS[moment] if moment in MOMENTS else 0 <= run.done <= victim.STEPS
    list(run)
    ours, _ = read_state(graveyard / moment / "state.safetensors")
    theirs, _ = read_state(whole[0] / "state.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    log = (graveyard / moment / "log.jsonl").read_text()
    assert [json.loads(line)["loss"] for line in log.splitlines()] == whole[1]
    assert not list((graveyard / moment).glob("*.tmp"))


def test_what_a_full_disk_says(graveyard):
    said = (graveyard / "disk_full" / "error.txt").read_text()
    assert "could not write" in said and said.endswith("the old file is untouched")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_no_space_left(victim, tmp_path):
    run = victim.begin(tmp_path)
    for step in run:
        if step.index == 4:
            break
    # every write: ENOSPC
    (tmp_path / f"state.safetensors.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"could not write .*: No space left on device; the old"):
        list(run)
    assert victim.begin(tmp_path).done == 4
