"""Calls every public function with bad data: it must refuse in one line, unless the data is fine.

TENSORS has, for each function that takes tensors, a valid call and the tensors by name. Each of
them is spoiled in the six ways of SPOILS, one at a time, and must be refused unless FINE says why
not. Only functions that a reader calls check their input; equations, which they call, are in
EXEMPT. Code that runs at each step doesn't look for NaN, because a GPU would have to wait; there
one bad sample must not affect the others. NUMBERS has bad data other than tensors. The last tests
find every function that was forgotten, unless EXEMPT says why.
"""

import hashlib
import importlib
import inspect
import tarfile
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nan, tensor

from course_lib.common.checkpoints import (
    load_checkpoint,
    read_card,
    read_checkpoint,
    save_checkpoint,
    update_card,
)
from course_lib.common.devices import pick_device
from course_lib.datasets import toy
from course_lib.datasets.digits import digits
from course_lib.datasets.folder import CaptionedFolder
from course_lib.datasets.folder_check import check_folder
from course_lib.datasets.order import endless, positions
from course_lib.datasets.scenes import Scenes, random_scene
from course_lib.datasets.scenes.captions import hard_negative, parse
from course_lib.datasets.shards import Shards
from course_lib.datasets.torchvision_sets import TorchvisionSet
from course_lib.diffusion import (
    DDPM,
    Diffusion,
    Gaussian,
    GaussianMixture,
    MaskedDiffusion,
    cosine,
    drop_condition,
    generators,
    guided,
    initial_noise,
    invert,
    linear,
    point,
    points,
    reward_guided,
    sample,
    scaled_linear,
    straight,
    time_grid,
    trajectory,
    variational_bound,
)
from course_lib.evaluation import PromptOracle
from course_lib.evaluation.distances import (
    floor,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from course_lib.evaluation.neighbours import nearest_neighbours
from course_lib.models import (
    CLIP,
    GAN,
    VAE,
    AutoencoderKL,
    Classifier,
    ContentAndStyle,
    Controlled,
    ControlNet,
    Discriminator,
    DiT,
    Generator,
    Pixels,
    SequenceTransformer,
    TextUNet,
    Tokenizer,
    UNet,
    UNetBlock,
    clip_loss,
    heat_map,
    retrieval,
)
from course_lib.pipelines import (
    LatentDiffusion,
    Operator,
    anagram,
    check_size,
    constrained,
    exact_posterior,
    fourier,
    frequency_mask,
    image_to_image,
    inpaint,
    load_published,
    outpaint,
    posterior_network,
    prompt_to_prompt,
    text_to_image,
    tomography,
    total_variation,
)
from course_lib.pipelines.stable_diffusion import (
    load_controlnet,
    load_lora,
    load_stable_diffusion,
    load_textual_inversion,
    times,
)
from course_lib.recipes import load_control, load_pipeline
from course_lib.training import EMA, Training, adversarial_loss, learning_rate

SPOILS = {
    "another rank": lambda x: x[None],
    "another width": lambda x: torch.cat([x, x.narrow(width(x), 0, 1)], width(x)),
    "another dtype": lambda x: x.long() if x.is_floating_point() else x.float(),
    "another device": lambda x: x.to("meta"),  # torch's stand-in for one
    "NaN": lambda x: x.index_fill(0, tensor(0), nan) if x.dim() else x * nan,
    "no samples": lambda x: x[:0],
}


def width(x: Tensor) -> int:
    """The channels of a picture, the last dimension of tokens."""
    return min(x.dim() - 1, 2 if x.dim() == 3 else 1)


class Case(NamedTuple):
    call: Callable[..., Any]
    tensors: dict[str, Tensor]
    is_door: bool


def case(call, /, **tensors) -> Case:
    return Case(call, tensors, False)


def door(call, /, **tensors) -> Case:
    """The reader's data: NaN is refused."""
    return Case(call, tensors, True)


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


# Every batch is of two; nothing else is.
X, NOISE, IMAGES = randn(2, 3, 8, 8), randn(2, 3, 8, 8) + 1, randn(2, 3, 16, 16).clamp(-1, 1)
T, INDEX, TIMESTEP = tensor([0.3, 0.7]), tensor([3, 7]), tensor([300.0, 700.0])
CONTEXT, NULL, IDS = randn(2, 5, 8), randn(1, 5, 8), tensor([[1, 2, 3, 9], [4, 9, 9, 9]])
LATENTS, FLAT, LABELS = randn(2, 4, 8, 8), randn(2, 12), tensor([0, 2])
EDGES = randn(2, 3, 16, 16).clamp(0, 1)
POINTS, MEANS, COVARIANCES = randn(2, 4), randn(3, 4), torch.eye(4).repeat(3, 1, 1)
FEATURES, OTHERS = randn(6, 4), randn(5, 4)
VECTORS, WORDS = (torch.nn.functional.normalize(randn(2, d), dim=1)[:, :4] for d in (4, 5))
SIGHTS, CAPTIONS = randn(2, 3, 32, 32).clamp(-1, 1), ["a red circle", "a blue square"]
MAPS = randn(2, 4, 16, 5).softmax(3)

torch.manual_seed(0)
PROCESS, TABLE = Diffusion("linear", "v"), linear(10)
DRAWN = dict(channels=8, multipliers=(1, 2), attention=(False, True))
UNET = UNet(4, context_dim=8, **DRAWN)
CONTROLNET = ControlNet.from_unet(UNET, embedding_channels=(4, 8))
CLASSES = UNet(3, channels=8, multipliers=(1,), attention=(False,), classes=3)
TEXT = dict(vocab_size=10, length=4, dim=8, layers=1, heads=2)
TEXTUNET = TextUNet(dict(in_channels=4, context_dim=8, **DRAWN), TEXT)
BLOCK = UNetBlock(3, 8, 6, 8)
TRANSFORMER = DiT(4, size=8, dim=8, layers=2, heads=2, context_dim=8)
MASKED, TOKENS = MaskedDiffusion(mask=5), tensor([[0, 4, 2, 2], [3, 1, 0, 4]])
SEQUENCES = SequenceTransformer(5, length=4, dim=8, layers=1, heads=2, classes=3)
AUTOENCODER = AutoencoderKL(channels=8, multipliers=(1, 2), attention=False)
FLAT_VAE = VAE(size=16, channels=4, latent=12)
EYE = dict(size=16, patch_size=2, channels=8, dim=8, layers=1, heads=2)
TOKENIZER = Tokenizer.train(CAPTIONS, vocab_size=60, length=8)
READER = CLIP(TOKENIZER.kwargs, dict(dim=8, layers=1, heads=2), EYE, dim=8)
GROWN = dict(size=8, channels=(8, 8), classes=3)
ADVERSARIES = GAN(Generator(3, latent=12, **GROWN), Discriminator(3, **GROWN), latent=12)
JUDGE = Classifier(3, size=16, channels=(8, 8), dim=8)
STYLES = ContentAndStyle(3, 2, size=16, channels=(8, 8), dim=8)
MODEL = LatentDiffusion(PROCESS, UNET, AUTOENCODER, READER, size=16)
for network in (UNET, CONTROLNET, CLASSES, TEXTUNET, BLOCK, TRANSFORMER, AUTOENCODER):
    for parameter in network.requires_grad_(False).parameters():
        parameter += 0.05 * torch.randn_like(parameter)  # some start at zero, and hide mistakes


def brightness(x0):
    return x0.flatten(1).sum(1)


def half(x, timestep, context=None):
    return x / 2


def update(weight):
    trained, average = torch.nn.Linear(4, 6), EMA(torch.nn.Linear(4, 6))
    trained.weight = torch.nn.Parameter(weight, requires_grad=False)
    average.update(trained, 1)
    return average.model.weight


DDPM10 = DDPM(half, 10)
MIXTURE = GaussianMixture(PROCESS, MEANS, COVARIANCES)
SCAN = Operator(randn(5, 48), (3, 4, 4))
PIXELS = Operator(torch.eye(16), (1, 4, 4))
TENSORS = {
    # diffusion
    "Schedule.__call__": case(lambda t: TABLE(t), t=T),
    "Schedule.log_snr": case(lambda t: TABLE.log_snr(t), t=T),
    "Schedule.snap": case(lambda t: TABLE.snap(t), t=T),
    "Schedule.timestep": case(lambda t: straight().timestep(t), t=T),
    "Schedule.time": case(lambda t: straight().time(t), t=TIMESTEP),
    "Diffusion.determinant": case(PROCESS.determinant, t=T),
    "Diffusion.loss": case(
        lambda x0, t, eps: PROCESS.loss(half, x0, None, t, eps), x0=X, t=T, eps=NOISE
    ),
    "Diffusion.errors": case(
        lambda x0, t, eps: PROCESS.errors(half, x0, None, t, eps), x0=X, t=T, eps=NOISE
    ),
    "DDPM.forward": case(DDPM10.forward, x=X, t=INDEX, noise=NOISE),
    "sample": case(lambda noise: sample(PROCESS, half, noise, steps=2), noise=NOISE),
    "invert": case(lambda x0: invert(PROCESS, half, x0, steps=2), x0=NOISE),
    "trajectory": case(
        lambda noise: [*trajectory(PROCESS, half, noise, steps=2, sampler="heun")], noise=NOISE
    ),
    "variational_bound": door(
        lambda x0: [bits for _, bits in variational_bound(PROCESS, half, x0, steps=2)],
        x0=X.clamp(-1, 1),
    ),
    "MaskedDiffusion.random_bound": case(
        lambda x0, context: MASKED.random_bound(SEQUENCES, x0, context), x0=TOKENS, context=LABELS
    ),
    "MaskedDiffusion.loss": case(
        lambda x0, context: MASKED.loss(SEQUENCES, x0, context), x0=TOKENS, context=LABELS
    ),
    "MaskedDiffusion.trajectory": case(
        lambda context: [*MASKED.trajectory(SEQUENCES, (2, 4), context, 2)], context=LABELS
    ),
    "MaskedDiffusion.sample": case(
        lambda context: MASKED.sample(SEQUENCES, (2, 4), context, 2), context=LABELS
    ),
    "drop_condition": case(
        lambda context, null: drop_condition(context, null, 0.5, *generators([1])),
        **dict(context=CONTEXT, null=NULL),  # with that seed only the second is dropped
    ),
    "drop_condition, of labels": case(
        lambda labels, null: drop_condition(labels, null, 0.5), labels=LABELS, null=tensor(3)
    ),
    "guided": case(
        lambda x, timestep, context, null: guided(UNET, null, 2.0)(x, timestep, context),
        **dict(x=LATENTS, timestep=TIMESTEP, context=CONTEXT, null=NULL),
    ),
    "reward_guided": case(
        lambda x, context: reward_guided(PROCESS, UNET, brightness, 0.1)(x, TIMESTEP, context),
        **dict(x=LATENTS, context=CONTEXT),
    ),
    "GaussianMixture": door(
        lambda means, covariances, weights: GaussianMixture(PROCESS, means, covariances, weights),
        **dict(means=MEANS, covariances=COVARIANCES, weights=tensor([1.0, 2.0, 3.0])),
    ),
    "Gaussian": door(
        lambda mean, covariance: Gaussian(PROCESS, mean, covariance),
        **dict(mean=MEANS[0], covariance=COVARIANCES[0]),
    ),
    "Operator": door(lambda matrix: Operator(matrix, (3, 4, 4)), matrix=SCAN.matrix),
    "Operator.__call__": case(lambda x: SCAN(x), x=X[..., :4, :4].contiguous()),
    "fourier": case(fourier, mask=frequency_mask(8, 2, *generators([0]))),
    "total_variation": case(lambda y: total_variation(PIXELS, y, 0.1, 3), y=randn(2, 16)),
    "posterior_network": case(
        lambda x: posterior_network(PROCESS, half, SCAN, randn(2, 5), 0.1)(x, TIMESTEP),
        x=X[..., :4, :4].contiguous(),
    ),
    "posterior_network, of y": door(
        lambda y: posterior_network(PROCESS, half, SCAN, y, 0.1), y=randn(2, 5)
    ),
    "exact_posterior": door(
        lambda mean, covariance, matrix, y: exact_posterior(mean, covariance, matrix, y, 0.1),
        **dict(mean=MEANS[0], covariance=COVARIANCES[0], matrix=MEANS, y=randn(3)),
    ),
    # models
    "UNet.forward": case(UNET.forward, x=LATENTS, timestep=TIMESTEP, context=CONTEXT),
    "UNet.forward, of classes": case(CLASSES.forward, x=X, timestep=TIMESTEP, context=LABELS),
    "ControlNet.forward": case(
        CONTROLNET.forward, x=LATENTS, timestep=TIMESTEP, context=CONTEXT, images=EDGES
    ),
    "Controlled": door(lambda images: Controlled(UNET, CONTROLNET, images), images=EDGES),
    "Controlled.forward": case(
        Controlled(UNET, CONTROLNET, EDGES).forward, x=LATENTS, timestep=TIMESTEP, context=CONTEXT
    ),
    "TextUNet.forward": case(TEXTUNET.forward, x=LATENTS, timestep=TIMESTEP, ids=IDS),
    "SequenceTransformer.forward": case(SEQUENCES.forward, ids=TOKENS, context=LABELS),
    "DiT.forward": case(TRANSFORMER.forward, x=LATENTS, timestep=TIMESTEP, context=CONTEXT),
    "UNetBlock.forward": case(BLOCK.forward, x=X, time=randn(2, 6), text=CONTEXT),
    "AutoencoderKL.encode": door(AUTOENCODER.encode, x=IMAGES),
    "AutoencoderKL.encode_moments": door(AUTOENCODER.encode_moments, x=IMAGES),
    "AutoencoderKL.decode": case(AUTOENCODER.decode, z=LATENTS),
    "AutoencoderKL.forward": door(AUTOENCODER.forward, x=IMAGES),
    "AutoencoderKL.loss": door(lambda x: AUTOENCODER.loss(x)[0], x=IMAGES),
    "AutoencoderKL.fit_scaling": door(AUTOENCODER.fit_scaling, images=IMAGES),
    "VAE.encode": door(FLAT_VAE.encode, x=IMAGES),
    "VAE.reparameterize": case(FLAT_VAE.reparameterize, mu=FLAT, logvar=FLAT),
    "VAE.decode": case(FLAT_VAE.decode, z=FLAT),
    "VAE.forward": door(FLAT_VAE.forward, x=IMAGES),
    "VAE.loss": door(lambda x: FLAT_VAE.loss(x)[0], x=IMAGES),
    "Pixels.encode": door(Pixels().encode, x=IMAGES),
    "Pixels.decode": case(Pixels().decode, z=IMAGES),
    "TextEncoder.forward": case(TEXTUNET.text_encoder.forward, ids=IDS),
    "TextEncoder.pool": case(TEXTUNET.text_encoder.pool, ids=IDS, context=randn(2, 4, 8)),
    "ImageEncoder.forward": door(READER.image_encoder.forward, images=IMAGES),
    "ImageEncoder.patches": door(READER.image_encoder.patches, images=IMAGES),
    "CLIP.embed_image": door(READER.embed_image, images=IMAGES),
    "CLIP.loss": door(lambda images: READER.loss(images, CAPTIONS), images=IMAGES),
    "Generator.forward": case(ADVERSARIES.generator.forward, z=FLAT, labels=LABELS),
    "GAN.forward": case(lambda z, labels: ADVERSARIES(z, labels), z=FLAT, labels=LABELS),
    "Discriminator.forward": case(ADVERSARIES.discriminator.forward, images=X, labels=LABELS),
    "Classifier.features": door(JUDGE.features, images=IMAGES),
    "Classifier.embedding": door(JUDGE.embedding, images=IMAGES),
    "Classifier.forward": door(JUDGE.forward, images=IMAGES),
    "ContentAndStyle.embedding": door(STYLES.embedding, images=IMAGES),
    "ContentAndStyle.features": door(STYLES.features, images=IMAGES),
    "ContentAndStyle.forward": door(STYLES.forward, images=IMAGES),
    "Tokenizer.decode": case(TOKENIZER.decode, ids=TOKENIZER(CAPTIONS)),
    "clip_loss": case(
        clip_loss,
        **dict(image_features=VECTORS, text_features=WORDS, logit_scale=tensor(2.0)),
        negatives=OTHERS,
    ),
    "retrieval": door(retrieval, image_features=VECTORS, text_features=WORDS),
    "heat_map": case(lambda maps: heat_map({"attn2": [maps]}, 8), maps=MAPS),
    # evaluation
    "frechet_distance": door(frechet_distance, a=FEATURES, b=OTHERS),
    "kernel_distance": door(kernel_distance, a=FEATURES, b=OTHERS),
    "precision_recall": door(
        lambda real, generated: precision_recall(real, generated, 1),
        **dict(real=FEATURES, generated=OTHERS),
    ),
    "floor": door(lambda real: floor(frechet_distance, real, 2), real=FEATURES),
    "nearest_neighbours": door(nearest_neighbours, images=POINTS, training=FEATURES),
    "PromptOracle.detect": case(PromptOracle().detect, images=SIGHTS),
    "PromptOracle.read": case(PromptOracle().read, images=SIGHTS),
    "PromptOracle.judge": case(
        lambda images: PromptOracle().judge(images, CAPTIONS), images=SIGHTS
    ),
    # pipelines and training
    "image_to_image": door(
        lambda images: image_to_image(MODEL, images, CAPTIONS, steps=2), images=IMAGES
    ),
    "inpaint": door(
        lambda images, mask: inpaint(MODEL, images, mask, CAPTIONS, steps=1),
        **dict(images=IMAGES, mask=torch.ones(1, 1, 16, 16)),
    ),
    "outpaint": door(
        lambda images: outpaint(MODEL, images, CAPTIONS, steps=1), images=IMAGES[..., :8]
    ),
    "EMA.update": case(update, weight=FEATURES),
    "adversarial_loss": case(
        lambda real, labels: adversarial_loss(ADVERSARIES, real, labels), real=X, labels=LABELS
    ),
}

# "function argument: way to spoil it", with wildcards -> why that is no error
FINE = {
    "[!D]*.* t: another device": "times are read on the CPU, wherever they are",
    "Diffusion.* t: another device": "the same",
    "Schedule.* t: another [rw]*": "a schedule takes times of any shape",
    "Diffusion.determinant t: another [rw]*": "so does the determinant",
    "Schedule.time t: another dtype": "a timestep may be a whole number",
    "*UNet.forward* timestep: another dtype": "the same timestep",
    "Control*.forward timestep: another dtype": "the same timestep",
    "Controlled images: another device": "its ControlNet refuses them when it is called",
    "DiT.forward timestep: another dtype": "the same timestep",
    "guided timestep: another dtype": "the same timestep",
    "sample noise: another [rw]*": "any shape that the network likes",
    "trajectory noise: another [rw]*": "the same",
    "invert x0: another [rw]*": "the same",
    "variational_bound x0: another [rw]*": "the same",
    "sample noise: another device": "this network has none of its own",
    "trajectory noise: another device": "the same",
    "invert x0: another device": "the same",
    "variational_bound x0: another device": "the same",
    "drop_condition* context: another rank": "the network that reads it knows its shape",
    "drop_condition* labels: another [rw]*": "the same",
    "drop_condition* *: another device": "`null` follows the context",
    "guided null: another device": "the same",
    "guided null: NaN": "it stands for every sample's condition",
    "drop_condition* null: NaN": "the same",
    "drop_condition, of labels null: another rank": "one null class in a list",
    "GaussianMixture [wc]*: another d*": "shares and covariances follow the means",
    "GaussianMixture means: another device": "the covariances follow them",
    "Gaussian *: another device": "the covariance follows the mean",
    "Gaussian covariance: another dtype": "the same",
    "Operator matrix: another device": "its singular values are found where it is",
    "fourier mask: another device": "the frequencies are looked up on the CPU",
    "TextEncoder.pool context: another width": "it picks a row of whatever there is",
    "TextEncoder.pool context: another dtype": "the same",
    "Tokenizer.decode ids: another width": "captions may have any length",
    "Tokenizer.decode ids: another device": "its answer is words",
    "clip_loss logit_scale: another [rd][at]*": "a number of the model's own",
    "heat_map maps: another width": "a layer may have any number of heads",
    "heat_map maps: another device": "they are pictured where they are",
    "*_distance *: another d*": "features are taken to float64 on the CPU",
    "precision_recall *: another d*": "the same",
    "floor real: another [wd]*": "so are these, and may be of any width",
    "PromptOracle.* images: another device": "it looks on the CPU",
    "PromptOracle.* images: NaN": "a diverged model's picture shows nothing: it reads as None",
    "*to_image images: another device": "pictures go to the model's device",
    "*paint *: another device": "the same",
    "inpaint mask: another dtype": "0 and 1 may be of any dtype",
}


def spoiled(name: str, argument: str, way: str) -> dict[str, Tensor]:
    tensors = TENSORS[name].tensors
    return tensors | {argument: SPOILS[way](tensors[argument])}


def batch(name: str) -> dict[str, Tensor]:
    return {k: x for k, x in TENSORS[name].tensors.items() if x.dim() and len(x) == 2}


def applies(name: str, argument: str, way: str) -> bool:
    x = TENSORS[name].tensors[argument]
    return {
        "NaN": x.is_floating_point(),
        "another width": x.dim() > 0,
        "no samples": x.dim() > 0 and batch(name).keys() != {argument},  # all of them: see below
    }.get(way, True)


def is_fine(name: str, argument: str, way: str) -> bool:
    return any(fnmatch(f"{name} {argument}: {way}", pattern) for pattern in FINE)


def is_inside(name: str, argument: str, way: str) -> bool:
    """NaN in functions that don't look for it; times are always checked."""
    return way == "NaN" and argument != "t" and not TENSORS[name].is_door


EVERY = [
    (name, argument, way)
    for name in TENSORS
    for argument in TENSORS[name].tensors
    for way in SPOILS
    if applies(name, argument, way)
]
ANSWERED = [each for each in EVERY if is_fine(*each)]
INSIDE = [each for each in EVERY if is_inside(*each) and not is_fine(*each)]
REFUSED = [each for each in EVERY if not is_fine(*each) and not is_inside(*each)]


def check_line(refused, *words):
    """A one-line error raised by the course that contains the words."""
    line, place = str(refused.value), refused.traceback[-1].path
    assert "\n" not in line and 10 < len(line) < 300 and all(word in line for word in words), line
    assert "course_lib" in place.parts, f"raised in {place}: {line}"


@pytest.mark.parametrize(("name", "argument", "way"), REFUSED)
def test_bad_data_are_refused_in_one_line(name, argument, way):
    tensors = spoiled(name, argument, way)
    with pytest.raises(ValueError) as refused:
        TENSORS[name].call(**tensors)
    dtype = str(tensors[argument].dtype)
    named = {"another dtype": dtype, "another device": "meta", "NaN": "nan"}
    check_line(refused, named.get(way, ""))


WEIGHTED = ["UNet", "TextUNet", "UNetBlock", "DiT", "AutoencoderKL", "VAE", "ImageEncoder", "CLIP"]
WEIGHTED += ["ControlNet"]


@pytest.mark.parametrize("name", [n for n in TENSORS if n.partition(".")[0] in WEIGHTED])
def test_a_network_refuses_float64_unless_it_is_of_float64(name):
    for argument, x in TENSORS[name].tensors.items():
        if x.is_floating_point() and argument not in ("timestep", "mu", "logvar"):
            with pytest.raises(ValueError) as refused:
                TENSORS[name].call(**TENSORS[name].tensors | {argument: x.double()})
            check_line(refused, "float64", "float32")


@pytest.mark.parametrize(("name", "argument", "way"), ANSWERED)
def test_what_is_fine_is_answered(name, argument, way):
    try:
        TENSORS[name].call(**spoiled(name, argument, way))
    except RuntimeError as error:  # meta has no numbers to move; devices that clash are no excuse
        assert way == "another device" and "meta tensor" in str(error), error


def in_all(result) -> list[Tensor]:
    """The tensors in a result."""
    parts = result if isinstance(result, tuple | list) else []
    return [result] if isinstance(result, Tensor) else [x for part in parts for x in in_all(part)]


@pytest.mark.parametrize(("name", "argument", "way"), INSIDE)
def test_a_bad_sample_stays_bad_and_leaves_the_others_alone(name, argument, way):
    answer = in_all(TENSORS[name].call(**spoiled(name, argument, way)))
    assert any(x.isnan().any() for x in answer)
    assert all(x.dim() == 0 or x[1:].isfinite().all() for x in answer)


@pytest.mark.parametrize("name", [name for name in TENSORS if batch(name)])
def test_an_empty_batch_is_refused_or_its_answer_is_empty(name):
    call, tensors, _ = TENSORS[name]
    empty = {argument: x[:0] for argument, x in batch(name).items()}
    try:
        answer = call(**tensors | empty)
    except ValueError:
        with pytest.raises(ValueError) as refused:
            call(**tensors | empty)
        check_line(refused)
    else:
        assert all(len(x) == 0 for x in in_all(answer))


@pytest.mark.parametrize("name", TENSORS)
def test_good_data_are_answered(name):
    TENSORS[name].call(**TENSORS[name].tensors)


# Data that are no tensors: each must be refused, with these words.
NUMBERS = {
    "DDPM": [("timesteps", lambda: DDPM(half, 0))],
    "DDPM.sample": [("unknown variance", lambda: DDPM10.sample((2, 3), variance="larg"))],
    "DDPM.trajectory": [("variance", lambda: next(DDPM10.trajectory((2, 3), variance="larg")))],
    "Diffusion": [
        ("schedule", lambda: Diffusion("lin")),
        ("prediction", lambda: Diffusion(TABLE, "y")),
    ],
    "GaussianMixture.sample": [("count", lambda: MIXTURE.sample(0))],
    "cosine": [("timesteps", lambda: cosine(0))],
    "linear": [("timesteps", lambda: linear(-1)), ("betas", lambda: linear(10, beta_end=nan))],
    "scaled_linear": [("timesteps", lambda: scaled_linear(0))],
    "straight": [("shift", lambda: straight(nan))],
    "drop_condition": [("probability", lambda: drop_condition(CONTEXT, NULL, nan))],
    "guided": [("finite", lambda: guided(UNET, NULL, nan))],
    "reward_guided": [("finite", lambda: reward_guided(PROCESS, half, brightness, nan))],
    "frequency_mask": [("whole", lambda: frequency_mask(8, 0.5))],
    "tomography": [
        ("views", lambda: tomography(8, 9)),
        ("whole", lambda: tomography(8, 0)),
    ],
    "total_variation": [("strength", lambda: total_variation(PIXELS, randn(2, 16), nan))],
    "posterior_network": [
        ("noise_std", lambda: posterior_network(PROCESS, half, SCAN, randn(2, 5), nan)),
        ("variance", lambda: posterior_network(PROCESS, half, SCAN, randn(2, 5), 0.1, nan)),
    ],
    "exact_posterior": [
        ("noise_std", lambda: exact_posterior(MEANS[0], COVARIANCES[0], MEANS, randn(3), 0.0))
    ],
    "generators": [("whole", lambda: generators([0.5])), ("whole", lambda: generators([nan]))],
    "initial_noise": [("generator", lambda: initial_noise([], (3,)))],
    "point": [("t: expected a time", lambda: point(TABLE, nan))],
    "points": [("t: expected a time", lambda: points(TABLE, [0.5, nan]))],
    "time_grid": [("steps", lambda: time_grid(TABLE, 0)), ("steps", lambda: time_grid(TABLE, 2.0))],
    "sample": [("steps", lambda: sample(PROCESS, half, X, steps=0))],
    "invert": [("rounds", lambda: invert(PROCESS, half, X, rounds=0))],
    "DiT": [("patches", lambda: DiT(size=9))],
    "UNet": [("resolutions", lambda: UNet(attention=(True,)))],
    "CLIP.context": [("unknown", lambda: READER.context(["ein Kreis"]))],
    "CLIP.ids": [("unknown", lambda: READER.ids(["a red cicle"]))],
    "CLIP.embed_text": [("tokens", lambda: READER.embed_text(["a red circle " * 9]))],
    "CLIP.loss": [("features", lambda: READER.loss(IMAGES, CAPTIONS[:1]))],
    "Tokenizer.__call__": [("unknown", lambda: TOKENIZER("nonsense"))],
    "Tokenizer.encode": [("unknown", lambda: TOKENIZER.encode("nonsense"))],
    "Tokenizer.tokens": [("unknown", lambda: TOKENIZER.tokens("nonsense"))],
    "heat_map": [("attention maps", lambda: heat_map({}, 8))],
    "floor": [("count", lambda: floor(frechet_distance, FEATURES, 1))],
    "nearest_neighbours": [("k is 7", lambda: nearest_neighbours(POINTS, FEATURES, k=7))],
    "PromptOracle.judge": [("captions", lambda: PromptOracle().judge(SIGHTS, CAPTIONS[:1]))],
    "load_pipeline": [("unknown", lambda: load_pipeline("scene-latent"))],
    "load_control": [("unknown", lambda: load_control("scenes-latent"))],
    "load_published": [("size", lambda: load_published("nowhere", size=100))],
    "check_size": [("size", lambda: check_size(0)), ("size", lambda: check_size(100))],
    "text_to_image": [
        ("no captions", lambda: text_to_image(MODEL, [])),
        ("seeds", lambda: text_to_image(MODEL, CAPTIONS, [1])),
        ("finite", lambda: text_to_image(MODEL, CAPTIONS, scale=nan)),
    ],
    "image_to_image": [("strength", lambda: image_to_image(MODEL, X, CAPTIONS, strength=nan))],
    "constrained": [
        ("no captions", lambda: constrained(MODEL, [], abs)),
        ("projected", lambda: constrained(MODEL, CAPTIONS, lambda images: None, steps=1)),
    ],
    "anagram": [
        ("quarter turns", lambda: anagram(MODEL, {})),
        ("every turn", lambda: anagram(MODEL, {0: CAPTIONS, 2: CAPTIONS[:1]})),
    ],
    "prompt_to_prompt": [
        ("edited captions", lambda: prompt_to_prompt(MODEL, CAPTIONS, CAPTIONS[:1])),
        ("share", lambda: prompt_to_prompt(MODEL, CAPTIONS, CAPTIONS, share=nan)),
        ("weight", lambda: prompt_to_prompt(MODEL, CAPTIONS, CAPTIONS, weights=dict(red=nan))),
    ],
    "EMA": [("decay", lambda: EMA(UNET, nan))],
    "Training": [("steps", lambda: Training(UNET, None, None, steps=0))],
    "learning_rate": [
        ("step", lambda: learning_rate(11, 10, 1.0, 0)),
        ("unknown", lambda: learning_rate(1, 10, 1.0, 0, "cosinus")),
    ],
    "pick_device": [("unknown", lambda: pick_device("gpu"))],
    "times": [("steps", lambda: times(0))],
    "parse": [("cannot read", lambda: parse("a cat"))],
    "hard_negative": [("cannot read", lambda: hard_negative("a cat", None))],
    "digits": [("8 pixels", lambda: digits(4)), ("split", lambda: digits(split="all"))],
    "CaptionedFolder": [("size", lambda: CaptionedFolder("nowhere", size=0))],
    "check_folder": [("size", lambda: check_folder("nowhere", size=0))],
    "random_scene": [("kind", lambda: random_scene(np.random.default_rng(0), "triple"))],
    "Scenes": [
        ("pixels", lambda: Scenes(48)),
        ("split", lambda: Scenes(split="all")),
        ("probability", lambda: Scenes(unsaid=nan)),
        ("seed", lambda: Scenes(seed=-1)),
        ("seed", lambda: Scenes(seed=0.5)),
    ],
    "Shards": [
        ("size", lambda: Shards("nowhere", size=0)),
        ("batch_size", lambda: Shards("nowhere", batch_size=0)),
        ("streams", lambda: Shards("nowhere", streams=0)),
    ],
    "TorchvisionSet": [("data set", lambda: TorchvisionSet("mnis"))],
    "endless": [("index", lambda: endless([0.5], 10)), ("index", lambda: endless([], 10))],
    "positions": [("index", lambda: positions([0, -1]))],
    "ring_centres": [("noise", lambda: toy.ring_centres(8, 1.5))],
    "gaussian_ring": [("points", lambda: toy.gaussian_ring(-1))],
    "checkerboard": [("points", lambda: toy.checkerboard(-1))],
} | {
    name: [("points", lambda f=f: f(-1)), ("noise", lambda f=f: f(9, noise=nan))]
    for name, f in vars(toy).items()
    if name in ("two_moons", "swiss_roll", "two_circles")
}


@pytest.mark.parametrize(
    ("words", "call"), [pytest.param(*each, id=name) for name in NUMBERS for each in NUMBERS[name]]
)
def test_bad_numbers_are_refused_in_one_line(words, call):
    with pytest.raises(ValueError) as refused:
        call()
    check_line(refused, words)


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    """One picture, as a folder and as a shard, beside the endless scenes."""
    folder, shards = tmp_path_factory.mktemp("pictures"), tmp_path_factory.mktemp("shards")
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "a.txt").write_text("a red circle")
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a red circle"}')
    with tarfile.open(shards / "000.tar", "w") as tar:
        for name in ("a.png", "a.txt"):
            tar.add(folder / name, name)
    sets = CaptionedFolder(folder, 8), Shards(shards, 8), Scenes(32)
    return {type(data).__name__: data for data in sets}


