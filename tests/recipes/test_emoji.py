"""The recipes of emoji: what each may see, and pictures that belong to their captions."""

import pytest
import torch

from course_lib.common.checkpoints import load_checkpoint, save_checkpoint
from course_lib.datasets.emoji import STUDIOS, Emoji, concepts, split_of
from course_lib.datasets.emoji.captions import words
from course_lib.models import AutoencoderKL, ContentAndStyle
from course_lib.pipelines import text_to_image
from course_lib.recipes import RECIPES
from course_lib.recipes.emoji import EmojiLatent
from course_lib.recipes.emoji_judges import nothing
from course_lib.training import Scale
from course_lib.training.seeding import seeded

QUICK = dict(device="cpu", scale=Scale())


# The judges


def test_one_judge_never_sees_a_held_out_picture_and_the_other_sees_all():
    fair, every = RECIPES["emoji-judge"]().data, RECIPES["emoji-judge-all"]().data
    assert {split_of(concepts()[n], studio) for n, studio in fair.examples} == {"train"}
    drawn = {(n, studio) for n, c in enumerate(concepts()) for studio in c.studios}
    assert set(every.examples) == drawn and len(every) == len(drawn)


def test_a_judges_batch_has_labels_and_some_pictures_of_nothing():
    recipe = RECIPES["emoji-judge"]()
    with seeded(0, 3, torch.device("cpu")):
        images, numbers, studios = recipe.batch(3)
    assert images.shape == (64, 3, 64, 64) and images.min() >= -1 and images.max() <= 1
    assert (numbers[:8] == len(concepts())).all() and (studios[:8] == -1).all()
    known = {(n, STUDIOS.index(studio)) for n, studio in recipe.data.examples}
    assert set(zip(numbers[8:].tolist(), studios[8:].tolist(), strict=True)) <= known


def test_nothing_is_mixed_shuffled_or_smeared():
    images = Emoji().batch(range(6))[0]
    torch.manual_seed(0)
    mixed, shuffled, smear = nothing(images)[:3]
    assert torch.equal(mixed, (images[0] + images[5]) / 2)
    assert not torch.equal(shuffled, images[1])
    assert torch.equal(shuffled.flatten(1).sort(1)[0], images[1].flatten(1).sort(1)[0])
    assert torch.allclose(smear.mean(), images[2].mean(), atol=0.02)
    assert smear.diff(dim=2).abs().max() < images[2].diff(dim=2).abs().max() / 4


def test_a_few_steps_of_a_judge_published_and_loaded(tmp_path):
    recipe = RECIPES["emoji-judge"]()
    losses = [step.loss for step in recipe.begin(steps=2, **QUICK)]
    run = recipe.begin(steps=2, folder=tmp_path / "run", **QUICK)
    assert [step.loss for step in run] == losses
    path = recipe.publish(run, tmp_path / "judge", count=8)
    model = load_checkpoint(ContentAndStyle, path)
    assert path.stat().st_size < 2.1 * sum(p.numel() for p in model.parameters())  # half precision
    assert model.card["settings"]["data"] == recipe.data_fingerprint()
    assert {metric["property"] for metric in model.card["metrics"]} == {
        *("top1", "top5", "studio", "known", "refused")
    }


# The autoencoder


def test_the_autoencoder_trains_on_no_held_out_picture():
    recipe = RECIPES["emoji-vae"]()
    trained = recipe.data.batch(range(len(recipe.data)))[0].flatten(1)
    images, captions = recipe.held_out(40)
    apart = torch.cdist(images.flatten(1), trained).min(1).values / 12288**0.5
    assert (apart > 0.004).all() and len(set(captions)) == 40  # half a grey level
    assert all(caption.endswith(" style") for caption in captions)


def test_half_of_a_batch_is_varied_and_half_is_not():
    recipe = RECIPES["emoji-vae"]()
    real = recipe.data.batch(range(16))[0]
    with seeded(0, 0, torch.device("cpu")):
        images = recipe.batch(0)
    same = [torch.equal(a, b) for a, b in zip(images, real, strict=True)]
    assert same == [False] * 8 + [True] * 8 and images.abs().max() <= 1


# The text-to-image model


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    """The recipe on an autoencoder that was never trained."""
    torch.manual_seed(0)
    vae = AutoencoderKL(latent_channels=24, channels=16, multipliers=(1,), patch_size=8)
    path = save_checkpoint(tmp_path_factory.mktemp("vae") / "vae", vae)

    class Latent(EmojiLatent):
        components = str(path), None
        unet = EmojiLatent.unet | dict(channels=16)
        text = dict(dim=192, layers=1)

    recipe = Latent()
    recipe.data.examples = recipe.data.examples[:80]
    return recipe


def test_latents_belong_to_their_captions(latent):
    for index in (0, 3):  # the second is of a later epoch
        places = range(32 * index, 32 * index + 32)
        images, captions = latent.data.batch(places)
        z, ids = latent.encode(images, captions)
        batch = latent.batch(index)
        assert torch.allclose(batch[0], z, atol=1e-5) and torch.equal(batch[1], ids)


def test_the_tokenizer_knows_every_word_and_every_caption_fits(latent):
    tokenizer = latent.clip.tokenizer
    assert tokenizer.words == words()
    data = Emoji(split=None, studios=STUDIOS)
    captions = [data.caption(i) for i in range(len(data))]
    assert tokenizer(captions).shape == (len(data), tokenizer.length)


def test_the_model_brings_its_tokenizer_and_draws(latent, tmp_path):
    run = latent.begin(steps=4, folder=tmp_path / "run", **QUICK)
    losses = [step.loss for step in run]
    assert [step.loss for step in latent.begin(steps=4, **QUICK)] == losses
    assert run.model.text_encoder.token_embedding.weight.grad.abs().max() > 0  # it learns too
    path = save_checkpoint(tmp_path / "latent", run.ema, **run.card)
    model = load_checkpoint(type(run.model), path)
    pipeline = latent.pipeline(model)
    captions = ["a penguin, Fluent style", "a red apple"]
    images = text_to_image(pipeline, captions, steps=2)
    assert images.shape == (2, 3, 64, 64) and images.isfinite().all()
    assert torch.equal(pipeline.clip.tokenizer(captions), latent.clip.tokenizer(captions))
    with pytest.raises(ValueError, match=r"unknown words: 'pengiun' \(did you mean 'penguin'"):
        text_to_image(pipeline, ["a pengiun"], steps=2)


def test_recipes_of_other_data_take_a_readers_pictures():
    assert RECIPES["emoji-vae"].takes_folder and RECIPES["emoji-latent"].takes_folder
    assert not RECIPES["emoji-judge"].takes_folder
