"""Published checkpoints: what is saved is loaded, and every error is one line."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from course_lib.common import checkpoints
from course_lib.common.checkpoints import load_checkpoint, save_checkpoint
from course_lib.common.files import make_folder


class Net(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.kwargs = {"width": width}
        self.linear = nn.Linear(4, width)
        self.register_buffer("scale", torch.full((width,), 0.123456789))
        self.register_buffer("count", torch.tensor(7))


class Other(Net):
    pass


@pytest.fixture
def saved(tmp_path, monkeypatch):
    for folder in ("CHECKPOINTS", "SHIPPED"):  # one, as without COURSE_DATA
        monkeypatch.setattr(checkpoints, folder, tmp_path)
    model = Net(width=5)
    save_checkpoint("digits-net", model, seed=3, metrics={"loss": 0.5})
    return tmp_path, model


def test_round_trip(saved):
    state = torch.get_rng_state()
    model = load_checkpoint(Net, "digits-net")
    assert torch.equal(state, torch.get_rng_state())  # building the class left torch's state alone
    assert not model.training and model.linear.out_features == 5
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in saved[1].state_dict().items())
    assert model.card["seed"] == 3 and model.card["metrics"] == {"loss": 0.5}
    assert model.card["class"] == "Net" and model.card["parameters"] == 25
    by_path = load_checkpoint(Net, saved[0] / "digits-net.safetensors")
    assert torch.equal(by_path.linear.weight, model.linear.weight)
    assert checkpoints.published() == ["digits-net"]


OWN = {"settings": {"data": {"pictures": "9f86d081"}}}  # the card of a model of other pictures


@pytest.fixture
def own(saved, tmp_path_factory, monkeypatch):
    """COURSE_DATA's empty folder of models; `digits-net` is a shipped one."""
    folder = tmp_path_factory.mktemp("own")
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", folder)
    return folder


def test_own_models_come_before_the_shipped_ones(saved, own):
    assert load_checkpoint(Net, "digits-net").card["seed"] == 3
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*net\.safetensors"):
        load_checkpoint(Net, own / "digits-net")  # a path is taken literally
    save_checkpoint("digits-net", Net(width=2), seed=4)
    save_checkpoint("other", Net())
    assert load_checkpoint(Net, "digits-net").linear.out_features == 2
    assert load_checkpoint(Net, saved[0] / "digits-net").linear.out_features == 5  # untouched
    assert checkpoints.published() == ["digits-net", "other"]
    (own / "digits-net.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"is missing, but .* there.* from a copy"):
        load_checkpoint(Net, "digits-net")  # half of one's own does not turn into the shipped one


def test_a_model_of_other_pictures_never_replaces_a_shipped_one(saved, tmp_path_factory):
    before = {path: path.read_bytes() for path in saved[0].iterdir()}
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(saved[0], target_is_directory=True)
    for place in ("digits-net", "new", saved[0] / "digits-net", link / "digits-net"):
        with pytest.raises(
            ValueError, match=r"your own pictures, would replace .* set COURSE_DATA"
        ):
            save_checkpoint(place, Net(), **OWN)
    assert {path: path.read_bytes() for path in saved[0].iterdir()} == before


def test_a_model_of_other_pictures_has_its_place_in_ones_own_folder(saved, own):
    save_checkpoint("digits-net", Net(), **OWN)
    assert load_checkpoint(Net, "digits-net").card["settings"] == OWN["settings"]


def test_components_that_a_model_was_not_trained_on(saved):
    part = load_checkpoint(Net, "digits-net")
    trained_on = {"settings": {"data": {"digits-net": part.card["sha256"]}}}
    save_checkpoint("pair", Net(), **trained_on)
    model = load_checkpoint(Net, "pair")
    checkpoints.check_components(model, {"digits-net": part})
    checkpoints.check_components(Net(), {"digits-net": part})  # still trains: no card
    save_checkpoint("digits-net", Net(width=2))
    now = load_checkpoint(Net, "digits-net")
    then, other = (net.card["sha256"][:8] for net in (part, now))
    with pytest.raises(
        ValueError, match=rf"model was trained on digits-net {then}, but .* is {other}: restore"
    ):
        checkpoints.check_components(model, {"digits-net": now})


@pytest.mark.parametrize("git", [True, False])
def test_advice_is_for_the_reader_who_has_no_git_too(saved, monkeypatch, git):
    monkeypatch.setattr("course_lib.common.paths.ROOT", saved[0])
    if git:
        (saved[0] / ".git").mkdir()
    (saved[0] / "digits-net.json").unlink()
    with pytest.raises(FileNotFoundError) as refused:
        load_checkpoint(Net, "digits-net")
    assert "copy data/checkpoints from the course's repository" in str(refused.value)
    assert ("git checkout" in str(refused.value)) == git


def test_a_model_is_float32_whatever_torchs_default_is(saved):
    torch.set_default_dtype(torch.float64)
    try:
        assert load_checkpoint(Net, "digits-net").linear.weight.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_half_keeps_vectors_and_gives_back_float32(saved):
    path = save_checkpoint(saved[0] / "half.v1", saved[1], half=True)
    stored = {k: str(v.dtype) for k, v in load_file(path).items()}
    assert path.name == "half.v1.safetensors" and stored["linear.weight"] == "torch.float16"
    assert stored["linear.bias"] == stored["scale"] == "torch.float32"
    model = load_checkpoint(Net, saved[0] / "half.v1")
    assert model.linear.weight.dtype == torch.float32
    assert torch.equal(model.linear.weight, saved[1].linear.weight.half().float())
    assert torch.equal(model.linear.bias, saved[1].linear.bias)
    assert torch.equal(model.scale, saved[1].scale) and model.count == 7
    saved[1].linear.weight.data[0, 0] = 1e5
    with pytest.raises(ValueError, match=r"linear.weight holds values up to 1e\+05: too large"):
        save_checkpoint("half", saved[1], half=True)


def test_unknown_names(saved):
    with pytest.raises(
        FileNotFoundError,
        match=r"digit-net is not in .*: did you mean 'digits-net'\? Or `course train",
    ):
        load_checkpoint(Net, "digit-net")
    with pytest.raises(
        FileNotFoundError, match=r"there is no checkpoint elsewhere/net.safetensors"
    ):
        load_checkpoint(Net, "elsewhere/net")


def test_a_recipe_that_is_not_trained_is_told_from_an_unknown_name(saved):
    with pytest.raises(FileNotFoundError, match="`course train scenes-pixel --publish` makes it"):
        load_checkpoint(Net, "scenes-pixel")


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_half_a_pair(saved, ending):
    (saved[0] / f"digits-net.{ending}").unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"net.{ending} is missing, but its other half is there; r"
    ):
        load_checkpoint(Net, "digits-net")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_damaged_weights(saved, damage):
    path = saved[0] / "digits-net.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"truncated": content[:-7], "flipped": content, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"does not match its card's checksum.*restore both"):
        load_checkpoint(Net, "digits-net")


