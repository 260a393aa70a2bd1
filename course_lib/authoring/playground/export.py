"""The parts of a text-to-image model as ONNX files, each compared with PyTorch first.

    text_encoder   ids (B, L)                              -> context (B, L, D)
    unet           x (B, C, h, w), timestep (B,), context  -> prediction (B, C, h, w),
                                                              attention (B, L, h, w)
                   timestep (B, 2) for a U-Net with interval=True: see `diffusion.few_steps`
    vae_decoder    z (B, C, h, w)                          -> images (B, 3, H, W)
    vae_encoder    images (B, 3, H, W)                     -> z (B, C, h, w)

B is free. `attention` says for each token where the U-Net's cross-attention looks at it: the mean
over layers and heads. Latents are scaled inside, as by `vae.encode` and `vae.decode`.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from course_lib.common.files import make_folder, write_files
from course_lib.models import attention_maps, heat_map
from course_lib.pipelines import LatentDiffusion

EXTRA = ("onnx", "onnxruntime", "onnxscript")
LIMIT = 1e-4  # of the largest value: how far ONNX Runtime may be from PyTorch


@dataclass(frozen=True)
class Part:
    """A network to export: example inputs for a batch of two, by name, and its outputs' names."""

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]


class WithAttention(nn.Module):
    """The U-Net, and where it looks at each token of the context."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, timestep: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        with attention_maps(self.unet) as maps:
            prediction = self.unet(x, timestep, context)
        return prediction, heat_map(maps, size=x.shape[3])


class Method(nn.Module):
    """A network whose forward pass is another method of this one."""

    def __init__(self, network: nn.Module, name: str):
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.network, self.name)(x)


def parts(model: LatentDiffusion) -> list[Part]:
    """The four networks of a pipeline."""
    encoder, words = model.clip.text_encoder, model.clip.tokenizer
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, *model.latent, generator=draw)
    images = torch.rand(2, 3, model.size, model.size, generator=draw) * 2 - 1
    ids = torch.randint(len(words), (2, words.length), generator=draw)
    with torch.no_grad():
        context = encoder(ids)
    timestep = torch.tensor([999.0, 250.0])
    if model.unet.interval:  # where a step starts, and where it ends
        timestep = torch.stack([timestep, timestep / 2], 1)
    noisy = {"x": x, "timestep": timestep, "context": context}
    return [
        Part("text_encoder", encoder, {"ids": ids}, ("context",)),
        Part("unet", WithAttention(model.unet), noisy, ("prediction", "attention")),
        Part("vae_decoder", Method(model.vae, "decode"), {"z": x}, ("images",)),
        Part("vae_encoder", Method(model.vae, "encode"), {"images": images}, ("z",)),
    ]


def export(model: LatentDiffusion) -> Iterator[tuple[str, bytes, float]]:
    """Each part's name, its ONNX file, and its difference from PyTorch, which is within LIMIT.

    RuntimeError where a part differs by more, or where the extra `.[onnx]` is not installed.
    """
    check_extra()
    for part in parts(model):
        file = to_onnx(part)
        differs = difference(part, file)
        if not differs <= LIMIT:
            limit = f"expected at most {LIMIT:g} of the largest value"
            raise RuntimeError(f"{part.name}: ONNX and PyTorch differ by {differs:.1e}, {limit}")
        yield part.name, file, differs


def write(model: LatentDiffusion, out: str | Path) -> Iterator[tuple[Path, float]]:
    """Export into a folder: each file with its difference from PyTorch."""
    check_extra()
    folder = make_folder(out)
    for name, file, differs in export(model):
        path = folder / f"{name}.onnx"
        write_files({path: file})
        yield path, differs


def check_extra() -> None:
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        extra = "an extra: pip install -c constraints.txt -e '.[onnx]'"
        raise RuntimeError(f"ONNX files need {', '.join(missing)}, {extra}")


def to_onnx(part: Part) -> bytes:
    """The network as an ONNX file, with any number of samples, computing in float32."""
    with quietly(), torch.no_grad():
        program = torch.onnx.export(
            part.network.eval(),
            tuple(part.inputs.values()),
            dynamo=True,
            input_names=list(part.inputs),
            output_names=list(part.outputs),
            dynamic_shapes=[{0: torch.export.Dim("batch")} for _ in part.inputs],
            verbose=False,
        )
    proto = program.model_proto
    for node in proto.graph.node:
        del node.metadata_props[:]  # where in our code it came from, with this machine's paths
    store_in_half(proto.graph)
    return proto.SerializeToString()


def store_in_half(graph) -> None:
    """Weights that float16 holds exactly, as all that ship in it, are kept so and cast on loading.

    That changes no number, and halves the file.
    """
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for weights in graph.initializer:
        exact = numpy_helper.to_array(weights)
        with np.errstate(over="ignore"):
            half = exact.astype(np.float16)
        if exact.dtype == np.float32 and exact.ndim > 1 and np.array_equal(half, exact):
            name = weights.name
            weights.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
            casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def difference(part: Part, file: bytes) -> float:
    """The largest error of ONNX Runtime's outputs, as a share of the largest value of PyTorch's.

    For a batch of two and for one sample: the batch was exported as free.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    errors = []
    for count in (1, 2):
        inputs = {name: x[:count] for name, x in part.inputs.items()}
        with torch.no_grad():
            wanted = part.network(*inputs.values())
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        got = session.run(list(part.outputs), {name: x.numpy() for name, x in inputs.items()})
        for theirs, ours in zip(got, wanted, strict=True):
            errors.append((torch.from_numpy(theirs) - ours).abs().max() / ours.abs().max())
    return torch.stack(errors).max().item()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """The exporter speaks about its own progress and about packages that nobody asked for."""
    log = logging.getLogger("torch.onnx")
    level, _ = log.level, log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
