"""A training's folder: the state, saved regularly, and a log with one line for each step."""

import json
from pathlib import Path

from course_lib.common.checks import whole_numbers
from course_lib.common.files import make_folder, remove_temporary, write_files
from course_lib.training.scale.state import load_training, save_training


class Folder:
    """Writes `state.safetensors` and `log.jsonl` in `path`, and resumes from them.

    save_every: steps between two saved states; the last step is always saved.
    resume: False starts over and deletes an existing state.
    data: identifies the training data, by a name or by names with checksums
        (`Recipe.data_fingerprint`); the state of a run on other data is refused.

    >>> folder = Folder("outputs/digits", save_every=100)  # for train(..., folder=folder)
    >>> folder.log.name
    'log.jsonl'
    """

    def __init__(
        self,
        path: str | Path,
        save_every: int = 250,
        resume: bool = True,
        data: str | dict[str, str] | None = None,
    ):
        whole_numbers(1, save_every=save_every)
        self.path, self.save_every, self.resume, self.data = Path(path), save_every, resume, data

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    def open(self, training) -> None:
        """Load the state, if there is one to resume, and cut the log after its last step."""
        make_folder(self.path)
        if self.resume and self.state.exists():
            load_training(training, self.state)
        if training.is_main:
            remove_temporary(self.state, self.log)
            if not self.resume:
                self.state.unlink(missing_ok=True)  # before its log: they belong together
            lines = self.log.read_bytes().splitlines(keepends=True) if self.log.exists() else []
            kept = b"".join(lines[: training.done])
            write_files({self.log: kept})
            self.logged = len(kept)  # bytes

    def record(self, training, step) -> None:
        """Append the step to the log; if it is due, save the state, together with all processes."""
        if training.is_main:
            self.append({"step": step.index, "loss": step.loss, "lr": step.lr} | {
                "seconds": step.seconds
            })  # fmt: skip
        if step.index % self.save_every == 0 or step.index == training.steps:
            save_training(training, self.state)

    def append(self, line: dict) -> None:
        with open(self.log, "ab") as log:
            if log.tell() != self.logged:
                raise RuntimeError(
                    f"another training is writing into {self.path}: this one stops at step "
                    f"{line['step']}; its steps since the last saved state are lost"
                )
            self.logged += log.write(json.dumps(line).encode() + b"\n")
