"""The command that examines a training: diagnose."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer


def diagnose(
    folder: Annotated[Path, typer.Argument(help="a training's, such as outputs/digits-ddpm")],
    code: Annotated[
        str | None,
        typer.Option(
            help="a recipe's name, or your Python file with model(), batch(index), "
            "loss(model, data) and, if you have it, samples(model); your file is run"
        ),
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="a folder of samples, instead of drawing new ones")
    ] = None,
) -> None:
    """Find out what is wrong with a training, from its log, its weights, its code and its samples.

    Without --code it sees only the loss and the weights.
    """
    from course_lib.teaching import diagnosis

    given = None if code is None else load_code(code)
    samples = None if pictures is None else load_pictures(pictures)
    findings = diagnosis.diagnose(diagnosis.Evidence(folder, given, samples))
    for finding in findings:
        typer.echo(str(finding))
    verdicts = Counter(finding.verdict for finding in findings)
    typer.echo(", ".join(f"{verdicts[verdict]} {verdict}" for verdict in diagnosis.VERDICTS))
    if verdicts[diagnosis.NOT_VISIBLE] and code is None:
        typer.echo("More becomes visible with --code: a recipe's name, or your training's file.")


def load_code(name: str) -> Any:
    """The recipe of that name, or the Python file as a module, which runs it."""
    from course_lib.recipes import make_recipe

    if not name.endswith(".py"):
        return make_recipe(name)
    return load_module(Path(name))


def load_module(path: Path) -> Any:
    """The reader's own Python file; ValueError if it isn't there or lacks what a training needs."""
    from importlib.util import module_from_spec, spec_from_file_location

    if not path.is_file():
        raise ValueError(f"--code: there is no file {path}")
    spec = spec_from_file_location("reader_code", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    lacking = [name for name in ("model", "batch", "loss") if not hasattr(module, name)]
    if lacking:
        raise ValueError(f"--code: {path} lacks {', '.join(f'{name}(…)' for name in lacking)}")
    return module


def load_pictures(folder: Path):
    """The folder's pictures, in [-1, 1]: (N, C, H, W), in order of their names."""
    import numpy as np
    import torch
    from PIL import Image

    files = sorted(path for path in folder.glob("*") if path.suffix in (".png", ".jpg", ".jpeg"))
    if not files:
        raise ValueError(f"--pictures: expected a folder with png or jpg files, got {folder}")
    arrays = [np.array(Image.open(file)) for file in files]
    if len({array.shape for array in arrays}) > 1:
        raise ValueError(f"--pictures: expected pictures of one size and mode in {folder}")
    images = torch.from_numpy(np.stack(arrays)).float() / 127.5 - 1  # (N, H, W) or (N, H, W, C)
    return images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)