NO_FIGURES = '{"class": "Net", "kwargs": {}, "sha256": "", "metrics": null}'


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"class": "Net", "kwargs": {}}', NO_FIGURES, "\xff"]
)
def test_damaged_card(saved, text):
    (saved[0] / "digits-net.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"digits-net.json is not a checkpoint's card \("):
        load_checkpoint(Net, "digits-net")


def test_wrong_class_and_weights_that_do_not_fit(saved):
    with pytest.raises(ValueError, match=r"digits-net.safetensors holds a Net, not a Other"):
        load_checkpoint(Other, "digits-net")
    path = saved[0] / "digits-net.json"
    card = json.loads(path.read_text())
    for kwargs in ({"width": 9}, {"height": 9}):
        path.write_text(json.dumps(card | {"kwargs": kwargs}))
        with pytest.raises(
            ValueError, match=r"does not fit Net: .*(size mismatch|unexpected keyw)"
        ):
            load_checkpoint(Net, "digits-net")


def test_a_checkpoint_with_the_old_names_says_so(saved):
    """Before the networks' parts were renamed, a card had no layout and other keywords."""
    path = saved[0] / "digits-net.json"
    card = json.loads(path.read_text())
    assert card.pop("layout") == checkpoints.LAYOUT
    path.write_text(json.dumps(card))
    load_checkpoint(Net, "digits-net")  # its parts have kept their names
    path.write_text(json.dumps(card | {"kwargs": {"breadth": 5}}))
    renamed = r"does not fit Net: it was written before the networks' parts were renamed; restore"
    with pytest.raises(ValueError, match=renamed):
        load_checkpoint(Net, "digits-net")


def test_a_save_interrupted_between_its_two_files_is_noticed(saved, monkeypatch):
    def exchange(source, target, replace=os.replace):
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", exchange)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint("digits-net", Net(width=5))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"cut short; restore both files"):
        load_checkpoint(Net, saved[0] / "digits-net")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_a_full_disk_leaves_the_old_pair(saved, ending):
    (saved[0] / f"digits-net.{ending}.{os.getpid()}.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device; the old file is untouched"):
        save_checkpoint("digits-net", Net(width=5))
    model = load_checkpoint(Net, "digits-net")
    assert torch.equal(model.linear.weight, saved[1].linear.weight)
    assert len(list(saved[0].iterdir())) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows replaces no file that is being read")
def test_two_processes_may_write_one_file(tmp_path):
    """No write fails, and a reader always gets one of the two contents, complete."""
    path = tmp_path / "file"
    code = "import sys; from pathlib import Path; from course_lib.common.files import write_files"
    code += "\nfor _ in range(200): write_files({Path(sys.argv[1]): sys.argv[2].encode() * 99999})"
    path.write_bytes(b"a" * 99999)
    writers = [subprocess.Popen([sys.executable, "-c", code, path, letter]) for letter in "ab"]
    while any(writer.poll() is None for writer in writers):
        content = path.read_bytes()
        assert len(content) == 99999 and len(set(content)) == 1
    assert [writer.returncode for writer in writers] == [0, 0]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_file_that_another_program_holds_stays(saved, monkeypatch):
    def held(source, target):
        raise PermissionError(13, "Access is denied", str(target))  # as Windows would

    monkeypatch.setattr(os, "replace", held)
    with pytest.raises(OSError, match=r"could not write .*: Access is denied; the old file is"):
        save_checkpoint("digits-net", Net(width=5))
    assert len(list(saved[0].iterdir())) == 2
    load_checkpoint(Net, "digits-net")


def test_facts_a_card_cannot_hold(saved):
    with pytest.raises(ValueError, match=r"not JSON compliant"):
        save_checkpoint("digits-net", saved[1], metrics={"loss": float("nan")})
    load_checkpoint(Net, "digits-net")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(saved):
    with pytest.raises(RuntimeError, match=r"device 'cuda' was requested"):
        load_checkpoint(Net, "digits-net", device="cuda")


def test_folders_that_cannot_be_made_or_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot make the folder .*file"):
        make_folder(tmp_path / "file" / "below")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"is not writable"):
        make_folder(tmp_path)
