"""The command line: what it writes, and that a typing error never shows a traceback."""

import copy
import dataclasses
import io
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from course_lib import pipelines, recipes
from course_lib.cli import doctor, draw, start
from course_lib.evaluation.metrics import Metric
from course_lib.teaching import solved
from course_lib.training import Optimizer, Scale

SAMPLE = ["sample", "a red circle", "a blue square", "--steps", "2", "--device", "cpu"]


@pytest.fixture
def toy(monkeypatch, toy_pipeline):
    """The shipped model is the toy one."""
    monkeypatch.setattr(recipes, "load_pipeline", lambda name, device: toy_pipeline)


class Line(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        self.kwargs = {"width": width}
        self.weight = nn.Parameter(torch.zeros(width))


class Slope(recipes.Recipe):
    """Learns that y = 2 x, in steps of a millisecond."""

    name = "slope"
    settings = dict(steps=6, optimizer=Optimizer(lr=0.1), ema=0.5, scale=Scale())
    save_every = 2
    goal = "slope"
    sample_every = 3

    def model(self):
        return Line()

    def batch(self, step):
        return torch.rand(4)

    def loss(self, model, x):
        return (model.weight * x - 2 * x).square().mean()

    def samples(self, model):
        return torch.zeros(2, 1, 8, 8), ["one", "two"]

    def measure(self, model, count):
        return [Metric("slope", model.weight.item(), count)]


@pytest.fixture
def slope(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "slope", Slope)


def size(path):
    return Image.open(path).size


def test_help_answers_without_torch():
    code = "import sys, course_lib.cli, course_lib.cli.doctor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_help_names_every_command(course):
    out = course("--help").out
    commands = "doctor lab progress demo sample check-data train diagnose evaluate cost card"
    for command in commands.split():
        assert f"  {command} " in out


def test_sample_writes_a_grid_with_captions(course, toy, tmp_path):
    done = course(*SAMPLE)
    assert done.status == 0
    assert done.out.startswith(f"{os.path.join('outputs', 'sample.png')}: 2 pictures")
    width, height = size(tmp_path / "outputs/sample.png")
    assert width > height > 150  # two pictures side by side, text below
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["sample.png"]


def test_the_same_seed_gives_the_same_file(course, toy, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert course(*SAMPLE, "--seed", seed, "--out", f"{name}.png").status == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_count_draws_each_caption_so_often_with_seeds_of_its_own(course, toy, monkeypatch):
    asked = []

    def spy(model, captions, seeds, **options):
        asked.append((list(captions), list(seeds), options))
        return torch.zeros(len(captions), 3, 32, 32)

    monkeypatch.setattr(pipelines, "text_to_image", spy)
    done = course(*SAMPLE, "--count", 40, "--seed", 7, "--scale", "2.5", "--sampler", "heun")
    assert done.status == 0
    (first, seeds, options), (second, others, _) = asked  # 64 at a time
    assert first == ["a red circle"] * 40 + ["a blue square"] * 24
    assert second == ["a blue square"] * 16
    assert seeds + others == [*range(7, 47), *range(7, 47)]
    assert options == dict(steps=2, scale=2.5, sampler="heun")


def test_without_steps_a_model_draws_in_its_own_number(course, monkeypatch):
    asked = []

    def spy(model, captions, seeds, steps, **options):
        asked.append(model.steps if steps is None else steps)
        return torch.zeros(len(captions), 3, 32, 32)

    monkeypatch.setattr(pipelines, "text_to_image", spy)
    for model in ("scenes-latent", "scenes-fast"):
        assert course("sample", "a red circle", "--model", model).status == 0
    assert asked == [20, 4]


def test_sample_draws_what_is_unusual_with_one_line_for_each_thing(
    course, monkeypatch, toy_pipeline, tmp_path
):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's; a user has none
    model = dataclasses.replace(toy_pipeline, review=lambda text: text and "why", scales=(1, 6))
    monkeypatch.setattr(recipes, "load_pipeline", lambda name, device: model)
    done = course(*SAMPLE, "--steps", 1, "--count", 40, "--scale", 40)  # in two parts, 64 and 16
    assert done.status == 0 and "80 pictures" in done.out
    assert done.err.splitlines() == [
        "course: warning: training showed nothing like 'a red circle': why",
        "course: warning: training showed nothing like 'a blue square': why",
        "course: warning: guidance 40 is outside the useful range of this model, 1 to 6: "
        "fewer pictures will be right",
    ]


def test_captions_are_drawn_as_typed(course, toy, monkeypatch, tmp_path):
    """For example those of a published checkpoint, whose tokenizer accepts any text."""
    images = torch.zeros(2, 3, 32, 32)
    monkeypatch.setattr(pipelines, "text_to_image", lambda *given, **options: images)
    done = course("sample", r"$\frac{ and $", "猫 for $5 or $10", *SAMPLE[3:])
    assert done.status == 0 and done.err == "", done.err
    assert size(tmp_path / "outputs/sample.png")


@pytest.mark.parametrize(("seed", "count"), [(-1, 1), (2**32, 1), (2**32 - 100, 101)])
def test_seeds_that_torch_would_repeat_are_refused_before_the_work(course, seed, count):
    done = course(*SAMPLE, "--seed", seed, "--count", count)
    assert done.status == 2
    assert done.err.startswith("course: a seed must be a whole number from 0 to 4294967295; got ")


@pytest.fixture
def published(monkeypatch, toy_pipeline):
    """A Stable Diffusion folder whose networks are the toy ones; `published.free` is the memory."""
    from course_lib.pipelines.stable_diffusion import memory

    machine = SimpleNamespace(free=8e9, asked=[])
    sizes = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
    monkeypatch.setattr(memory, "count_weights", lambda path: sizes)
    monkeypatch.setattr(memory, "free_bytes", lambda device: machine.free)
    monkeypatch.setattr(
        pipelines, "load_published", lambda *args: machine.asked.append(args) or toy_pipeline
    )
    return machine


def test_sample_draws_with_a_published_checkpoint(course, published, tmp_path):
    (tmp_path / "sd15").mkdir()
    done = course(*SAMPLE, "--model", "sd15", "--size", 256)
    assert done.status == 0
    assert published.asked == [("sd15", None, 256, torch.device("cpu"))]
    first, last = done.out.splitlines()
    assert first.startswith("Stable Diffusion needs about") and "8.0 GB are free" in first
    assert "2 pictures" in last


def test_sample_refuses_a_checkpoint_that_does_not_fit_into_memory(course, published, tmp_path):
    (tmp_path / "sd15").mkdir()
    published.free = 2e9
    done = course(*SAMPLE, "--model", "sd15")
    assert done.status == 1 and published.asked == []
    assert "2.0 GB are free: close other programs" in done.err and done.err.count("\n") == 1


@pytest.fixture
def lora(toy_pipeline, monkeypatch, published, tmp_path):
    """A LoRA file for the toy model, which is copied, because a LoRA changes its weights."""
    from course_lib.models import LoRA
    from course_lib.pipelines.stable_diffusion import save_lora

    (tmp_path / "sd15").mkdir()
    monkeypatch.setattr(pipelines, "load_published", lambda *_: copy.deepcopy(toy_pipeline))
    model = copy.deepcopy(toy_pipeline)
    loras = {"unet": LoRA(model.unet), "text_encoder": LoRA(model.clip.text_encoder)}
    for each in loras.values():
        for update in each.low_rank:
            update.B.data += 1
    save_lora(tmp_path / "style.safetensors", **loras)


def test_sample_draws_with_a_lora(course, lora, tmp_path):

    pictures = {}
    for scale in (None, "0", "0.8"):
        options = ["--lora", "style.safetensors", "--lora-scale", scale] if scale else []
        done = course(*SAMPLE, "--model", "sd15", *options)
        assert done.status == 0, done.err
        pictures[scale] = (tmp_path / "outputs/sample.png").read_bytes()
    assert pictures["0"] == pictures[None] != pictures["0.8"]
    _, unet, text_encoder, _ = done.out.splitlines()
    assert unet.endswith("layers of the unet adapted, scale 0.8")
    assert text_encoder == "style.safetensors: 4 layers of the text_encoder adapted, scale 0.8"


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        ("--model sd15 --lora nowhere.safetensors", 1, "there is no LoRA file nowhere"),
        ("--model sd15 --lora pickled.bin", 2, "pickled.bin is not a .safetensors file; others"),
        ("--model sd15 --lora pickled.safetensors", 2, "pickled.safetensors is not a"),
        ("--model sd15 --lora style.safetensors --lora-scale nan", 2, "scale of LoRA: expected a"),
        ("--model sd15 --lora-scale 0.8", 2, "--lora-scale needs --lora, the file of a LoRA"),
    ],
)
def test_a_lora_is_refused_before_the_model_is_loaded(
    course, lora, monkeypatch, tmp_path, options, status, line
):
    monkeypatch.setattr(pipelines, "load_published", None)
    torch.save({"weight": torch.ones(1)}, tmp_path / "pickled.bin")
    torch.save({"weight": torch.ones(1)}, tmp_path / "pickled.safetensors")
    done = course(*SAMPLE, *shlex.split(options))
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(f"course: {line}") and done.err.count("\n") == 1


