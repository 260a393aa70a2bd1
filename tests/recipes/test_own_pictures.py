"""Training on a folder of one's own: nothing held out is trained on, and it is what is measured."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from course_lib.common.checkpoints import save_checkpoint
from course_lib.datasets.folder import CaptionedFolder
from course_lib.models import AutoencoderKL
from course_lib.recipes import make_recipe
from course_lib.recipes.emoji import EmojiLatent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty pictures of noise, of which every other is followed by a darker copy of it."""
    folder, lines = tmp_path_factory.mktemp("pictures"), []
    for number in range(20):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        for factor in (1, 0.95)[: 1 + number % 2]:
            name = f"{number}-{factor}.png"
            Image.fromarray((pixels * factor).astype(np.uint8)).save(folder / name)
            caption = f"drawing {chr(97 + number) * 3}"  # a word of its own for each
            lines.append(json.dumps({"file_name": name, "text": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def latent(folder, tmp_path_factory):
    """The text-to-image recipe, small, on an autoencoder that was never trained."""
    torch.manual_seed(0)
    vae = AutoencoderKL(latent_channels=24, channels=16, multipliers=(1,), patch_size=8)
    path = save_checkpoint(tmp_path_factory.mktemp("vae") / "vae", vae)

    class Latent(EmojiLatent):
        components = str(path), None
        unet = EmojiLatent.unet | dict(channels=16)
        text = dict(dim=192, layers=1)

    return Latent(CaptionedFolder(folder))


@pytest.mark.parametrize("name", ["scenes-vae", "emoji-vae"])
def test_no_held_out_picture_and_no_copy_of_one_is_trained_on(folder, name):
    recipe = make_recipe(name, folder)
    trained, _ = recipe.data.batch(range(len(recipe.data)))
    images, _ = recipe.held_out(500)
    assert (len(trained), len(images)) == (27, 3)  # a tenth, each once however many are asked for
    assert len(recipe.held_out(2)[1]) == 2
    numbers = [
        {name.split("-")[0] for name in (p.name for p in d.paths)}
        for d in (recipe.data, recipe.unseen)
    ]
    assert not numbers[0] & numbers[1]  # a picture and its darker copy are on the same side
    x, y = (part.flatten(1) - part.flatten(1).mean(1, keepdim=True) for part in (images, trained))
    r = (x / x.norm(dim=1, keepdim=True)) @ (y / y.norm(dim=1, keepdim=True)).T
    assert r.max() < 0.5
    drawn, titles = recipe.samples(recipe.model())
    assert len(drawn) == len(titles) == 6  # the three, and their reconstructions
    (psnr,) = recipe.measure(recipe.model(), 500)
    assert psnr.property == "psnr" and psnr.count == 3


def test_every_recipe_holds_out_the_same_pictures(folder):
    first, second = (make_recipe(name, folder) for name in ("scenes-clip", "emoji-vae"))
    assert first.unseen.paths == second.unseen.paths


def test_the_tokenizer_knows_the_words_of_held_out_captions(latent):
    words = {word for caption in latent.unseen.captions for word in caption.split()}
    trained = {word for caption in latent.data.captions for word in caption.split()}
    assert words - trained and words <= latent.clip.tokenizer.words


def test_the_test_loss_is_that_of_held_out_pictures_beside_as_many_known_ones(latent):
    torch.manual_seed(0)
    model = latent.model().eval()
    test, train = latent.measure(model, 500)
    assert (test.property, train.property) == ("test_loss", "train_loss")
    assert test.count == train.count == 3
    for metric, data in ((test, latent.unseen), (train, latent.data)):
        images, captions = data.batch(range(3))
        assert metric.value == latent.fixed_loss(model, images, captions, draws=10)
    once, often = (latent.fixed_loss(model, *latent.held_out(3), draws=n) for n in (1, 10))
    assert once != often  # ten times, each with other noise
    images, captions = latent.samples(model)
    assert len(images) == 3 and sorted(captions) == sorted(latent.unseen.captions)


def test_a_caption_that_is_too_long_is_refused_before_training(latent, folder, tmp_path):
    data = CaptionedFolder(folder)
    data.captions[3] = "drawing " * 40
    with pytest.raises(ValueError, match="at most 32 tokens"):
        type(latent)(data)


def test_clip_is_measured_on_whole_sets_of_64_or_on_all_there_are(folder, monkeypatch):
    recipe = make_recipe("scenes-clip", folder)
    model = recipe.model()
    assert {metric.count for metric in recipe.measure(model, 500)} == {3}
    images, captions = recipe.data.batch(range(130))
    monkeypatch.setattr(recipe, "held_out", lambda count: (images[:count], captions[:count]))
    assert {metric.count for metric in recipe.measure(model, 500)} == {128}
