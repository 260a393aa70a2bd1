"""How long a picture takes: ours and diffusers', eager and compiled, and ours in ONNX Runtime.

    make bench ARGS=drawing    # about 10 minutes, of which the compilers take most

A picture is 20 guided steps of the sampler with fresh noise, from captions to pixels, in batches of
1 and of 16. Ours is the shipped `scenes-latent` with `text_to_image`. Theirs is
`StableDiffusionPipeline` with the networks of `course_lib.experiments.diffusers_rival`, which are
within 10 % of ours in size and have random weights. Both compute in bf16 where that is faster, ONNX
Runtime in float32. Each ratio is measured in one process, alternately. The text encoder, which runs
twice for each picture, stays as it is.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from course_lib.authoring.playground.export import Method, Part, to_onnx
from course_lib.datasets.scenes import Scenes
from course_lib.experiments.diffusers_rival import Denoiser, autoencoder, drawing, pipeline
from course_lib.pipelines import LatentDiffusion, text_to_image
from course_lib.recipes import load_pipeline
from course_lib.recipes.scenes import ScenesLatent

BATCHES = 1, 16


class InONNX(nn.Module):
    """A network that ONNX Runtime computes, in as many threads as torch has."""

    def __init__(self, part: Part):
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        how = dict(providers=["CPUExecutionProvider"], sess_options=options)
        self.names = list(part.inputs)
        self.session = onnxruntime.InferenceSession(to_onnx(part), **how)
        self.weight = nn.Parameter(torch.zeros(()))  # a pipeline asks for its dtype

    def forward(self, *inputs: Tensor) -> Tensor:
        arrays = (x.float().contiguous().numpy() for x in inputs)
        (answer,) = self.session.run(None, dict(zip(self.names, arrays, strict=True)))
        return torch.from_numpy(answer)


def in_onnx(model: LatentDiffusion) -> LatentDiffusion:
    """The pipeline with U-Net and decoder in ONNX Runtime."""
    x, timestep = torch.randn(2, *model.latent), torch.tensor([999.0, 250.0])
    with torch.no_grad():
        context = model.clip.context(["", ""])
    noisy = dict(x=x, timestep=timestep, context=context)
    vae = copy.deepcopy(model.vae)
    vae.decode = InONNX(Part("decoder", Method(model.vae, "decode"), dict(z=x), ("y",))).forward
    return replace(model, unet=InONNX(Part("unet", model.unet, noisy, ("y",))), vae=vae)


def compiled(model: LatentDiffusion) -> LatentDiffusion:
    """The pipeline with copies of U-Net and decoder that are compiled at their first call."""
    unet, vae = copy.deepcopy(model.unet), copy.deepcopy(model.vae)
    unet.compile()
    vae.decoder.compile()
    return replace(model, unet=unet, vae=vae)


def theirs(compile: bool = False):
    """diffusers' pipeline as a function (captions, seeds) -> pictures."""
    recipe = ScenesLatent()
    denoiser = Denoiser(recipe.clip.tokenizer)
    pipe = pipeline(autoencoder().eval(), denoiser.eval())
    if compile:
        pipe.unet.compile()
        pipe.vae.decoder.compile()
    return drawing(pipe, recipe.clip.tokenizer, recipe.scale)


def ours(model: LatentDiffusion):
    """The same function for a pipeline of ours."""
    return lambda captions, seeds: text_to_image(model, captions, seeds)


def measure(compare: Callable, note: Callable) -> None:
    """Rows for `bench`, which hands over how it times two functions and adds a row."""
    model = load_pipeline("scenes-latent")
    for batch in BATCHES:
        captions = [Scenes(64).caption(index) for index in range(batch)]
        torch.compiler.reset()
        mine = {"eager": ours(model), "compiled": ours(compiled(model))}
        other = {"eager": theirs(), "compiled": theirs(compile=True)}
        start = time.perf_counter()
        mine["ONNX Runtime"] = ours(in_onnx(model))
        export = time.perf_counter() - start

        def once(draw, captions=captions):
            return draw(captions, range(len(captions)))

        def first(draw, once=once):
            start = time.perf_counter()
            once(draw)
            return time.perf_counter() - start

        waits = {name: first(draw) for name, draw in mine.items()}
        waits["ONNX Runtime"] += export
        waits |= {f"diffusers {name}": first(draw) for name, draw in other.items()}
        said = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in waits.items())
        note(f"the first call, batch {batch}, with compiling or exporting", said)
        for how, peer in (("eager", "eager"), ("compiled", "compiled"), ("ONNX Runtime", "eager")):
            what = f"a picture, batch {batch}, {how}, beside diffusers {peer}"
            by_us, by_them = (lambda d=d: once(d) for d in (mine[how], other[peer]))
            compare(what, by_us, by_them, 1.0, per=batch)
