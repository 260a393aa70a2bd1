"""The loop compared with a plain torch loop; resuming, seeds and refusals."""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib.common.devices import hardware, pick_device
from course_lib.training import learning_rate, loop
from course_lib.training.scale.engine import device_of_process
from course_lib.training.scale.state import read_state
from course_lib.training.seeding import seeded
from tests.training import flat

CPU = torch.device("cpu")
SETTINGS = dict(steps=12, warmup=4, lr=1e-2, ema=0.9, save_every=5, device="cpu")


def make_model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Dropout(0.1), nn.Linear(8, 4))


def noisy(model, x):  # draws noise and dropout: a resumed run must draw the same
    return (model(x + torch.randn_like(x)) - x).square().mean()


def batch(step):
    return torch.randn(8, 4) + step


def begin(folder=None, loss=noisy, model=None, **changes):
    return flat.begin(model or make_model(), loss, batch, folder, **SETTINGS | changes)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_is_adamw_on_clipped_gradients():
    reference = make_model()
    optimizer = torch.optim.AdamW(reference.parameters(), weight_decay=0.01, foreach=False)
    for step in range(12):
        with seeded(0, step, CPU):
            loss = noisy(reference, batch(step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimizer.param_groups[0]["lr"] = learning_rate(step, 12, 1e-2, 4)
        optimizer.step()
    run = begin(clip=0.5, weight_decay=0.01)
    *_, last = run
    assert last.loss == pytest.approx(loss.item(), rel=1e-5)
    for ours, theirs in zip(run.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)  # fused sums in float32


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("stop", [5, 7])  # right at a save, and two steps after one
def test_a_resumed_run_has_the_same_numbers(tmp_path, stop, precision, optimizer):
    settings = {"precision": precision, "optimizer": optimizer}
    whole = begin(tmp_path / "whole", **settings)
    losses = [step.loss for step in whole]
    for step in begin(tmp_path / "halves", **settings):
        if step.index == stop:
            break
    resumed = begin(tmp_path / "halves", **settings)
    assert resumed.done == 5
    assert [step.loss for step in resumed] == losses[5:]
    tensors, _ = read_state(tmp_path / "whole" / "state.safetensors")
    assert same(tensors, read_state(tmp_path / "halves" / "state.safetensors")[0])
    assert {k.split(".")[0] for k in tensors} == {"model", "ema", "optimizer"}


def test_the_log_has_every_step_once(tmp_path):
    for step in begin(tmp_path):
        if step.index == 8:
            break
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 9, "lo')  # killed while writing
    losses = {step.index: step.loss for step in begin(tmp_path)}
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert all(line["loss"] == losses[line["step"]] for line in lines[5:])


def test_pausing_in_memory_and_a_finished_run(tmp_path):
    run = begin(tmp_path)
    for step in run:
        if step.index == 3:
            break
    assert [step.index for step in run] == list(range(4, 13))  # the same object goes on
    again = begin(tmp_path)
    assert list(again) == [] and same(again.ema.state_dict(), run.ema.state_dict())
    assert [s.index for s in begin(tmp_path, resume=False)] == list(range(1, 13))


def test_accumulated_batches_equal_one_big_batch():
    def plain(model, x):
        return (model[3](model[0](x)) - x).square().mean()  # nothing drawn: all see the same

    big = [torch.randn(8, 4, dtype=torch.float64) + step for step in range(12)]
    runs = []
    for accumulate in (1, 4):
        model, size = make_model().double(), 8 // accumulate
        run = begin(loss=plain, model=model, accumulate=accumulate)
        run.batch = lambda i, k=accumulate, n=size: big[i // k][i % k * n :][:n]
        losses = torch.tensor([step.loss for step in run])
        runs.append((losses, torch.cat([p.flatten() for p in run.model.parameters()])))
    for one, four in zip(*runs, strict=True):
        torch.testing.assert_close(one, four, rtol=0, atol=1e-6)  # the losses are kept in float32


def test_draws_depend_on_seed_and_step_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    draws = {}
    for seed, step in [(0, 0), (0, 1), (1, 0), (2**32, 0), (0, 0)]:
        with seeded(seed, step, CPU):
            draws.setdefault((seed, step), []).append(torch.randn(4))
    assert torch.equal(*draws.pop((0, 0)))
    values = torch.stack([d[0] for d in draws.values()])
    assert len(values.unique()) == values.numel()
    assert torch.equal(before, torch.get_rng_state())  # the caller's state is untouched


def test_two_precisions_at_once():
    full, half = begin(), begin(precision="bf16")  # Accelerate keeps one precision per process
    pairs = [(a.loss, b.loss) for a, b in zip(full, half, strict=True)]
    assert [a for a, _ in pairs] == [step.loss for step in begin()]
    assert all(a != b for a, b in pairs)


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (8, 0.5), (10, (1 - 2**-0.5) / 2)],
)
def test_cosine_rates(step, rate):
    assert learning_rate(step, 12, 1.0, 4) == pytest.approx(rate)


def test_other_rates():
    assert learning_rate(8, 12, 2.0, 4, "linear") == pytest.approx(1.0)
    assert learning_rate(11, 12, 2.0, 4, "linear") == pytest.approx(0.25)
    assert learning_rate(12, 12, 2.0, 4) == pytest.approx(0.0)  # where the decay ends
    assert learning_rate(11, 12, 2.0, 0, "constant") == 2.0
    assert learning_rate(2, 3, 1.0, 10) == pytest.approx(0.3)  # a run shorter than its warm-up


def test_times_accumulate(tmp_path):
    for step in begin(tmp_path):
        if step.index == 5:
            break
    resumed = begin(tmp_path)
    assert resumed.seconds == pytest.approx(step.seconds)
    *_, last = resumed
    assert last.seconds > step.seconds and last.seconds_left == 0
    assert resumed.card["steps"] == 12 and resumed.card["settings"]["lr"] == 1e-2


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="needs Linux's /proc")
def test_a_resumed_run_has_let_go_of_its_state(tmp_path):
    list(begin(tmp_path))
    resumed = begin(tmp_path)  # Windows could not replace a file that is still mapped
    assert resumed.done == 12 and str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_a_finished_trainings_card_says_where_it_ran(tmp_path, monkeypatch):
    for step in begin(tmp_path):
        if step.index == 5:
            break
    there = hardware(CPU)
    monkeypatch.setattr(loop, "hardware", lambda device: "another machine")
    assert begin(tmp_path).card["hardware"] == "another machine"  # it goes on here
    monkeypatch.undo()
    list(begin(tmp_path))
    monkeypatch.setattr(loop, "hardware", lambda device: "another machine")
    assert begin(tmp_path).card["hardware"] == there  # nothing is left to do
    assert begin(tmp_path).card["processes"] == 1


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 0}, "steps must be a whole number, at least 1; got 0"),
        ({"steps": 2.5}, "steps must be a whole number, at least 1; got 2.5"),
        ({"save_every": True}, "save_every must be a whole number, at least 1; got True"),
        ({"accumulate": 0}, "accumulate must be a whole number, at least 1"),
        ({"warmup": -3}, "warmup must be a whole number, at least 0; got -3"),
        ({"seed": -1}, "seed must be a whole number, at least 0; got -1"),
        ({"clip": 0}, "clip must be a positive bound on the gradient's norm, not 0"),
        ({"clip": None}, "clip must be a positive bound on the gradient's norm, not None"),
        ({"betas": 0.9}, "betas must be two numbers, not 0.9"),
        ({"betas": (0.9,)}, r"betas must be two numbers, not \(0.9,\)"),
        ({"ema": 1.0}, "EMA's decay must be in"),
        ({"decay": "cosin"}, "did you mean 'cosine'"),
        ({"precision": "fp32"}, "unknown precision 'fp32'"),
        ({"precision": "fp16"}, "'fp16' needs a GPU"),
        ({"precision": "fp16", "optimizer": "muon"}, "'fp16' goes with 'adamw' only"),
        ({"shard": True}, "shard=True needs several processes: start them with torchrun"),
        ({"shard": True, "optimizer": "muon"}, "shard=True goes with neither 'muon'"),
        ({"shard": True, "precision": "fp16"}, "shard=True goes with neither .* nor 'fp16'"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"device": "gpu"}, "unknown device 'gpu'; known: auto, cuda, mps, cpu"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        begin(**changes)


