"""The doctor on machines that we don't have: checks with fake facts, facts about a fake system."""

import hashlib
import json
import os
import sys

import pytest
from packaging.requirements import Requirement

from course_lib import SHORT_WAITS, TORCH_FIRST
from course_lib.cli import doctor, machine
from course_lib.cli.doctor import GIB, Finding
from course_lib.common.memory import free_memory

GOOD = {"torch": "2.15.0", "threads": 2}
NMS = "operator torchvision::nms does not exist"


def test_a_finding_is_one_line_with_its_mending():
    line = str(Finding("FAIL", "disk", "0.1 GiB free", "make room"))
    assert line == "FAIL  disk         0.1 GiB free -> make room"


@pytest.mark.parametrize(
    ("version", "level"),
    [((3, 10, 9), "FAIL"), ((3, 11, 0), "OK"), ((3, 13, 9), "OK"), ((3, 14, 0), "WARN")],
)
def test_python(version, level):
    assert doctor.check_python(version).level == level


def test_packages_missing_or_too_old_are_named():
    needed = [Requirement("numpy>=2.0"), Requirement("tqdm"), Requirement("typer>=0.15")]
    found = {"numpy": "1.26.4", "tqdm": None, "typer": "0.29.2"}
    finding = doctor.check_packages(needed, found)
    assert finding.level == "FAIL"
    assert finding.says == "numpy is 1.26.4, needed >=2.0; tqdm is missing, needed "
    assert doctor.check_packages(needed, found | {"numpy": "2.4.6", "tqdm": "4"}).level == "OK"
    assert doctor.check_packages([], {}).level == "FAIL"


def test_torch_that_does_not_import():
    broken = {"error": "libcudart.so.13: cannot open shared object file"}
    finding = doctor.check_torch(broken)
    assert finding.level == "FAIL"
    assert "libcudart" in finding.says
    assert doctor.check_torch(GOOD).says == "2.15.0, 2 CPU threads"


def test_waits_that_came_too_late_are_seen():
    assert doctor.check_waits(SHORT_WAITS).level == "OK"
    assert doctor.check_waits({"OMP_WAIT_POLICY": "active"}).says.endswith("OMP_WAIT_POLICY=active")
    finding = doctor.check_waits({TORCH_FIRST: "1"} | SHORT_WAITS)
    assert finding.level == "WARN"
    assert "set GOMP_SPINCOUNT=2000 KMP_BLOCKTIME=1 before" in finding.fix


def test_torchvision_of_another_build_is_explained():
    """A CPU-only torch with the registry's torchvision, which is the most frequent problem."""
    facts = GOOD | {"torch": "2.15.0+cpu", "torchvision_error": NMS}
    finding = doctor.check_torchvision(facts, "0.29.2", [Requirement("torch>=2.14.0")])
    assert finding.level == "FAIL"
    assert NMS in finding.says
    assert "different builds" in finding.says
    assert "--force-reinstall" in finding.fix


@pytest.mark.parametrize(
    ("torch", "needs", "level"),
    [
        ("2.15.0", "torch>=2.14.0", "OK"),
        ("2.15.0+cu132", "torch==2.15.0", "OK"),  # the build is not part of the release
        ("2.11.0", "torch>=2.14.0", "FAIL"),
        ("2.15.0+cpu", "torch==2.14.1", "FAIL"),
    ],
)
def test_torchvision_of_another_release(torch, needs, level):
    finding = doctor.check_torchvision(GOOD | {"torch": torch}, "0.29.2", [Requirement(needs)])
    assert finding.level == level


def test_torchvision_without_torch_or_at_all():
    assert doctor.check_torchvision(GOOD, None, []).level == "FAIL"
    assert doctor.check_torchvision({"error": "…"}, "0.29.2", []).level == "WARN"


@pytest.mark.parametrize(
    ("facts", "nvidia", "level"),
    [
        ({}, False, "OK"),
        ({}, True, "WARN"),
        ({"gpu": "NVIDIA H200, 140 GiB (cuda)"}, True, "OK"),
        ({"gpu_error": "CUDA error: no kernel image is available"}, True, "FAIL"),
    ],
)
def test_gpu(facts, nvidia, level):
    assert doctor.check_gpu(facts, nvidia).level == level


