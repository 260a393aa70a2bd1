"""Sharded training: the numbers of a single process, but each process holds only its part."""

import json
import shutil
from itertools import islice

import pytest
import torch

from course_lib.common.checkpoints import load_checkpoint
from course_lib.models import SD15_UNET, UNet
from course_lib.training.scale.recompute import BLOCKS
from course_lib.training.scale.state import read_state
from tests.training.scale import sharded
from tests.training.scale.test_processes import launch, losses

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="no torch.distributed")
ROUNDING = 1e-6  # relative: processes exchange their losses in float32


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process, all 6 steps; `half_way` is its folder after 3 of them."""
    folder = tmp_path_factory.mktemp("alone")
    run = sharded.begin(folder)
    list(islice(run, 3))
    shutil.copytree(folder, folder / "half_way")
    list(run)
    return folder


@pytest.fixture(scope="module")
def first_half(tmp_path_factory):
    """Two processes, the first 3 steps: the folder, and what each process printed."""
    return in_shards(tmp_path_factory.mktemp("first"), stop=3)


@pytest.fixture(scope="module")
def second_half(alone, tmp_path_factory):
    """Two processes, the last 3 steps, resuming a run of one process."""
    folder = tmp_path_factory.mktemp("second")
    shutil.copytree(alone / "half_way", folder, dirs_exist_ok=True)
    return in_shards(folder, stop=6)


def in_shards(folder, stop):
    out = launch(folder, stop, script=sharded.__file__)
    assert out.returncode == 0, out.stderr
    return folder, [json.loads(line) for line in out.stdout.splitlines()]


def same(one, other):
    torch.testing.assert_close(losses(one), losses(other), rtol=ROUNDING, atol=0)
    ours, theirs = (read_state(folder / "state.safetensors")[0] for folder in (one, other))
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        bound = 1e-12 * float(tensor.abs().max())  # float64 sums in another order: 5e-15 seen
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=bound, msg=name)


def test_shards_are_one_training(alone, first_half):
    """Clipped, several batches in each process, with recomputed blocks."""
    same(first_half[0], alone / "half_way")


def test_one_process_goes_on_from_two(alone, first_half, tmp_path):
    shutil.copytree(first_half[0], tmp_path, dirs_exist_ok=True)
    list(sharded.begin(tmp_path))
    same(tmp_path, alone)


def test_two_processes_go_on_from_one(alone, second_half):
    same(second_half[0], alone)


def test_the_published_average_is_whole(second_half):
    folder, _ = second_half
    published = load_checkpoint(UNet, folder / "published.safetensors").state_dict()
    kept, _ = read_state(folder / "state.safetensors")
    assert all(
        torch.equal(tensor, kept[f"ema.{name}"].float()) for name, tensor in published.items()
    )


def test_each_process_holds_half(first_half, second_half):
    model = sharded.begin().model
    whole, half = parameters(model), part(model, 2)
    assert half < 0.501 * whole  # of 3 rows, the first process has 2
    for one, other in (first_half[1], second_half[1]):
        for kind in ("weights", "gradients", "moments", "average"):
            assert {one[kind], other[kind]} <= {half, whole - half}, kind  # or padded to half


def test_bf16_in_shards(first_half):
    expected = pytest.approx(sharded.in_bf16(), rel=1e-4)  # weights 1e-7 apart may round apart
    assert all(said["bf16"] == expected for said in first_half[1])


def test_what_stable_diffusion_leaves_on_each_of_8_gpus():
    with torch.device("meta"):
        unet = UNet(**SD15_UNET)
    assert parameters(unet) == 859_520_964
    assert 20 * parameters(unet) == pytest.approx(17.2e9, rel=1e-3)
    assert 20 * part(unet, 8) == pytest.approx(2.15e9, rel=1e-3)
    assert 2 * 4 * parameters(unet) == pytest.approx(6.9e9, rel=5e-3)
    blocks = [parameters(module) for module in unet.modules() if isinstance(module, BLOCKS)]
    assert 4 * max(blocks) < 0.2e9


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def part(model, processes):
    """The first process's numbers: its rows, rounded up, of each parameter."""
    return sum(-(-len(p) // processes) * p[0].numel() for p in model.parameters())