INDEXED = [
    *("CaptionedFolder.batch", "CaptionedFolder.caption", "Scenes.batch", "Scenes.caption"),
    *("Scenes.scene", "Scenes.layouts", "Shards.batch", "Shards.caption", "Shards.find"),
]
INDICES = [(name, i) for name in INDEXED for i in (-1, 0.5, nan)]
MANY = "batch", "layouts"  # methods that take a list
BATCHES = [(name, []) for name in INDEXED if name.endswith(MANY)]


@pytest.mark.parametrize(("name", "index"), INDICES + BATCHES)
def test_an_index_is_a_whole_number_from_0(data_sets, name, index):
    owner, method = name.split(".")
    call, many = getattr(data_sets[owner], method), method in MANY
    call([5] if many else 5)
    with pytest.raises(ValueError) as refused:
        call([0, index] if many and index != [] else index)
    check_line(refused, "index")


# Files


def test_weights_that_are_no_numbers_are_not_written(tmp_path):
    model = Classifier(3, size=16, channels=(8, 8), dim=8)
    model.head.bias.data[0] = nan
    with pytest.raises(ValueError) as refused:
        save_checkpoint(tmp_path / "judge", model)
    check_line(refused, "head.bias", "nan")
    assert not any(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_not_read(tmp_path):
    path = save_checkpoint(tmp_path / "judge", JUDGE)
    weights = JUDGE.state_dict() | {"head.bias": torch.full((3,), nan)}
    save_file(weights, path)
    update_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError) as refused:
        load_checkpoint(Classifier, path)
    check_line(refused, "head.bias", "nan")