@pytest.mark.parametrize(("free", "level"), [(0.9, "FAIL"), (1.5, "WARN"), (8, "OK")])
def test_memory(free, level):
    assert doctor.check_memory(int(free * GIB)).level == level


@pytest.mark.parametrize(("free", "level"), [(0.1, "FAIL"), (0.5, "WARN"), (8, "OK")])
def test_disk(free, level):
    assert doctor.check_disk(int(free * GIB)).level == level


def test_data_folder():
    assert doctor.check_writable("data/", None).level == "OK"
    finding = doctor.check_writable("data/", "Permission denied")
    assert (finding.level, finding.says) == ("FAIL", "cannot write to data/: Permission denied")


@pytest.mark.parametrize(
    ("program", "level"),
    [
        ("python", "OK"),  # which Jupyter replaces by the Python it runs in
        ("/course/.venv/bin/python", "OK"),
        ("/opt/other/bin/python", "FAIL"),
        (None, "FAIL"),
    ],
)
def test_kernel(program, level):
    assert doctor.check_kernel(program, "/course/.venv/bin/python").level == level


def test_course():
    assert doctor.check_course(GOOD, 10).level == "OK"
    assert doctor.check_course(GOOD, 0).level == "FAIL"
    assert doctor.check_course({"course_error": "ImportError: x"}, 10).level == "FAIL"


def test_checkpoints():
    assert doctor.check_checkpoints({"a": "", "b": ""}, "copy them").level == "OK"
    state = {"a": "does not match its checksum", "b": "", "c": "is missing"}
    finding = doctor.check_checkpoints(state, "copy them")
    assert (finding.level, finding.fix) == ("FAIL", "copy them")
    assert finding.says == "a does not match its checksum; c is missing"
    assert "SHA256SUMS, is missing" in doctor.check_checkpoints({}, "copy them").says


def test_own_models_are_no_fault_but_damaged_ones_are():
    assert doctor.check_own_models("mine", {}).level == "OK"
    finding = doctor.check_own_models("mine", {"scenes-vae": "", "scenes-clip": ""})
    assert finding.level == "WARN" and "scenes-vae, scenes-clip in mine" in finding.says
    finding = doctor.check_own_models("mine", {"scenes-vae": "", "a": "lacks a.json"})
    assert finding.level == "FAIL" and finding.says == "a lacks a.json"
    assert "git" not in finding.fix  # which knows nothing of them


# --- the facts -------------------------------------------------------------------------------


def test_every_kind_of_damage_to_a_checkpoint_is_told_apart(tmp_path):
    weights = b"weights"
    card = {"sha256": hashlib.sha256(weights).hexdigest()}
    for name in ("good", "bad", "cardless", "weightless", "torn"):
        (tmp_path / f"{name}.json").write_text(json.dumps(card))
        (tmp_path / f"{name}.safetensors").write_bytes(weights)
    (tmp_path / "bad.safetensors").write_bytes(b"weight")
    (tmp_path / "torn.json").write_text('{"sha256": ')
    (tmp_path / "cardless.json").unlink()
    (tmp_path / "weightless.safetensors").unlink()
    state = machine.inspect_checkpoints(tmp_path)
    assert "JSONDecodeError" in state.pop("torn")
    assert state == {
        "good": "",
        "bad": "does not match its checksum",
        "cardless": "lacks cardless.json",
        "weightless": "lacks weightless.safetensors",
    }


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A course with two shipped models and their checksums, and an empty COURSE_DATA."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for name in "ab":
        put(folder, name, name.encode())
    lines = [f"{sha(name.encode())}  {name}.safetensors" for name in "ab"]
    (folder / "SHA256SUMS").write_text("\n".join([*lines, ""]))
    monkeypatch.setattr(machine, "probe", lambda: GOOD)
    monkeypatch.setattr(doctor, "SHIPPED", folder)
    monkeypatch.setattr(doctor, "CHECKPOINTS", tmp_path / "mine/checkpoints")
    return folder