def test_a_lora_of_our_own_models_is_drawn_with_too(course, lora, monkeypatch, toy_pipeline):
    monkeypatch.setattr(recipes, "load_pipeline", lambda *_: copy.deepcopy(toy_pipeline))
    done = course(*SAMPLE, "--lora", "style.safetensors")
    assert done.status == 0 and "layers of the unet adapted, scale 1" in done.out


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("unet.nowhere.lora_A.weight", (2, 16), "1 weights fit no layer of this model (unet.n"),
        ("unet.conv_in.lora_A.weight", (2, 320, 3, 3), "expected (rank, 4, 3, 3), got (2, 320, 3"),
    ],
)
def test_sample_refuses_a_lora_of_another_model(course, lora, tmp_path, name, shape, words):
    other = {"unet.conv_in.lora_B.weight": torch.ones(16, 2), name: torch.ones(shape)}
    save_file(other, tmp_path / "other.safetensors")
    done = course(*SAMPLE, "--model", "sd15", "--lora", "other.safetensors")
    assert done.status == 2 and done.err.count("\n") == 1
    assert done.err.startswith("course: other.safetensors") and words in done.err


@pytest.fixture
def control(toy_pipeline, monkeypatch, lora, tmp_path):
    """A folder with a ControlNet for the toy model, whose pictures are of 64 pixels, and a PNG."""
    from course_lib.models import ControlNet
    from course_lib.pipelines.stable_diffusion import controlnet, memory

    model = dataclasses.replace(copy.deepcopy(toy_pipeline), size=64)
    network = ControlNet.from_unet(model.unet, embedding_channels=(4, 8, 12))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for weight in network.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
    monkeypatch.setattr(pipelines, "load_published", lambda *_: copy.deepcopy(model))
    monkeypatch.setattr(controlnet, "load_controlnet", lambda folder, model: network)
    monkeypatch.setattr(memory, "count_controlnet", lambda folder: 361_279_120)
    (tmp_path / "canny").mkdir()
    config = dict(_class_name="ControlNetModel", cross_attention_dim=768)
    (tmp_path / "canny/config.json").write_text(json.dumps(config))
    save_file({"conv_in.bias": torch.zeros(320)}, tmp_path / "canny/model.safetensors")
    edges = Image.new("RGB", (90, 64))
    edges.paste("white", (40, 20, 60, 30))
    edges.save(tmp_path / "edges.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")


