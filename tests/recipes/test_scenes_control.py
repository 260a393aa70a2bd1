"""`scenes-control`: what it trains and what stays, its prompts, and the shipped model's claims."""

import pytest
import torch
from torch import nn

from course_lib.common.checkpoints import load_checkpoint, read_card
from course_lib.datasets.scenes import KINDS, Scenes
from course_lib.datasets.scenes.captions import parse
from course_lib.evaluation.metrics import find, from_card
from course_lib.models import ControlNet
from course_lib.recipes import RECIPES, load_control, load_pipeline
from course_lib.recipes.scenes import ScenesDiffusion
from course_lib.recipes.scenes_control import Prompts, ScenesControl
from course_lib.training import Scale


@pytest.fixture(scope="module")
def recipe():
    recipe = ScenesControl()
    recipe.batch_size, recipe.kinds = 8, {"single": 1 / 2, "pair": 1 / 2}
    return recipe


def shapes(scene):
    return {thing.shape for thing in scene.objects}


def test_a_batch_holds_each_pictures_own_layout(recipe):
    x0, ids, layouts = recipe.batch(2)
    _, captions = recipe.pairs(2)
    assert x0.shape == (8, 12, 8, 8) and torch.equal(ids, recipe.clip.tokenizer(captions))
    assert layouts.dtype == torch.uint8 and layouts.shape == (8, 1, 64, 64)
    for first, kind in ((0, "single"), (4, "pair")):
        own = Scenes(64, "train", kind).layouts(range(8, 12))
        torch.testing.assert_close(layouts[first : first + 4] / 255, own, atol=1 / 255, rtol=0)


def test_an_untrained_control_changes_nothing_and_its_loss_is_the_base_models(recipe):
    model, data = recipe.model(), recipe.batch(0)
    torch.manual_seed(0)
    loss = recipe.loss(model, data, p=0.0)
    torch.manual_seed(0)
    x0, ids, _ = data
    assert loss == ScenesDiffusion.loss(recipe, recipe.base, (x0, ids), p=0.0)
    prompts = Prompts.of("single", 2)
    recipe.steps, steps = 2, recipe.steps
    assert torch.equal(recipe.draw(model, prompts), recipe.draw(model, prompts, None))
    recipe.steps = steps


def test_layouts_reach_the_copy_with_their_contrast(recipe):
    """He's weights keep the difference between layouts; PyTorch's own lose nearly all of it."""
    images = Scenes(64).layouts(range(32)).expand(-1, 3, -1, -1)
    spread = {}
    for he in (True, False):
        recipe.he = he
        torch.manual_seed(0)
        embedding = recipe.model().controlnet_cond_embedding
        embedding.conv_out = nn.Identity()
        spread[he] = embedding(images).std(0).mean().item()
    recipe.he = True
    assert spread[True] > 0.02 and spread[False] < 1e-3


def test_only_the_control_trains_and_it_is_published_small(recipe, tmp_path, monkeypatch):
    before = {name: weight.clone() for name, weight in recipe.base.state_dict().items()}
    run = recipe.begin(steps=3, device="cpu", scale=Scale(), folder=tmp_path)
    assert all(0 < step.loss < 2 for step in run)
    start, after = recipe.model().state_dict(), run.model.state_dict()
    assert not torch.equal(start["conv_in.weight"], after["conv_in.weight"])
    assert all(torch.equal(weight, before[n]) for n, weight in recipe.base.state_dict().items())
    monkeypatch.setattr(recipe, "measure", lambda model, count: [])
    path = recipe.publish(run, tmp_path / "control.safetensors")
    assert path.stat().st_size < 6_000_000
    assert load_checkpoint(ControlNet, path).card["settings"]["data"].keys() == {
        "scenes-vae",
        "scenes-clip",
        "scenes-latent",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_held_out_with_their_own_layout_or_one_that_contradicts(kind):
    own, other = Prompts.of(kind, 12), Prompts.of(kind, 12, contradict=True)
    data = Scenes(64, "new combinations", kind, seed=1, unsaid=0)
    images, captions = data.batch(range(12))
    assert own.captions == other.captions == captions
    grades = own.grade(images)
    assert grades["right"].all() and grades["placed"].all() and grades["overlap"].min() > 0.75
    layouts = data.layouts(range(40))
    for caption, layout in zip(captions, other.layouts, strict=True):
        (source,) = [i for i, each in enumerate(layouts) if torch.equal(each, layout)]
        assert not shapes(data.scene(source)[0]) & shapes(parse(caption))


# ---- the shipped model ---------------------------------------------------------------------------


def test_the_shipped_control_belongs_to_the_shipped_model(monkeypatch):
    data = read_card("scenes-control")["settings"]["data"]
    assert data == RECIPES["scenes-control"]().data_fingerprint()
    control, model = load_control(), load_pipeline("scenes-latent")
    assert control.copied == model.unet.kwargs
    monkeypatch.setitem(control.card["settings"]["data"], "scenes-latent", "another")
    monkeypatch.setattr("course_lib.recipes.load_checkpoint", lambda cls, name, device="cpu": (
        control if cls is ControlNet else load_checkpoint(cls, name, device)
    ))  # fmt: skip
    with pytest.raises(ValueError, match="was trained on scenes-latent another"):
        load_control()
    with pytest.raises(ValueError, match="unknown ControlNet 'scenes-latent'"):
        load_control("scenes-latent")


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_says_that_layouts_are_followed_and_captions_as_well(kind):
    metrics = from_card(read_card("scenes-control"))

    def value(name):
        return find(metrics, name, kind=kind).value

    assert value("placed") > 0.98 and value("placed without control") < 0.25
    assert value("overlap") > 0.85 and value("overlap without control") < 0.4
    assert value("right") > value("right without control") > 0.92
    for obeyed in ("right", "placed"):  # a layout that contradicts the caption: neither wins
        assert 0.2 < value(f"{obeyed} with another layout") < 0.7
