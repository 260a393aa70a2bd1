"""Textual-inversion files for Stable Diffusion 1, of diffusers and of the web UI's, in safetensors.

clip = load_textual_inversion("cat-toy.safetensors", model)    # the word is in diffusers' file
pipeline = replace(pipeline, clip=clip)                        # captions may contain "<cat-toy>"
"""

from contextlib import ExitStack
from pathlib import Path

from safetensors.torch import save

from course_lib.common.checks import finite, require
from course_lib.common.files import make_folder, write_files
from course_lib.models import TextualInversion
from course_lib.pipelines.stable_diffusion.checkpoint import FLOATS, StableDiffusion, open_weights

WEB_UI = "emb_params"  # its name of the vectors; the word is the name of the file
OTHERS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 1280: "Stable Diffusion XL"}


def load_textual_inversion(
    path: str | Path, model: StableDiffusion, word: str | None = None
) -> TextualInversion:
    """The model's prompt encoder with the new word in a file.

    model: a StableDiffusion, or a pipeline from `load_published`; word: how captions spell it, by
    default as the file or its name does. Raises FileNotFoundError if there is no such file;
    ValueError if it is damaged or not a .safetensors file, and for other vectors than the text
    encoder reads.
    """
    path, table = Path(path), model.clip.text_encoder.token_embedding.weight  # (V, dim)
    if not path.is_file():
        raise FileNotFoundError(f"there is no textual-inversion file {path}")
    with ExitStack() as files:
        weights = open_weights([path], files)
        if {"clip_l", "clip_g"} & weights.keys():
            raise ValueError(f"{path} is for Stable Diffusion XL: it has vectors for two encoders")
        require(len(weights) == 1, f"{path}", "the vectors of one word", f"{len(weights)} weights")
        ((name, weight),) = weights.items()
        require(weight.get_dtype() in FLOATS, f"{path}: {name}", "floats", weight.get_dtype())
        vectors = weight[...].float()
    vectors = vectors[None] if vectors.ndim == 1 else vectors
    dim = table.shape[1]
    kind = OTHERS.get(vectors.shape[-1], "another model") if vectors.ndim == 2 else ""
    got = f"{tuple(vectors.shape)}" + f", as for {kind}" * bool(kind)
    fits = vectors.ndim == 2 and len(vectors) > 0 and vectors.shape[1] == dim
    require(fits, f"{path}: {name}", f"(N, {dim})", got)
    finite(f"{path}: {name}", vectors)
    word = word or (path.stem if name == WEB_UI else name)
    return TextualInversion(model.clip, word, vectors.to(table)).eval().requires_grad_(False)


def save_textual_inversion(path: str | Path, clip: TextualInversion) -> None:
    """Write the new word's vectors so that diffusers' `load_textual_inversion` reads them."""
    require(Path(path).suffix == ".safetensors", "a file", "a name in .safetensors", path)
    vectors = clip.vectors.detach().float().cpu().contiguous()
    finite(clip.word, vectors)
    make_folder(Path(path).parent)
    write_files({Path(path): save({clip.word: vectors}, {"format": "pt"})})
