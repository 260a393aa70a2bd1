"""Long runs that a chapter shows: a file for each, so several may go at once, and none twice."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from course_lib.common.files import make_folder, write_files
from course_lib.common.registry import choose


def one_of(kind: str, names: Iterable[str]) -> Callable[[str], str]:
    """A type for argparse: one of these names, others being refused in `choose`'s one line."""

    def name_of(text: str) -> str:
        try:
            return choose(kind, text, {name: name for name in names})
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return name_of


def natural(text: str) -> int:
    """A type for argparse: a seed, 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, 0 or more, got {text!r}")
    return int(text)


@dataclass(frozen=True)
class Runs:
    """`run(name, seed)` gives the facts of one run, a dict; `folder` keeps them, as JSON."""

    folder: Path
    run: Callable[[str, int], dict]
    names: Sequence[str]
    seeds: Sequence[int]

    def path(self, name: str, seed: int) -> Path:
        return self.folder / f"{'-'.join(name.replace(',', '').split())}-{seed}.json"

    def records(self) -> list[dict]:
        """The facts of all runs that were made, by name, then by seed."""
        paths = (self.path(name, seed) for name in self.names for seed in self.seeds)
        return [json.loads(path.read_text()) for path in paths if path.exists()]

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Makes what the folder lacks, on one core: all of it, or of one name, or one run.

        It is the command of the module that the folder is named after.
        """
        program = f"python -m course_lib.teaching.{self.folder.name}"
        parser = argparse.ArgumentParser(prog=program)
        parser.add_argument("name", nargs="?", choices=self.names)
        parser.add_argument("seed", nargs="?", type=int, choices=self.seeds)
        given = parser.parse_args(arguments)
        torch.set_num_threads(1)
        make_folder(self.folder)
        for seed in self.seeds if given.seed is None else [given.seed]:
            for name in self.names if given.name is None else [given.name]:
                path = self.path(name, seed)
                if not path.exists():
                    facts = self.run(name, seed)
                    write_files({path: (json.dumps(facts) + "\n").encode()})
                    print(facts, flush=True)
