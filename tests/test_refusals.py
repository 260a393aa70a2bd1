"""Bad input gives one clear line: damaged files, hostile captions, wrong shapes, dtypes and NaN.

Each case has a call and the words that its error must contain; the modules' own tests have more.
"""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from course_lib.common.checkpoints import load_checkpoint, save_checkpoint
from course_lib.diffusion import (
    DDPM,
    Diffusion,
    drop_condition,
    generators,
    guided,
    initial_noise,
    sample,
    time_grid,
)
from course_lib.diffusion.schedules import Table
from course_lib.evaluation import PromptOracle
from course_lib.evaluation.distances import floor, frechet_distance
from course_lib.models import AutoencoderKL, ImageEncoder, Tokenizer, UNet
from course_lib.pipelines import image_to_image, inpaint, text_to_image
from course_lib.recipes import RECIPES

CARD = dict(seed=0, steps=1)
SMALL = dict(channels=8, multipliers=(1,), patch_size=4, attention=False)
PROCESS = Diffusion("linear", "eps")
UNET = UNet(3, channels=16, multipliers=(1, 2), attention=(False, True), context_dim=8)
LABELLED = UNet(3, channels=16, multipliers=(1,), attention=(False,), classes=10)
X, T, CONTEXT = torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.zeros(2, 5, 8)
VAE = AutoencoderKL(**SMALL)
EYE = ImageEncoder(size=16, patch_size=2, channels=8, dim=8, layers=1, heads=2)
ANY = Tokenizer.train(["a red circle on blue"], 60, 8)


def nan_network(x, timestep, context=None):
    return torch.full_like(x, torch.nan)


CASES = {
    "a U-Net's input of another width": (lambda: UNET(X[:, :2], T, CONTEXT), "(2, 2, 8, 8)"),
    "a U-Net's input of whole numbers": (lambda: UNET(X.int(), T, CONTEXT), "int32"),
    "a U-Net's input of odd size": (lambda: UNET(X[..., :7], T, CONTEXT), "(2, 3, 8, 7)"),
    "a U-Net without its context": (lambda: UNET(X, T), "context: expected (2, L, 8)"),
    "a context of another width": (lambda: UNET(X, T, CONTEXT[..., :7]), "expected (2, L, 8)"),
    "a context of another batch": (lambda: UNET(X, T, CONTEXT[:1]), "expected (2, L, 8)"),
    "three times for two samples": (lambda: UNET(X, torch.zeros(3), CONTEXT), "(3,)"),
    "labels that are fractions": (
        lambda: LABELLED(X, T, T),
        "expected (2,) torch.int32 or torch.int64",
    ),
    "a label out of range": (
        lambda: LABELLED(X, T, torch.tensor([0, 11])),
        "expected values in [0, 10], got [0, 11]",
    ),
    "an unknown schedule": (lambda: Diffusion("quadratic", "eps"), "unknown schedule"),
    "an unknown prediction": (lambda: Diffusion("linear", "noise"), "unknown prediction"),
    "a time beyond 1": (lambda: PROCESS.add_noise(X, 1.5, X), "1.5"),
    "a time that is no number": (lambda: PROCESS.add_noise(X, float("nan"), X), "nan"),
    "noise of another shape": (lambda: PROCESS.loss(UNET, X, CONTEXT, 0.5, X[:1]), "eps"),
    "steps that are none": (lambda: time_grid(PROCESS.schedule, 0), "at least 1"),
    "steps that are half": (lambda: time_grid(PROCESS.schedule, 1.5), "1.5"),
    "more steps than the table": (lambda: time_grid(PROCESS.schedule, 1001), "1001 steps"),
    "an unknown sampler": (lambda: sample(PROCESS, UNET, X, sampler="dimm"), "did you mean 'ddim'"),
    "an eta beyond 1": (lambda: sample(PROCESS, UNET, X, eta=2), "eta"),
    "a table that begins with noise": (
        lambda: Table(torch.ones(2)),
        "the first below 1",
    ),
    "DDPM's generators, too few": (
        lambda: DDPM(UNET, 10).sample((4, 1, 8, 8), generators=generators([0])),
        "expected 4, one per sample, got 1",
    ),
    "a time in bytes": (
        lambda: DDPM(UNET, 10)(X, torch.zeros(len(X), dtype=torch.uint8)),
        "t: expected indices < 10 on cpu, (B,), got (2,) torch.uint8",
    ),
    "a spread of one number": (
        lambda: VAE.fit_scaling(torch.zeros(1, 3, 4, 4)),
        "expected several numbers per channel",
    ),
    "a seed of 80 bits": (lambda: generators([2**80]), "from 0 to 4294967295; got 1208"),
    "a seed of 33 bits for a distance": (
        lambda: floor(frechet_distance, torch.eye(4), 2, seed=2**32),
        "from 0 to 4294967295; got 4294967296",
    ),
    "a seed of 33 bits for a training": (
        lambda: RECIPES["digits-ddpm"]().begin(seed=2**32),
        "from 0 to 4294967295; got 4294967296",
    ),
    "noise of whole numbers": (lambda: sample(PROCESS, UNET, X.int()), "floating-point noise"),
    "rising times": (lambda: sample(PROCESS, UNET, X, spacing=[0.1, 0.5]), "two or more that fall"),
    "a wrong count of generators": (
        lambda: sample(PROCESS, UNET, X, generators=[torch.Generator()]),
        "one per sample, got 1",
    ),
    "DDPM's index out of range": (lambda: DDPM(UNET)(X, torch.tensor([0, 1000])), "< 1000"),
    "a probability beyond 1": (lambda: drop_condition(CONTEXT, CONTEXT[:1], 1.5), "1.5"),
    "a null condition that fits nothing": (
        lambda: guided(UNET, torch.zeros(1, 4, 8), 2.0)(X, T, CONTEXT),
        "(1, 4, 8)",
    ),
    "guidance without a condition": (lambda: guided(UNET, CONTEXT, 2.0)(X, T, None), "None"),
    "pictures in 0..255": (lambda: VAE.encode(255 * torch.rand(1, 3, 8, 8)), "[-1, 1]"),
    "pictures of bytes": (lambda: VAE.encode(torch.zeros(1, 3, 8, 8).byte()), "uint8"),
    "a picture without a batch": (lambda: VAE.encode(torch.zeros(3, 8, 8)), "(3, 8, 8)"),
    "latents of another width": (lambda: VAE.decode(torch.zeros(1, 3, 2, 2)), "latents: expected"),
    "a picture of another size": (lambda: EYE(torch.zeros(1, 3, 8, 8)), "(1, 3, 8, 8)"),
    "the oracle on bytes": (lambda: PromptOracle().read(torch.zeros(1, 3, 64, 64).byte()), "uint8"),
    "the oracle on grey": (
        lambda: PromptOracle().read(torch.zeros(1, 1, 64, 64)),
        "(1, 1, 64, 64)",
    ),
    "10,000 words": (lambda: ANY(" ".join(["red"] * 10_000)), "got 10002"),
    "another alphabet": (lambda: ANY("ein roter Kreis, красный круг"), "unknown words"),
    "control characters": (lambda: ANY("red\x00\x1b[2Jcircle"), "unknown words"),
    "an emoji": (lambda: ANY("a red 🔴"), "unknown words"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_is_one_line_that_says_what_came(case):
    call, words = CASES[case]
    with pytest.raises(ValueError) as refused:
        call()
    line = str(refused.value)
    assert words in line and "\n" not in line and len(line) < 600, line


HOSTILE = [
    "",
    " ",
    "\x00",
    "a" * 5000,
    "🔴" * 200,
    "‮circle red a",
    "'; drop table",
    "{0.__class__}",
]


@pytest.mark.parametrize("caption", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_captions_are_drawn_or_refused_by_name(toy_pipeline, caption):
    """Only the null caption and blank captions are accepted."""
    if not caption.strip():
        assert text_to_image(toy_pipeline, [caption], steps=1).isfinite().all()
        return
    with pytest.raises(ValueError, match=r"unknown words|tokens") as refused:
        text_to_image(toy_pipeline, [caption], steps=1)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: text_to_image(p, []), "no captions"),
        (lambda p: text_to_image(p, ["a red circle"], seeds=[1, 2]), "2 seeds"),
        (lambda p: text_to_image(p, ["a red circle"], scale=float("nan")), "finite"),
        (lambda p: text_to_image(p, ["a red circle"], steps=0), "at least 1"),
        (
            lambda p: image_to_image(p, torch.zeros(1, 3, 16, 16), ["a red circle"]),
            "(1, 3, 32, 32)",
        ),
        (
            lambda p: image_to_image(p, torch.zeros(1, 3, 32, 32), ["a red circle"], strength=0),
            "(0, 1]",
        ),
        (
            lambda p: inpaint(
                p, torch.zeros(1, 3, 32, 32), torch.full((1, 1, 32, 32), 0.5), ["a red circle"]
            ),
            "0 (keep) and 1 (paint)",
        ),
    ],
)
def test_the_pipelines_refuse(toy_pipeline, call, words):
    with pytest.raises(ValueError) as refused:
        call(toy_pipeline)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_network_that_answers_nan_gives_nan_and_no_endless_loop():
    assert sample(PROCESS, nan_network, X, steps=2).isnan().all()