def test_a_state_of_other_settings_or_another_model_is_refused(tmp_path):
    list(begin(tmp_path))
    with pytest.raises(ValueError, match=r"trained with lr=0.01, not 0.1: keep the settings"):
        begin(tmp_path, lr=0.1)
    with pytest.raises(ValueError, match="holds the state of another model"):
        begin(tmp_path, model=nn.Linear(4, 5))
    with pytest.raises(ValueError, match=r"trained with data=None, not holidays: keep the settin"):
        begin(tmp_path, data="holidays")


def test_nothing_else_in_the_folder_is_touched(tmp_path):
    for name in ("thesis.tmp", "state.safetensors.old"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "state.safetensors.123.tmp").write_text("half of it")
    list(begin(tmp_path))
    mine = {"thesis.tmp", "state.safetensors.old"}
    assert {path.name for path in tmp_path.iterdir()} == mine | {"log.jsonl", "state.safetensors"}


def test_a_fresh_start_leaves_nothing_to_go_back_to(tmp_path):
    list(begin(tmp_path))
    for step in begin(tmp_path, resume=False, seed=1):
        if step.index == 3:
            break  # before its first state
    resumed = begin(tmp_path, seed=1)
    assert resumed.done == 0 and (tmp_path / "log.jsonl").read_text() == ""