STEERED = [*SAMPLE, "--model", "sd15", "--size", "64"]


def test_sample_draws_with_a_controlnet(course, control, tmp_path):
    pictures = {}
    for options in ("", "--lora style.safetensors"):
        for image, scale in (("", ""), ("edges", "0"), ("edges", "1"), ("black", "1")):
            steered = f"--control canny --control-image {image}.png --control-scale {scale}"
            done = course(*STEERED, *shlex.split(options), *shlex.split(steered if image else ""))
            assert done.status == 0, done.err
            pictures[options, image, scale] = (tmp_path / "outputs/sample.png").read_bytes()
        plain, off, edges, black = list(pictures.values())[-4:]
        assert plain == off and len({plain, edges, black}) == 3
    assert len(set(pictures.values())) == 6  # the LoRA changes them all
    assert "canny: steers with black.png, scale 1" in done.out.splitlines()
    assert done.out.startswith("Stable Diffusion needs about") and "GB of weights" in done.out


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        ("--control nowhere --control-image edges.png", 1, "there is no ControlNet folder nowhere"),
        ("--control empty --control-image edges.png", 1, "empty/config.json is missing"),
        (
            "--control sdxl --control-image edges.png",
            2,
            "sdxl is a ControlNet for Stable",
        ),
        ("--control canny --control-image nowhere.png", 1, "cannot read the picture nowhere.png"),
        ("--control canny --control-image style.safetensors", 1, "cannot read the picture style"),
        ("--control canny", 2, "--control needs --control-image, the picture that steers"),
        ("--control-image edges.png", 2, "--control-image and --control-scale need --control, a"),
        ("--control-scale 0.5", 2, "--control-image and --control-scale need --control, a Control"),
        (
            "--control canny --control-image edges.png --control-scale nan",
            2,
            "--control-scale: expected a finite number, got nan",
        ),
        ("--control canny --control-image edges.png --size 100", 2, "size must be a multiple of"),
    ],
)
def test_a_controlnet_is_refused_before_the_model_is_loaded(
    course, control, monkeypatch, tmp_path, options, status, line
):
    monkeypatch.setattr(pipelines, "load_published", None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "sdxl").mkdir()
    config = dict(_class_name="ControlNetModel", cross_attention_dim=2048)
    (tmp_path / "sdxl/config.json").write_text(json.dumps(config))
    done = course(*SAMPLE, "--model", "sd15", *shlex.split(options))
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(f"course: {line}") and done.err.count("\n") == 1