def test_an_empty_batch_is_refused_where_its_noise_is_drawn():
    with pytest.raises(ValueError, match="at least one generator"):
        initial_noise([], (3, 8, 8))


# ---- damaged checkpoints -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = save_checkpoint(tmp_path_factory.mktemp("c") / "vae", AutoencoderKL(**SMALL), **CARD)
    return path, path.read_bytes(), path.with_suffix(".json").read_text()


def refused(path) -> str:
    with pytest.raises(ValueError) as caught:
        load_checkpoint(AutoencoderKL, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_or_lost_tail_is_noticed(written, data):
    path, content, card = written
    damaged = bytearray(content)
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        damaged[place] ^= data.draw(st.integers(1, 255))
    else:
        del damaged[place:]
    path.write_bytes(damaged)
    path.with_suffix(".json").write_text(card)
    assert "checksum" in refused(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(max_examples=40, deadline=None)
@given(value=json_values | st.text(max_size=20))
def test_a_card_that_is_no_card_is_refused(written, value):
    path, content, _ = written
    path.write_bytes(content)
    text = value if isinstance(value, str) else json.dumps(value)
    path.with_suffix(".json").write_text(text)
    assert "card" in refused(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: {"only": torch.zeros(1)},
        lambda weights: weights | {"extra": torch.zeros(1)},
        lambda weights: {name: w for name, w in weights.items() if name != "shift_factor"},
        lambda weights: {name: w.flatten() for name, w in weights.items()},
    ],
    ids=["other names", "one too many", "one missing", "other shapes"],
)
def test_other_weights_under_a_right_checksum_are_refused(written, change):
    import hashlib

    path, _, card = written
    weights = change(dict(AutoencoderKL(**SMALL).state_dict()))
    save_file(weights, path)
    facts = json.loads(card) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    path.with_suffix(".json").write_text(json.dumps(facts))
    assert "AutoencoderKL" in refused(path)


def test_a_pickle_with_another_name_is_never_opened(written):
    path, _, card = written
    torch.save({"weights": torch.zeros(1)}, path)
    path.with_suffix(".json").write_text(card)
    assert "checksum" in refused(path)