def test_of_two_trainings_in_one_folder_the_older_stops(tmp_path):
    older, losses = begin(tmp_path), []
    for step in older:
        losses.append(step.loss)
        if step.index == 7:
            break
    newer = begin(tmp_path)
    assert newer.done == 5 and newer.advance().loss == losses[5]
    with pytest.raises(RuntimeError, match=r"another training is writing into .*: this one stops"):
        older.advance()
    list(newer)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))


@pytest.mark.parametrize("old, new", [(b'"done": 12', b'"done": 10'), (b"seconds", b"sekonds")])
def test_the_checksum_covers_more_than_the_weights(tmp_path, old, new):
    list(begin(tmp_path))
    path = tmp_path / "state.safetensors"
    content = path.read_bytes().replace(old.replace(b'"', b'\\"'), new.replace(b'"', b'\\"'))
    assert content != path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged: its bytes do not match its checksum"):
        begin(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_state_is_refused(tmp_path, damage):
    list(begin(tmp_path))
    path = tmp_path / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"truncated": content[:-7], "flipped": content, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"state\.safetensors is .*delete it to train from the st"):
        begin(tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def explodes(model, x):
        return noisy(model, x) * (torch.inf if x.mean() > 6 else 1.0)

    with pytest.raises(RuntimeError, match=r"the loss is inf at step \d+: try a lower lr"):
        list(begin(tmp_path, loss=explodes))
    assert begin(tmp_path).done == 5  # the last good state is still there


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_when_one_was_asked_for():
    with pytest.raises(RuntimeError, match=r"device 'cuda' was requested, but torch .* finds none"):
        begin(device="cuda")


@pytest.mark.parametrize("count, there", [(1, "cuda:0$"), (2, "cuda:0 to cuda:1")])
def test_more_processes_or_gpus_than_the_machine_has(monkeypatch, count, there):
    monkeypatch.setattr("course_lib.common.devices.AVAILABLE", {"cuda": lambda: True})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert pick_device(f"cuda:{count - 1}") == torch.device("cuda", count - 1)
    for wrong in (f"cuda:{count}", "cuda:-1", "cuda:first"):
        with pytest.raises(
            RuntimeError, match=f"'{wrong}' was requested, but this machine has only {there}"
        ):
            pick_device(wrong)
    together = dict(RANK=str(count), WORLD_SIZE=str(count + 1), LOCAL_RANK=str(count))
    for name, value in together.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match=f"'cuda:{count}' was requested"):
        device_of_process(torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_resuming_on_a_gpu(tmp_path, precision):
    settings = {"device": "cuda", "precision": precision}
    losses = [step.loss for step in begin(tmp_path / "whole", **settings)]
    for step in begin(tmp_path / "halves", **settings):
        if step.index == 7:
            break
    torch.cuda.manual_seed(5)
    assert [step.loss for step in begin(tmp_path / "halves", **settings)] == losses[5:]


OTHERS = {  # what `accelerate config` or a tool leaves behind for other projects
    "LOCAL_RANK": "1",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_TORCH_DEVICE": "cuda:7",
}


@pytest.mark.parametrize("name", OTHERS)
def test_settings_of_other_projects_change_nothing(monkeypatch, name):
    expected = [step.loss for step in begin(steps=3)]
    monkeypatch.setenv(name, OTHERS[name])
    run = begin(steps=3)
    assert [step.loss for step in run] == expected and run.engine.processes == 1
    assert os.environ[name] == OTHERS[name]  # still there for others
    assert device_of_process(torch.device("cuda")) == torch.device("cuda")