def test_a_controlnet_counts_for_the_memory(course, control, monkeypatch, published):
    from course_lib.pipelines.stable_diffusion import memory

    monkeypatch.setattr(memory, "has_bf16", lambda device: False)
    published.free = 6e9  # Stable Diffusion itself needs 4.3 + 1.2, the ControlNet 1.4
    done = course(*SAMPLE, "--model", "sd15", "--control", "canny", "--control-image", "edges.png")
    assert done.status == 1 and "GB are free: close other programs" in done.err


@pytest.mark.parametrize(
    "option", [["--size", "256"], ["--tokenizer", "words"], ["--control", "canny"]]
)
def test_sample_refuses_what_a_shipped_model_cannot_heed(course, toy, tmp_path, option):
    (tmp_path / "scenes-latent").mkdir()  # a folder of that name isn't mistaken for weights
    done = course(*SAMPLE, *option)
    assert done.status == 2 and "are only for Stable Diffusion, not for scenes-latent" in done.err


@pytest.fixture
def layout(tmp_path):
    """Three pictures: a layout, the same in negative, and an empty one."""
    page = Image.new("RGB", (90, 64))
    page.save(tmp_path / "empty.png")
    page.paste("white", (40, 20, 60, 40))
    page.save(tmp_path / "layout.png")
    Image.eval(page, lambda value: 255 - value).save(tmp_path / "negative.png")


def test_a_layout_steers_our_own_model(course, layout, tmp_path):
    """With a scale of 0 it doesn't; the LoRA of a shipped model isn't needed for it."""
    pictures = []
    for scale in ("", "0", "1"):
        steered = f"--control scenes-control --control-image layout.png --control-scale {scale}"
        done = course(*SAMPLE, *shlex.split(steered if scale else ""))
        assert done.status == 0, done.err
        pictures.append((tmp_path / "outputs/sample.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    assert "scenes-control: steers with layout.png, scale 1" in done.out.splitlines()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--control scenes-control", "--control needs --control-image, the picture that steers"),
        (
            "--control scenes-control --control-image negative.png",
            "negative.png is not a layout: that is white shapes on black, as filled areas",
        ),
        (
            "--control scenes-control --control-image empty.png",
            "empty.png is not a layout: that is white shapes on black, as filled areas",
        ),
        (
            "--control scenes-control --control-image layout.png --model emoji-latent",
            "--control scenes-control steers scenes-latent, not emoji-latent",
        ),
        (
            "--control scenes-contrl --control-image layout.png",
            "--tokenizer, --size and a folder for --control are only for Stable Diffusion, not for "
            "scenes-latent; its ControlNet is scenes-control",
        ),
        (
            "--control scenes-control --control-image layout.png --size 128",
            "--tokenizer, --size and a folder for --control are only for Stable Diffusion",
        ),
    ],
)
def test_what_cannot_steer_our_own_model_is_refused_in_one_line(
    course, layout, monkeypatch, options, line
):
    monkeypatch.setattr(recipes, "load_pipeline", None)
    done = course(*SAMPLE, *shlex.split(options))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(f"course: {line}") and done.err.count("\n") == 1


