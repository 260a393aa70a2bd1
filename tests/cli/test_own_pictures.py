"""`course check-data`, and the walk-through of notebooks/own_pictures.md from start to end."""

import json
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.cli import train as train_command
from course_lib.common import checkpoints
from course_lib.common.paths import ROOT
from course_lib.models import AutoencoderKL
from course_lib.recipes.emoji import EmojiLatent, EmojiVAE

PAGE = (ROOT / "notebooks" / "own_pictures.md").read_text("utf-8")


@pytest.fixture
def pictures(tmp_path):
    """24 pictures of noise."""
    (tmp_path / "pictures").mkdir()
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    write(tmp_path / "pictures", *(f"drawing number {number}" for number in range(24)))
    return tmp_path / "pictures"


def write(folder, *captions):
    lines = [json.dumps({"file_name": f"{n}.png", "text": text}) for n, text in enumerate(captions)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def test_a_sound_folder_is_ready(course, pictures):
    done = course("check-data", pictures)
    assert (done.status, done.err) == (0, "")
    first, *_, last = done.out.splitlines()
    assert first == "pictures: 24, each with a caption" and last == "ready"


def test_a_folder_with_faults_is_not_ready_and_says_why(course, pictures):
    write(pictures, *["word " * 40] * 6)
    done = course("check-data", pictures)
    assert done.status == 1
    *_, first, second, last = done.out.splitlines()
    assert re.match(r"fix: no caption: 18 files .*: 10\.png; .* and 13 more$", first)
    assert re.match(r"fix: too long: 6 captions of over 32 tokens .*0\.png \(\d+ tokens\)", second)
    assert last == "not ready: first do what the lines with fix: say"
    assert "and 13 more" not in course("check-data", pictures, "--all").out


@pytest.mark.parametrize(
    ("make", "status", "line"),
    [
        (lambda folder: None, 1, "there is no folder x"),
        (lambda folder: folder.touch(), 1, "there is no folder x"),
        (lambda folder: folder.mkdir(), 1, "x has no metadata.jsonl, with lines such as"),
        (
            lambda folder: (folder.mkdir(), (folder / "000.tar").touch()),
            *(2, "x holds shards: check the pictures before you pack them"),
        ),
    ],
    ids=["nothing", "a file", "empty", "shards"],
)
def test_what_check_data_refuses_in_one_line(course, tmp_path, make, status, line):
    make(tmp_path / "x")
    done = course("check-data", "x")
    assert (done.status, done.out, done.err.count("\n")) == (status, "", 1)
    assert done.err.startswith(f"course: {line}")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Small networks, and a folder for the reader's models beside one for the shipped ones."""

    def model(self):
        return AutoencoderKL(latent_channels=24, channels=16, multipliers=(1,), patch_size=8)

    monkeypatch.setattr(EmojiVAE, "model", model)
    monkeypatch.setattr(EmojiLatent, "unet", EmojiLatent.unet | dict(channels=16))
    monkeypatch.setattr(EmojiLatent, "text", dict(dim=192, layers=1))
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path / "my_models" / "checkpoints")
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "shipped")
    torch.manual_seed(0)
    checkpoints.save_checkpoint(tmp_path / "shipped" / "emoji-vae", model(None))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_walk_through_works_from_start_to_end(course, small, tmp_path):
    """Each command of the page, with small networks; a training takes 2 steps."""
    exec(compile(blocks("python")[0], "own_pictures.md", "exec"), {})
    assert len([*(tmp_path / "my_pictures").glob("*.png")]) == 240
    said = []
    for line in "".join(blocks("sh")).splitlines():
        command = shlex.split(line, comments=True)
        if command[:1] != ["course"] or command[1] == "cost":
            continue
        if command[1] == "train":
            command = [word for word in command if not word.isdigit() and word != "--steps"]
            command += ["--steps", "2", "--device", "cpu"]
        done = course(*command[1:])
        assert done.status == 0, f"{line}: {done.err}"
        said.append(done.out)
    checked, *_ = said
    assert checked.strip() == blocks("text")[0].strip()  # what the page shows is true
    assert {path.stem for path in (tmp_path / "my_models" / "checkpoints").iterdir()} == {
        *("emoji-vae", "emoji-latent")
    }
    card = json.loads((tmp_path / "my_models/checkpoints/emoji-latent.json").read_text())
    assert {metric["property"] for metric in card["metrics"]} == {"test_loss", "train_loss"}
    assert (tmp_path / "outputs" / "sample.png").exists()


def test_a_stopped_training_resumes_with_the_same_pictures_alone(
    course, small, pictures, monkeypatch, tmp_path
):
    def stop(*_):
        raise KeyboardInterrupt

    for name in ("save_every", "sample_every"):
        monkeypatch.setattr(EmojiLatent, name, 1)
    monkeypatch.setattr(train_command, "write_samples", stop)
    train = "train", "emoji-latent", "--data", pictures, "--steps", 2, "--device", "cpu"
    done = course(*train)
    assert done.status == 130 and "Stopped at step 1; the same command resumes" in done.out
    monkeypatch.setattr(train_command, "write_samples", lambda *_: 0.0)
    Image.new("RGB", (64, 64)).save(pictures / "5.png")
    done = course(*train)
    assert done.status == 2 and re.search(r"data=pictures \w{8}.*, not pictures \w{8}", done.err)
    pixels = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(pictures / "5.png")
    assert course(*train).status == 0
    log = (tmp_path / "outputs" / "emoji-latent" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2]


def test_a_model_is_measured_on_the_pictures_it_was_trained_on(course, small, pictures):
    train = "train", "emoji-latent", "--data", pictures, "--steps", 1, "--device", "cpu"
    assert course(*train, "--publish").status == 0
    done = course("evaluate", "emoji-latent", "--data", pictures, "--out", "drawn.png")
    assert done.status == 0, done.err
    rows = [[cell.strip() for cell in row.split("|")] for row in done.out.splitlines()[2:4]]
    assert [row[1] for row in rows] == ["test_loss", "train_loss"]
    for row in rows:  # as on the card, up to the rounding to float16
        assert float(row[2]) == pytest.approx(float(row[5]), rel=1e-2)
    assert Image.open("drawn.png").width > 100
    done = course("evaluate", "emoji-latent")
    assert done.status == 2 and "was trained on your own pictures: add --data FOLDER" in done.err
    write(pictures, *(f"drawing {number}" for number in range(24)))
    done = course("evaluate", "emoji-latent", "--data", pictures)
    assert done.status == 2 and "was not trained on what" in done.err
    done = course("evaluate", "emoji-vae", "--data", pictures)  # an autoencoder fits any pictures
    assert done.status == 0 and "psnr" in done.out
    done = course("evaluate", "emoji-vae", "--data", pictures, "--out", "drawn.jpg")
    assert done.status == 2 and done.err.startswith("course: --out names a PNG file")