def put(folder, name, weights):
    (folder / f"{name}.json").write_text(json.dumps({"sha256": sha(weights)}))
    (folder / f"{name}.safetensors").write_bytes(weights)


def sha(content):
    return hashlib.sha256(content).hexdigest()


def told():
    """What the doctor finds for the shipped models and for the reader's own."""
    return [finding for finding in doctor.examine()][-2:]


def test_a_model_in_a_shipped_ones_place_is_noticed(shipped):
    assert [finding.level for finding in told()] == ["OK", "OK"]
    put(shipped, "b", b"another training")  # weights and card that belong together
    assert (told()[0].level, told()[0].says) == ("FAIL", "b is not the shipped model")
    (shipped / "a.json").unlink(), (shipped / "a.safetensors").unlink()
    assert told()[0].says == "a is missing; b is not the shipped model"
    (shipped / "SHA256SUMS").unlink()
    assert told()[0].level == "FAIL"


def test_a_readers_own_data_folder_is_no_fault(shipped, tmp_path):
    own = tmp_path / "mine/checkpoints"
    own.mkdir(parents=True)
    put(own, "b", b"of other pictures")
    assert [finding.level for finding in told()] == ["OK", "WARN"]
    (own / "b.json").unlink()
    assert [finding.level for finding in told()] == ["OK", "FAIL"]


def test_a_folder_that_cannot_be_written_to(tmp_path):
    assert machine.write_error(tmp_path / "new") is None
    (tmp_path / "file").touch()
    assert machine.write_error(tmp_path / "file" / "data") == "Not a directory"


@pytest.mark.skipif(sys.platform != "linux", reason="containers' limits are Linux's")
def test_memory_within_a_container(tmp_path):
    free = free_memory(tmp_path)  # no such group: the machine's
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory(tmp_path) > 0.5 * free
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 700\ninactive_file 200\n")
    assert free_memory(tmp_path) == 4200  # pages of files that were read are given back


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(3)", {"error": "Python died, status 3"}),
        ("import time; time.sleep(60)", {"error": "its import took longer than 1 s"}),
        ("print('noise'); print('FACTS{\"torch\": \"2\"}')", {"torch": "2"}),
    ],
)
def test_the_probe_survives_what_it_probes(code, told):
    assert machine.probe(code, seconds=1 if "sleep" in code else 60) == told


def test_the_probe_reads_no_modules_of_the_readers(tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise ImportError('the reader's own')")
    monkeypatch.chdir(tmp_path)
    assert machine.probe('import random; print(\'FACTS{"torch": "2"}\')') == {"torch": "2"}


def test_the_probe_survives_a_torchvision_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text(
        "__version__ = '2.15.0+cpu'\n"
        "get_num_threads = lambda: 2\n"
        "class cuda: is_available = lambda: False\n"
        "class backends:\n    class mps: is_available = lambda: False\n"
    )
    (tmp_path / "torchvision.py").write_text(f"raise RuntimeError('{NMS}')")
    (tmp_path / "course_lib.py").write_text("raise ImportError('no module named this')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    facts = machine.probe("import sys; sys.path.insert(0, " + repr(str(tmp_path)) + ")\n" + PROBE)
    assert facts == {
        "torch": "2.15.0+cpu",
        "threads": 2,
        "torchvision_error": NMS,
        "course_error": "ImportError: no module named this",
    }
    assert doctor.check_torchvision(facts, "0.29.2", []).level == "FAIL"


PROBE = machine.PROBE


def test_requirements_leave_extras_and_other_systems_out():
    names = [r.name for r in machine.requirements_of("torchvision")]
    assert {"torch", "numpy", "pillow"} <= {name.lower() for name in names}
    assert "gdown" not in names  # torchvision[gdown]
    assert machine.requirements_of("no-such-package") == []


def test_examine_runs_every_check_on_this_machine(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda: GOOD)
    names = [finding.name for finding in doctor.examine()]
    checks = [name for name in vars(doctor) if name.startswith("check_")]
    assert len(names) == len(checks) == 13
    assert os.path.exists(doctor.ROOT / "pyproject.toml")