def test_sample_refuses_a_published_checkpoint_that_is_not_there(course, tmp_path):
    done = course(*SAMPLE, "--model", "models/sd15")
    assert done.status == 1 and "there is no Stable Diffusion checkpoint" in done.err
    (tmp_path / "model.ckpt").write_bytes(b"pickled")
    done = course(*SAMPLE, "--model", "model.ckpt", "--tokenizer", ".")
    assert done.status == 2 and "run any code" in done.err


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--steps", "0"], 2, "course: steps: expected a whole number, at least 1"),
        (["--count", "0"], 2, "course: count must be at least 1, got 0"),
        (["--scale", "nan"], 2, "course: scale: expected a finite number, got nan"),
        (["--sampler", "dimm"], 2, "course: unknown sampler 'dimm'; did you mean 'ddim'?"),
        (["a purple circle"], 2, "course: unknown words: 'purple'"),
        (["--out", "picture.jpg"], 2, "course: --out names a PNG file"),
        (["--out", "file/picture.png"], 1, "course: cannot make the folder file"),
    ],
)
def test_what_sample_refuses_in_one_line(course, toy, tmp_path, arguments, status, line):
    (tmp_path / "file").touch()
    done = course(*SAMPLE, *arguments)
    assert done.status == status
    assert done.err.startswith(line)
    assert done.err.count("\n") == 1
    assert done.out == ""


def test_a_size_is_refused_before_the_memory_is_announced(course, monkeypatch):
    monkeypatch.setattr(
        "course_lib.pipelines.stable_diffusion.memory.check_memory", lambda *_: "needs 4 GB"
    )
    done = course("sample", "a red fox", "--model", "sd.safetensors", "--size", 100)
    assert (done.status, done.out) == (2, "")
    assert done.err == "course: size must be a multiple of 64 pixels, got 100\n"


@pytest.fixture
def other_vae(monkeypatch, tmp_path):
    """COURSE_DATA contains an autoencoder that differs slightly from the shipped one."""
    from course_lib.common import checkpoints
    from course_lib.models import AutoencoderKL

    vae = checkpoints.load_checkpoint(AutoencoderKL, "scenes-vae")
    vae.scaling_factor *= 1.1
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path / "mine")
    checkpoints.save_checkpoint("scenes-vae", vae, half=True)


@pytest.mark.parametrize("command", ["sample 'a red circle' --out a.png", "evaluate scenes-latent"])
def test_an_autoencoder_that_the_model_was_not_trained_on(course, other_vae, tmp_path, command):
    done = course(*shlex.split(command), "--device", "cpu")
    assert done.status == 2 and done.err.count("\n") == 1
    assert re.match(
        "course: the text-to-image model was trained on scenes-vae fed805d7, but .* is ", done.err
    )
    assert not (tmp_path / "a.png").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_a_gpu_that_is_not_there(course):
    done = course("sample", "a red circle", "--device", "cuda", "--out", "a.png")
    assert done.status == 1
    assert done.err.startswith("course: ")
    assert done.err.count("\n") == 1