MISSING = {
    "load_checkpoint": lambda path: load_checkpoint(UNet, path),
    "read_card": read_card,
    "read_checkpoint": read_checkpoint,
    "update_card": update_card,
    "load_stable_diffusion": load_stable_diffusion,
    "load_published": load_published,
    "load_lora": lambda path: load_lora(path, MODEL),
    "load_controlnet": lambda path: load_controlnet(path, MODEL),
    "load_textual_inversion": lambda path: load_textual_inversion(path, MODEL),
    "CaptionedFolder": CaptionedFolder,
    "check_folder": check_folder,
    "Shards": Shards,
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError) as refused:
        MISSING[name](tmp_path / "nowhere")
    check_line(refused, "nowhere")
    assert not any(tmp_path.iterdir())


# Nothing is left out

FOLDERS = [
    *("diffusion", "models", "training"),
    *("common.checkpoints", "common.devices", "pipelines.text_to_image"),
    "recipes",
    *("pipelines", "pipelines.stable_diffusion"),
    *("evaluation.distances", "evaluation.neighbours", "evaluation.oracle"),
    *("datasets.digits", "datasets.folder", "datasets.folder_check", "datasets.order"),
    *("datasets.shards", "datasets.toy"),
    *("datasets.scenes.captions", "datasets.scenes.dataset", "datasets.scenes.grammar"),
    "datasets.torchvision_sets",
]

