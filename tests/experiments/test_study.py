"""Long runs: one file for each, in order, none made twice; nonsense is refused in one line."""

import json

import pytest
import torch
from course_lib.experiments.runs import Runs

from course_lib.experiments import spaces, tricks


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    made = []

    def run(name, seed):
        made.append((name, seed))
        return {"name": name, "seed": seed, "order": len(made)}

    return Runs(tmp_path / "runs", run, ["with, without", "b"], (0, 1)), made


def order(runs):
    return [(each["name"], each["seed"], each["order"]) for each in runs.records()]


def test_what_is_there_is_not_made_again(runs):
    runs, made = runs
    runs.main(["b", "1"])
    assert order(runs) == [("b", 1, 1)]
    runs.main(["b"])
    runs.main([])
    assert made == [("b", 1), ("b", 0), ("with, without", 0), ("with, without", 1)]
    assert order(runs) == [  # by name, then by seed, whenever they were made
        *(("with, without", 0, 3), ("with, without", 1, 4)),
        *(("b", 0, 2), ("b", 1, 1)),
    ]
    assert json.loads((runs.folder / "with-without-0.json").read_text())["order"] == 3


@pytest.mark.parametrize(
    "nonsense, line",
    [
        (["c"], "argument name: invalid choice: 'c' (choose from"),
        (["b", "two"], "argument seed: invalid int value: 'two'"),
        (["b", "2"], "argument seed: invalid choice: 2 (choose from"),
        (["b", "1", "more"], "unrecognized arguments: more"),
    ],
)
def test_nonsense_is_refused_before_anything_is_made(runs, nonsense, line, capsys):
    runs, made = runs
    with pytest.raises(SystemExit) as end:
        runs.main(nonsense)
    assert end.value.code == 2 and line in capsys.readouterr().err.splitlines()[-1]
    assert not made and not runs.folder.exists()


@pytest.mark.parametrize("module", [spaces, tricks])
def test_each_run_has_a_file_of_its_own(module):
    paths = {module.RUNS.path(name, seed) for name in module.RUNS.names for seed in (0, 1, 2)}
    assert len(paths) == 3 * len(module.RUNS.names)


@pytest.mark.parametrize(
    "run, wrong, meant",
    [(spaces.run, "latents", "latent"), (tricks.run, "no EMAs", "no EMA")],
)
def test_unknown_names_are_refused(run, wrong, meant):
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        run(wrong, 0)