def test_a_full_disk_leaves_the_old_picture(course, toy, tmp_path, monkeypatch):
    course(*SAMPLE, "--out", "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = course(*SAMPLE, "--out", "a.png", "--seed", 5)
    assert done.status == 1
    assert done.err == "course: could not write a.png: No space left on device" + KEPT
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


KEPT = "; the old file is untouched\n"


def test_demo_asks_the_judges(course, tmp_path, monkeypatch):
    """Of scenes drawn as asked, and of the studios' own drawings."""
    from course_lib.datasets.emoji import picture
    from course_lib.datasets.scenes.captions import parse
    from course_lib.datasets.scenes.dataset import place_objects, render

    def perfect(pipeline, captions, seeds):
        if pipeline == "emoji-latent":
            real = torch.stack([picture(name, studio) for name, studio in draw.EMOJI])
            return real, 0.0
        rng, scenes = np.random.default_rng(0), [parse(caption) for caption in captions]
        centres, radii = zip(*(place_objects(scene, rng) for scene in scenes), strict=True)
        return render(scenes, centres, radii), 0.0

    monkeypatch.setattr(recipes, "load_pipeline", lambda name, device: name)
    monkeypatch.setattr(draw, "pictures", perfect)
    done = course("demo")
    assert done.status == 0
    assert "8 of 8 pictures match their captions" in done.out
    assert "The emoji judge names 4 of 4, and 4 of their studios" in done.out


def test_train_resumes_looks_and_keeps_the_model_to_itself(course, slope, tmp_path):
    done = course("train", "slope")
    assert done.status == 0, done.err
    folder = tmp_path / "outputs/slope"
    names = {path.name for path in folder.iterdir()}
    pictures = {"step_000003.png", "step_000006.png"}
    assert names == pictures | {"log.jsonl", "state.safetensors", "slope.json", "slope.safetensors"}
    first = json.loads((folder / "slope.json").read_text())["metrics"]
    again = course("train", "slope")
    assert again.status == 0  # nothing left to do: the same model
    assert json.loads((folder / "slope.json").read_text())["metrics"] == first
    assert len((folder / "log.jsonl").read_text().splitlines()) == 6


def test_only_publish_touches_the_shipped_models(course, slope, tmp_path, monkeypatch):
    from course_lib.common import checkpoints

    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    done = course("train", "slope", "--folder", ".", "--steps", 4)
    assert done.status == 0 and "slope.safetensors: 4 steps" in done.out
    assert (tmp_path / "slope.safetensors").exists() and not [*(tmp_path / "shipped").iterdir()]
    card = json.loads((tmp_path / "slope.json").read_text())
    assert card["command"] == "course train slope --steps 4"
    course("train", "slope", "--folder", ".", "--steps", 4, "--publish")
    assert {path.name for path in (tmp_path / "shipped").iterdir()} == {
        "slope.json",
        "slope.safetensors",
    }


@pytest.mark.parametrize("option", ["--publish", "--folder=shipped"])
def test_own_pictures_never_replace_a_shipped_model(course, tmp_path, monkeypatch, option):
    """Refused before pictures are read: this folder has none."""
    from course_lib.common import checkpoints

    for folder in ("CHECKPOINTS", "SHIPPED"):
        monkeypatch.setattr(checkpoints, folder, tmp_path / "shipped")
    (tmp_path / "shipped").mkdir(), (tmp_path / "pictures").mkdir()
    done = course("train", "scenes-vae", "--data", "pictures", option)
    assert done.status == 2 and done.err.count("\n") == 1
    assert "would replace the shipped model" in done.err and "COURSE_DATA" in done.err
    assert not (tmp_path / "outputs").exists() and not [*(tmp_path / "shipped").iterdir()]
    done = course("train", "scenes-vae", "--data", "pictures")  # its own folder is fine
    assert "pictures has no metadata.jsonl" in done.err


def test_a_pipe_that_knows_no_tick_gets_a_question_mark(tmp_path):
    environment = os.environ | {
        "PYTHONIOENCODING": "cp1252",
        "COURSE_PROGRESS": str(tmp_path / "p"),
    }
    command = [sys.executable, "-m", "course_lib.cli", "progress"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0 and b"? ? ?" in done.stdout, done.stderr


def test_lab_tells_notebooks_where_the_readers_folder_is(monkeypatch, tmp_path):
    from jupyterlab import labapp

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COURSE_DATA", "mine")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    monkeypatch.setattr(labapp, "main", lambda arguments: None)
    start.lab(SimpleNamespace(args=[]))
    assert os.environ["COURSE_DATA"] == str(tmp_path / "mine")


def test_train_until_it_is_good_enough(course, slope, tmp_path):
    log = tmp_path / "outputs/slope/log.jsonl"
    done = course("train", "slope", "--until", 0.1)  # AdamW's first steps: 0.1 each, averaged
    assert done.status == 0 and len(log.read_text().splitlines()) == 3
    right, minutes = re.search(r"step 3: (.*)% right after (.*) minutes", done.out).groups()
    assert float(right) >= 10 and float(minutes) == 0
    done = course("train", "slope", "--until", 1)  # never reached: it goes on to the end
    assert done.status == 0 and len(log.read_text().splitlines()) == 6
    assert "step 6: " in done.out


def test_evaluate_sets_new_figures_beside_the_cards(course, slope, tmp_path):
    course("train", "slope", "--steps", 4)
    done = course("evaluate", "slope", "--weights", "outputs/slope/slope", "--count", 5)
    assert done.status == 0, done.err
    header, _, row = done.out.splitlines()
    assert header == "| slope | now | samples | 95 % interval | card |"
    name, now, count, _, card = (cell.strip() for cell in row.strip("|").split("|"))
    assert (name, count) == ("slope", "5")
    assert now == card != ""


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["train", "digits-dpm"], 2, "unknown recipe 'digits-dpm'; did you mean 'digits-ddpm'?"),
        (["train", "slope", "--steps", "0"], 2, "steps must be a whole number, at least 1; got 0"),
        (["train", "slope", "--until", "95"], 2, "--until takes a share in (0, 1]"),
        (["train", "slope", "--folder", "file/x"], 1, "cannot make the folder file/x"),
        (["cost", "slope", "--gpu", "h1000"], 2, "unknown GPU 'h1000'; did you mean 'h100'"),
        (["cost", "slope", "--gpus", "0"], 2, "gpus must be at least 1 and divide 1, the batches"),
        (["evaluate", "slop"], 2, "unknown recipe 'slop'; did you mean 'slope'?"),
        (["evaluate", "slope"], 1, "`course train slope --publish` makes it, if that"),
        (["evaluate", "slope", "--count", "1"], 2, "count must be at least 2, got 1"),
        (["evaluate", "slope", "--weights", "torn"], 2, "torn"),
    ],
)
def test_what_train_and_evaluate_refuse_in_one_line(
    course, slope, tmp_path, monkeypatch, arguments, status, line
):
    monkeypatch.setattr("course_lib.common.checkpoints.CHECKPOINTS", tmp_path)
    (tmp_path / "file").touch()
    course("train", "slope", "--steps", "1", "--folder", "good")
    card = (tmp_path / "good/slope.json").read_text()
    (tmp_path / "torn.json").write_text(card)
    (tmp_path / "torn.safetensors").write_bytes(b"half of it")
    done = course(*arguments)
    assert done.status == status
    assert done.err.startswith("course: ")
    assert line in done.err
    assert done.err.count("\n") == 1


