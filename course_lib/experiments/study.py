"""One runner for all recorded studies, and the one format of their results.

    python -m course_lib.experiments.NAME                  # every run that has no result yet
    python -m course_lib.experiments.NAME VARIANT          # one variant, with each seed
    python -m course_lib.experiments.NAME VARIANT SEED     # one run

Each run writes its own file (`teaching.results.Result`), so several can train at the same time, and
a study that was stopped continues with the missing runs. To repeat a run, delete its file.
"""

import argparse
import io
import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from course_lib.common.devices import hardware
from course_lib.common.files import make_folder, write_files
from course_lib.common.registry import choose
from course_lib.teaching.plots import pixels
from course_lib.teaching.results import Result, result_path
from course_lib.teaching.style import few_colours


@dataclass(frozen=True)
class Outcome:
    """What a study measures in one run; see `Result` for the parts.

    samples (rows, columns, C, H, W) in [-1, 1], with captions for each row.
    """

    settings: dict[str, float]
    metrics: dict[str, float]
    curve: dict[str, list[float]] = field(default_factory=dict)
    samples: Tensor | None = None
    captions: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Study:
    """A recorded study.

    name: its module's. run: trains one variant with one seed; None in a process that is not the
    main one of several. threads: CPU threads for every run, where their number matters.
    """

    name: str
    variants: Sequence[str]
    seeds: Sequence[int]
    run: Callable[[str, int], Outcome | None]
    threads: int | None = None

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """The command of the study's module: make the results that are missing."""
        parser = argparse.ArgumentParser(prog=f"python -m course_lib.experiments.{self.name}")
        parser.add_argument("variant", nargs="?", type=one_of("variant", self.variants))
        parser.add_argument("seed", nargs="?", type=whole_number)
        given = parser.parse_args(arguments)
        if self.threads:
            torch.set_num_threads(self.threads)
        for seed in self.seeds if given.seed is None else [given.seed]:
            for variant in self.variants if given.variant is None else [given.variant]:
                if not result_path(self.name, variant, seed).exists():
                    self.record(variant, seed)

    def record(self, variant: str, seed: int) -> None:
        """Train that variant with that seed and write the result."""
        if outcome := self.run(variant, seed):
            result = Result(
                self.name,
                variant,
                seed,
                command=self.command(variant, seed),
                hardware=hardware(torch.device("cpu")),
                settings=rounded(outcome.settings),
                metrics=rounded(outcome.metrics),
                curve=rounded(outcome.curve),
                captions=outcome.captions,
            )
            write(result, outcome.samples)
            print(result.variant, result.seed, result.metrics, flush=True)

    def command(self, variant: str, seed: int) -> str:
        return f"python -m course_lib.experiments.{self.name} {shlex.quote(variant)} {seed}"


def write(result: Result, samples: Tensor | None = None) -> None:
    """Write the result as JSON, and its samples beside it as a PNG."""
    path = result_path(result.study, result.variant, result.seed)
    fields = asdict(result).items()
    lines = [f'"{name}": {json.dumps(value, ensure_ascii=False)}' for name, value in fields]
    files = {path: ("{\n" + ",\n".join(lines) + "\n}\n").encode()}
    if samples is not None:
        files[path.with_suffix(".png")] = png(samples)
    make_folder(path.parent)
    write_files(files)


def png(samples: Tensor) -> bytes:
    """Samples (rows, columns, C, H, W) as one small PNG without gaps."""
    tiles = (pixels(samples.flatten(0, 1)) * 255).round().byte()  # (N, H, W, 3)
    tiles = tiles.unflatten(0, samples.shape[:2]).permute(0, 2, 1, 3, 4)
    page = Image.fromarray(tiles.flatten(2, 3).flatten(0, 1).numpy())
    buffer = io.BytesIO()
    few_colours(page).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def rounded(value: Any) -> Any:
    """Numbers to five significant digits, also inside lists and dicts.

    >>> rounded({"loss": [0.123456, 2]})
    {'loss': [0.12346, 2]}
    """
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def one_of(kind: str, names: Iterable[str]) -> Callable[[str], str]:
    """A type for argparse that takes one of these names.

    >>> one_of("recipe", ["digits-ddpm"])("digits-ddpm")
    'digits-ddpm'
    """

    def name_of(text: str) -> str:
        try:
            return choose(kind, text, {name: name for name in names})
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return name_of


def whole_number(text: str) -> int:
    """A type for argparse that takes a seed: 0, 1, 2, …"""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)
