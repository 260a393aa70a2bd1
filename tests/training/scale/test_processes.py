"""Several processes train like one: the same curve, one log, one state, and all stop together."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from course_lib.training.scale.engine import gradients_in_bf16
from course_lib.training.scale.state import read_state

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
SCRIPT = Path(__file__).with_name("together.py")
ROUNDING = 1e-6  # relative: float32 sums of two batches' gradients in another order


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("together", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(folder, *arguments, script=SCRIPT, processes=2, **environment):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, f"--nproc-per-node={processes}", script, folder, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)


def losses(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, len(lines) + 1))
    return torch.tensor([json.loads(line)["loss"] for line in lines])


@pytest.fixture(scope="module")
def alone(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    list(script.begin(folder))
    return folder


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    out = launch(folder)
    assert out.returncode == 0, out.stderr
    assert sorted(out.stdout.splitlines()) == [
        "process 0 is main: True",
        "process 1 is main: False",
    ]
    return folder


def same(one, other):
    torch.testing.assert_close(losses(one), losses(other), rtol=ROUNDING, atol=0)
    ours, theirs = (read_state(folder / "state.safetensors")[0] for folder in (one, other))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_two_processes_are_one_training(alone, together):
    same(together, alone)
    assert sorted(path.name for path in together.iterdir()) == ["log.jsonl", "state.safetensors"]


@pytest.mark.skipif(not gradients_in_bf16("bf16"), reason="this torch can't")
def test_gradients_of_a_bf16_training_travel_in_bf16(script, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    list(script.begin(alone, precision="bf16"))
    out = launch(together, PRECISION="bf16")
    assert out.returncode == 0, out.stderr
    apart = (losses(together) / losses(alone) - 1).abs()
    # twelve steps of at most lr = 0.01, each a bf16 rounding (2**-8) or two off its direction
    assert apart.max() < 12 * 0.01 * 2 * 2**-8
    assert apart.max() > 10 * ROUNDING  # but not as float32 would have carried them


def test_gradients_stay_whole_where_torch_cannot_halve_them(monkeypatch):
    assert not gradients_in_bf16("no")
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)  # torch for CPUs
    assert not gradients_in_bf16("bf16")


@pytest.mark.parametrize("first, then", [(1, 2), (2, 1)])
def test_another_number_of_processes_goes_on(script, alone, tmp_path, first, then):
    for processes, stop in ((first, 8), (then, 12)):
        out = launch(tmp_path, stop, processes=processes)
        assert out.returncode == 0, out.stderr
    same(tmp_path, alone)


@pytest.mark.parametrize("dies", ["0", "1"])
def test_when_one_dies_all_end_and_the_last_state_stays(script, alone, tmp_path, dies):
    out = launch(tmp_path, DIES=dies)
    assert out.returncode != 0 and "exitcode  : 9" in out.stderr
    running = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    assert not any(str(tmp_path) in command for command in running)
    run = script.begin(tmp_path)
    assert run.done == 4
    list(run)
    same(tmp_path, alone)


def test_batches_that_cannot_be_shared_are_refused(tmp_path):
    out = launch(tmp_path, processes=3)
    assert out.returncode != 0
    assert "3 processes can't share a step of accumulate=2 batches equally" in out.stderr