def test_progress_counts_chapter_by_chapter_and_resets(course, monkeypatch, tmp_path):
    monkeypatch.setattr(solved, "PROGRESS", tmp_path / "progress.json")
    for number in ("0.1", "0.3"):
        assert solved.record(number) == ""
    out = course("progress").out.splitlines()
    assert out[0].startswith("00 · Start here") and out[0].endswith("✓ ○ ✓        2 of 3")
    assert re.fullmatch(r"2 of \d+ exercises solved", out[-1])
    assert course("progress", "--reset").out.splitlines()[-1].startswith("0 of ")
    assert course("progress", "--reset").status == 0, "there was nothing left to forget"
    assert not solved.PROGRESS.exists()


def test_progress_says_in_one_line_that_its_file_is_damaged(course, monkeypatch, tmp_path):
    monkeypatch.setattr(solved, "PROGRESS", tmp_path / "progress.json")
    solved.PROGRESS.write_text("{")
    told = course("progress")
    assert told.status == 2 and told.err.count("\n") == 1 and "--reset" in told.err
    assert course("progress", "--reset").status == 0


def test_ctrl_c_says_that_it_can_go_on(course, slope, monkeypatch):
    def interrupted(self, model):
        raise KeyboardInterrupt

    monkeypatch.setattr(Slope, "samples", interrupted)
    done = course("train", "slope")
    assert done.status == 130
    assert "Stopped at step 3; the same command resumes" in done.out
    done = course("train", "slope", "--fresh")
    assert "Stopped at step 3; the same command without --fresh resumes" in done.out