EXEMPT = {
    "types, and what only holds parts together": """Network Schedule Point Point.* LatentDiffusion
        LatentDiffusion.spacing LatentDiffusion.review Step StableDiffusion Sample Object Scene
        PromptOracle Unreadable""",
    "settings: their misfits are in the modules' own tests": """CLIP VAE AutoencoderKL ImageEncoder
        ControlNet Pixels PromptEncoder SequenceTransformer TextEncoder TextUNet Tokenizer UNetBlock
        Classifier ContentAndStyle GAN Generator Discriminator""",
    "only its network's tokens tell what is wrong with a mask": "MaskedDiffusion",
    "a LoRA's too, and what it wraps checks its own input": "LoRA LoRA.*",
    "Gaussian's are GaussianMixture's, PromptEncoder's are CLIP's": "Gaussian.* PromptEncoder.*",
    "equations: what calls them checks": """step Diffusion.at Diffusion.timestep Diffusion.add_noise
        Diffusion.target Diffusion.x0_and_eps DDPM.at DDPM.add_noise DDPM.posterior
        MaskedDiffusion.add_noise MaskedDiffusion.bound* MaskedDiffusion.step MaskedDiffusion.surest
        Schedule.time_at posterior GaussianMixture.forward GaussianMixture.x0 GaussianMixture.eps
        GaussianMixture.score GaussianMixture.log_likelihood GaussianMixture.minimum_loss
        GaussianMixture.rotated GaussianMixture.component_x0 GaussianMixture.coefficients
        GaussianMixture.mean GaussianMixture.log_joint Operator.to Operator.transpose
        Operator.solve Operator.pseudo_inverse Operator.nearest""",
    "inner work, behind functions that check": """AutoencoderKL.reconstruct Discriminator.features
        UNet.embed UNet.encode ControlNet.embed ControlNet.encode
        TextEncoder.check UNetBlock.check Tokenizer.check_words prepare default_sampling
        without_none Tokenizer.without_final warnings_for encode compare shuffled check contents
        read shards_in unlisted* visible hidden holds_pictures opened square Tokenizer.count
        read_entries look_at look refused ready""",
    "takes a schedule, a model, scenes or captions, and no numbers": """zero_terminal_snr capture
        attention_maps edited_attention Tokenizer.train CaptionedFolder.split write split_of omit
        place_objects render draw_layout coverage published save_stable_diffusion save_lora
        save_controlnet save_textual_inversion ControlNet.from_unet""",
    "its captions are its tokenizer's": "TextualInversion TextualInversion.*",
    "fed by test_loop.py, where a loss of NaN ends it": """Training.* train* Optimizer Optimizer.*
        Scale Folder Folder.*""",
    "asks the machine, or works on what is already read": """autocast has_bf16 cpu_facts hardware
        fast_precision to_half card_of locate missing render_card advice check_components
        check_place find here is_name is_shipped""",
    "a recipe's settings and data are tested in test_recipes.py": "Recipe Recipe.* make_recipe",
    "its picture is damaged: an OSError in test_folder.py": "read_picture",
    "is downloaded: its `batch` is `endless`": "TorchvisionSet.batch",
}


