"""Recipes: seeded, resumable by name, publishable; and their metrics work."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from course_lib.common.checkpoints import load_checkpoint
from course_lib.common.registry import choose
from course_lib.datasets.scenes.captions import parse
from course_lib.evaluation.metrics import from_card
from course_lib.models import TextUNet, capture
from course_lib.recipes import RECIPES, make_recipe
from course_lib.recipes.digits import like_real, right_digit
from course_lib.recipes.recipe import curve
from course_lib.training import Scale

DIGITS = ["digits-ddpm", "digits-classes", "digits-vae"]


@pytest.mark.parametrize("name", DIGITS)
def test_a_few_steps_published_and_loaded(name, tmp_path):
    recipe = choose("recipe", name, RECIPES)()
    state = torch.get_rng_state()
    run = recipe.begin(steps=3, folder=tmp_path, device="cpu", scale=Scale())
    losses = [step.loss for step in run]
    assert torch.equal(state, torch.get_rng_state())
    again = RECIPES[name]().begin(steps=3, device="cpu", scale=Scale())
    assert [step.loss for step in again] == losses  # the seed decides weights, data and noise
    images, titles = recipe.samples(run.ema)
    assert images.shape == (40, 1, 16, 16) and len(titles) == 40 and images.isfinite().all()
    path = recipe.publish(run, tmp_path / name, count=10)
    model = load_checkpoint(type(run.model), path)
    assert model.card["command"] == f"course train {name}"
    metrics = {metric.property: metric for metric in from_card(model.card)}
    assert metrics["like_real"].count == 10
    assert [point[0] for point in model.card["curve"]] == [1, 2, 3]
    shares = [m for m in metrics.values() if "like" in m.property or "right" in m.property]
    assert all(0 <= m.interval[0] <= m.value <= m.interval[1] <= 1 for m in shares)


def test_fewer_steps_are_the_first_steps_or_a_squeezed_schedule():
    full = RECIPES["digits-vae"]().begin(device="cpu")
    assert full.steps == RECIPES["digits-vae"].settings["steps"]
    assert RECIPES["digits-vae"]().begin(device="cpu", steps=50).settings["warmup"] == 5


def test_unknown_recipe():
    with pytest.raises(ValueError, match="unknown recipe 'digit-ddpm'; did you mean 'digits-ddpm'"):
        choose("recipe", "digit-ddpm", RECIPES)


def test_the_judges_know_real_digits_from_noise():
    recipe = RECIPES["digits-vae"]()
    assert like_real(recipe.test_images, recipe) == pytest.approx(0.99, abs=1 / 256)
    assert like_real(torch.rand(64, 1, 16, 16) * 2 - 1, recipe) == 0
    assert right_digit(recipe.test_images, recipe.test_labels, recipe) > 0.97  # 1-NN: 98-99 %
    assert right_digit(recipe.test_images, (recipe.test_labels + 1) % 10, recipe) < 0.03


def test_the_curve_is_the_mean_of_stretches(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f'{{"step": {i + 1}, "loss": {float(i)}}}\n' for i in range(205)))
    points = curve(log)
    assert len(points) == 102 and points[0] == [2, 0.5] and points[-1] == [204, 202.5]


@pytest.fixture
def folder(tmp_path):
    """Two plain pictures whose captions share no word with the scenes."""
    for name, colour in (("sea", (0, 90, 200)), ("sand", (220, 200, 120))):
        Image.new("RGB", (80, 64), colour).save(tmp_path / f"{name}.png")
    lines = [json.dumps({"file_name": f"{n}.png", "text": f"the {n}"}) for n in ("sea", "sand")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    return tmp_path


def test_the_autoencoder_learns_a_folder_of_ones_own(folder):
    recipe = make_recipe("scenes-vae", folder)
    run = recipe.begin(steps=40, device="cpu", scale=Scale(accumulate=2))
    losses = [step.loss for step in run]
    assert losses[-1] < losses[0] / 2
    assert [m.property for m in recipe.measure(run.ema, 4)] == ["psnr"]


def test_clip_learns_a_folder_without_captions_that_lie(folder):
    recipe = make_recipe("scenes-clip", folder)
    assert recipe.model().tokenizer.words == {"the", "sea", "sand"}
    images, captions, negatives = recipe.batch(0)
    assert len(images) == len(captions) == recipe.batch_size and negatives == []
    found = [metric.property for metric in recipe.measure(recipe.model(), 64)]
    assert found == ["image_to_text", "text_to_image"]


def test_clip_refuses_a_long_caption_before_it_trains(folder):
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    entry = json.loads(lines[-1]) | {"text": " ".join(["word"] * 30)}
    lines[-1] = json.dumps(entry)
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="24"):
        make_recipe("scenes-clip", folder).model()


def test_captions_the_text_encoder_never_saw_are_refused_by_word(folder):
    with pytest.raises(ValueError, match=r"unknown words: '(sea|sand)'"):
        make_recipe("scenes-latent", folder).batch(0)


def test_the_latent_recipe_goes_on_with_scenes_that_it_has_encoded():
    """Later batches are rows of one half of the pool, each with its own caption; any can be first.

    Odd batches reuse odd ones, so that the other of two processes doesn't need to encode them.
    """
    recipe = make_recipe("scenes-latent")
    recipe.pool = 4
    first, second = recipe.batch(1), recipe.batch(3)
    torch.manual_seed(5)
    later = recipe.batch(7)
    fresh = make_recipe("scenes-latent")
    fresh.pool = 4
    torch.manual_seed(5)
    assert all(map(torch.equal, fresh.batch(7), later))  # resumed: nothing was encoded before
    pool = [torch.cat(pair).flatten(1) for pair in zip(first, second, strict=True)]
    rows = [(pool[0] == x0.flatten()).all(1).nonzero().flatten().tolist() for x0 in later[0]]
    assert all(len(row) == 1 for row in rows) and len({row[0] for row in rows}) > 16
    for part, own in zip(pool, later, strict=True):
        assert torch.equal(part[[row[0] for row in rows]], own.flatten(1))


def test_a_training_goes_on_with_the_same_autoencoder_alone(tmp_path):
    recipe = make_recipe("scenes-latent")
    options = dict(steps=1, folder=tmp_path, scale=Scale(), device="cpu")
    list(recipe.begin(**options))
    assert recipe.begin(**options).done == 1
    recipe.vae.card = recipe.vae.card | {"sha256": "0123456789"}
    with pytest.raises(
        ValueError, match=r"data=scenes-vae .*, not scenes-vae 01234567, scenes-clip"
    ):
        recipe.begin(**options)


def test_a_training_goes_on_with_the_same_pictures_alone(folder, tmp_path_factory):
    """Neither another folder of the same name nor a changed folder can resume."""
    data, runs = tmp_path_factory.mktemp("a") / "train", tmp_path_factory.mktemp("runs")
    options = dict(steps=1, folder=runs, scale=Scale(), device="cpu")
    shutil.copytree(folder, data)
    run = make_recipe("scenes-vae", data).begin(**options)
    list(run)
    assert run.card["settings"]["data"].keys() == {"pictures"}  # on the card of the model, too
    copy = shutil.copytree(data, tmp_path_factory.mktemp("b") / "elsewhere")
    assert make_recipe("scenes-vae", copy).begin(**options).done == 1
    for name in ("sea", "sand"):  # the names, captions and sizes stay
        Image.new("RGB", (80, 64), "red").save(data / f"{name}.png")
    other = r"state.safetensors was trained with data=pictures \w{8}, not pictures \w{8}: keep"
    for _ in "first", "again":  # a refusal leaves the state as it was
        with pytest.raises(ValueError, match=other):
            make_recipe("scenes-vae", data).begin(**options)
    with pytest.raises(ValueError, match=r"data=pictures \w{8}, not None"):
        make_recipe("scenes-vae").begin(**options)
    assert make_recipe("scenes-vae", copy).begin(**options).done == 1


def test_the_alignment_with_clip_is_part_of_the_training_loss_alone():
    recipe = make_recipe("scenes-latent")
    model = recipe.model()
    x0, ids, seen = recipe.batch(0)
    assert seen.shape == (32, 128, 4, 4) and seen.mean((0, 2, 3)).abs().max() < 1e-4
    x0, ids, seen = x0[:8], ids[:8], seen[:8]
    losses = {}
    for mode in (True, False):
        torch.manual_seed(0)
        losses[mode] = recipe.loss(model.train(mode), (x0, ids, seen)).item()
    torch.manual_seed(0)
    with capture(model.projection_head) as projected:
        recipe.loss(model.train(), (x0, ids, seen))
    cosine = torch.nn.functional.cosine_similarity(projected[0], seen).mean().item()
    assert losses[True] - losses[False] == pytest.approx(0.5 * (1 - cosine), rel=1e-4)


def test_the_projection_head_is_trained_and_not_published(tmp_path):
    recipe = make_recipe("scenes-latent")
    run = recipe.begin(steps=1, folder=tmp_path, scale=Scale(), device="cpu")
    list(run)
    weights = [name for name, _ in run.model.named_parameters() if "projection_head" in name]
    assert len(weights) == 4 and all(run.model.get_parameter(w).grad.any() for w in weights)
    with safe_open(tmp_path / "state.safetensors", "pt") as state:  # it is there to go on with
        assert {f"{kind}.{w}" for kind in ("model", "ema") for w in weights} <= set(state.keys())
    published = recipe.for_inference(run.ema)
    plain = TextUNet(**run.ema.kwargs)
    plain.load_state_dict(published.state_dict())  # strict: nothing is missing or left over
    assert hasattr(run.ema, "projection_head")  # the training goes on with it


def test_the_text_encoder_starts_as_clips_and_learns_on():
    recipe = make_recipe("scenes-latent")
    model = recipe.model().train()
    ids = recipe.clip.ids(["a red circle", "a blue square"])
    assert torch.equal(model.text_encoder(ids), recipe.clip.text_encoder(ids))
    for parameter in model.unet.parameters():  # its zeros would keep every gradient from the words
        parameter.data += 0.01
    recipe.loss(model, recipe.batch(0)).backward()
    assert model.text_encoder.token_embedding.weight.grad.abs().max() > 0
    assert (
        recipe.clip.text_encoder.token_embedding.weight.grad is None
    )  # CLIP itself stays as it is


def test_batches_hold_the_kinds_in_the_parts_that_the_recipe_says():
    recipe = RECIPES["scenes-latent"]()
    kinds = [parse(caption).kind for caption in recipe.pairs(3)[1]]
    assert kinds == ["single"] * 6 + ["pair"] * 20 + ["count"] * 6
    kinds = [parse(caption).kind for caption in RECIPES["scenes-vae"]().pairs(3)[1]]
    assert kinds[8:] == ["pair"] * 8 and len(set(kinds[:8])) == 3
    for recipe in RECIPES.values():
        assert sum(getattr(recipe, "kinds", {None: 1}).values()) == 1


def test_the_rival_in_pixels_draws_too(monkeypatch):
    from course_lib.recipes import scenes

    steps = []
    monkeypatch.setattr(scenes, "sample", lambda *a, **_: steps.append(a) or a[2])
    recipe = RECIPES["scenes-pixel"]()
    images, captions = recipe.samples(recipe.model())
    assert images.shape == (24, 3, 64, 64) and len(captions) == 24 and len(steps) == 1


def test_small_counts_are_measured_on_what_there_is():
    recipe = RECIPES["scenes-clip"]()
    model = recipe.model()
    few, some = (recipe.measure(model, count) for count in (1, 64))
    assert few == some  # never less than one game of 64
    assert [len(recipe.held_out(count)[1]) for count in (1, 2, 5)] == [1, 2, 5]


@pytest.mark.parametrize("name", ["digits-ddpm", "scenes-features"])
def test_what_needs_labels_takes_no_folder(folder, name):
    with pytest.raises(ValueError, match=f"{name} can't learn from a folder.*scenes-vae"):
        make_recipe(name, folder)