def test_a_place_to_publish_is_refused_before_the_training(course, slope, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr("course_lib.common.checkpoints.CHECKPOINTS", tmp_path / "file")
    done = course("train", "slope", "--publish")
    assert done.status == 1 and "cannot make the folder" in done.err
    assert not (tmp_path / "outputs").exists()


def test_a_bug_of_ours_is_not_hidden(course, monkeypatch):
    def bug():
        raise TypeError("a bug")

    monkeypatch.setattr(doctor, "examine", bug)
    with pytest.raises(TypeError, match="a bug"):
        course("doctor")


@pytest.mark.parametrize(("level", "status"), [("OK", 0), ("WARN", 0), ("FAIL", 1)])
def test_doctor_fails_if_a_check_fails(course, monkeypatch, level, status):
    findings = [doctor.Finding("OK", "one", "fine"), doctor.Finding(level, "two", "so so", "mend")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(findings))
    done = course("doctor")
    assert done.status == status
    assert done.out.splitlines() == [
        "OK    one          fine",
        f"{level:<5} two          so so -> mend",
    ]


@pytest.fixture
def jupyterlab(monkeypatch, tmp_path):
    """The arguments that JupyterLab would be started with."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks/00_start_here.ipynb").touch()
    monkeypatch.setattr(start, "ROOT", tmp_path)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", str(tmp_path / "mine"))
    started = []
    monkeypatch.setattr("jupyterlab.labapp.main", started.append)
    return started


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("display", [True, False])
def test_lab_opens_the_first_chapter(course, jupyterlab, monkeypatch, tmp_path, root, display):
    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000, raising=False)
    monkeypatch.setattr(start, "has_desktop", lambda: display)
    assert course("lab", "--port", "9999").status == 0
    (arguments,) = jupyterlab
    assert arguments[:2] == [
        f"--ServerApp.root_dir={tmp_path}",
        "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb",
    ]
    assert arguments[-2:] == ["--port", "9999"]
    assert ("--allow-root" in arguments) == root
    assert ("--no-browser" in arguments) == (not display)


def test_lab_asks_for_no_news_and_no_updates(course, jupyterlab, tmp_path):
    from jupyterlab.commands import get_app_dir
    from jupyterlab_server.settings_utils import get_settings

    course("lab")
    assert os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)[1:] == [str(tmp_path / "mine")]
    folders = [f"{get_app_dir()}/settings", f"{get_app_dir()}/schemas", str(tmp_path)]
    plugin = "@jupyterlab/apputils-extension:notification"
    found = get_settings(*folders, schema_name=plugin)[0]["schema"]["properties"]
    assert found["fetchNews"]["default"] == "false"  # "none" asks, "true" fetches
    assert found["checkForUpdates"]["default"] is False


def test_lab_without_the_notebooks(course, jupyterlab, tmp_path):
    (tmp_path / "notebooks/00_start_here.ipynb").unlink()
    done = course("lab")
    assert done.status == 1
    assert done.err.startswith("course: notebooks/00_start_here.ipynb is not beside course_lib")


def test_a_picture_is_what_the_model_drew(tmp_path):
    """White, black and mid grey reach the file as they are."""
    images = torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    draw.write_grid(tmp_path / "a.png", images, ["", "", ""], columns=3)
    pixels = np.asarray(Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).convert("L"))
    middle = pixels[pixels.shape[0] // 2]
    levels, counts = np.unique(middle, return_counts=True)
    assert {0, 255} <= set(levels[counts > 50])
    assert {127, 128} & set(levels[counts > 50])


def test_the_help_lists_every_sampler(course):
    from course_lib.diffusion.samplers import SAMPLERS

    help_text = "".join(course("sample", "--help").out.split())
    assert all(name in help_text for name in SAMPLERS)


# ---- commands for lecturers --------------------------------------------------------------------


def test_editions_refuse_a_folder_that_is_in_use(course, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for edition in ("student", "lecturer", "nbgrader"):
        done = course("edition", edition, "mine")
        assert (done.status, done.err.count("\n")) == (2, 1) and "is not empty" in done.err
    assert course("edition", "colab", "mine").status == 2  # without --source


def test_an_nbgrader_edition_says_what_comes_next(course, tmp_path):
    done = course("edition", "nbgrader", "out")
    assert done.status == 0 and "nbgrader generate_assignment" in done.out
    assert (tmp_path / "out" / "source" / "00_start_here" / "00_start_here.ipynb").exists()


def test_slides_name_the_extra_that_they_need(course, monkeypatch):
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)  # as if it weren't installed
    monkeypatch.delitem(sys.modules, "course_lib.authoring.slides", raising=False)
    monkeypatch.delattr("course_lib.authoring.slides", raising=False)
    done = course("edition", "slides", "out")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert 'latex2mathml.converter: pip install -e ".[slides]"' in done.err


def test_grading_refuses_in_one_line(course, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.csv").mkdir()
    for arguments, told in (
        (("nowhere", "--seed", "1"), "there is no folder nowhere"),
        (("empty", "--seed", "0"), "seed 0 is the students'"),
        (("empty", "--seed", "1", "--trusted"), "holds no notebooks"),
        (("empty", "--seed", "1", "--jobs", "0"), "at least 1; got 180 and 0"),
        (("empty", "--seed", "1", "--seconds", "-5"), "at least 1; got -5 and 2"),
        (("empty", "--seed", "1", "--csv", "folder.csv"), "a file that ends in .csv"),
        (("empty", "--seed", "1", "--csv", "verdicts"), "a file that ends in .csv"),
    ):
        done = course("grade", "--csv", "out.csv", *arguments)
        assert (done.status, done.err.count("\n")) == (2, 1) and told in done.err


def test_card_prints_or_writes_and_names_the_nearest(course, tmp_path):
    done = course("card", "digits-vae")
    assert done.status == 0 and done.out.startswith("# Model card: digits-vae\n")
    assert course("card", "digits-vae", "--out", "new/card.md").out == (
        f"new/card.md: {len(done.out.splitlines())} lines\n"
    )
    assert (tmp_path / "new" / "card.md").read_text("utf-8") == done.out
    wrong = course("card", "digits-vea")
    assert (wrong.status, wrong.err.count("\n")) == (2, 1)
    assert "unknown card 'digits-vea'; did you mean 'digits-vae'?" in wrong.err