def public():
    """The functions, classes and methods that the folders offer."""
    for folder in FOLDERS:
        module = importlib.import_module(f"course_lib.{folder}")
        own = [name for name, x in vars(module).items() if home(x) == module.__name__]
        for name in getattr(module, "__all__", own):
            thing = getattr(module, name)
            if not callable(thing) or name.startswith("_"):
                continue
            yield name
            for base in inspect.getmro(thing) if inspect.isclass(thing) else ():
                if base.__module__.startswith("course_lib"):
                    for method, x in vars(base).items():
                        called = inspect.isfunction(x) or isinstance(x, classmethod)
                        if called and (not method.startswith("_") or method == "__call__"):
                            yield f"{name}.{method}"


def home(x) -> str:
    return getattr(x, "__module__", "")


def test_every_public_function_is_here():
    here = {name.partition(",")[0] for name in [*TENSORS, *NUMBERS, *INDEXED, *MISSING]}
    here |= {"save_checkpoint"}
    exempt = " ".join(EXEMPT.values()).split()
    left_out = {name for name in set(public()) - here if not any(fnmatch(name, e) for e in exempt)}
    assert not left_out
    gone = {e for e in exempt if not any(fnmatch(name, e) for name in public())}
    assert not gone and not here - set(public())


def test_nothing_is_called_fine_that_is_not_there():
    cases = [f"{name} {argument}: {way}" for name, argument, way in EVERY]
    assert not [pattern for pattern in FINE if not any(fnmatch(c, pattern) for c in cases)]
