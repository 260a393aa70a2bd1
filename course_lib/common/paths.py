"""Where the course keeps its files: in `data/` beside the package, or in the folder COURSE_DATA.

The shipped models stay in `data/`. Models of the same name in COURSE_DATA take precedence.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("COURSE_DATA") or ROOT / "data")
SHIPPED = ROOT / "data" / "checkpoints"  # small trained models and their cards
EMOJI = ROOT / "data" / "emoji"  # pictures that ship, with their licences
CHECKPOINTS = DATA / "checkpoints"  # published models; those that are missing are SHIPPED's
RECORDED = ROOT / "course_lib" / "teaching" / "recorded"  # results of the experiments
PROGRESS = Path(os.environ.get("COURSE_PROGRESS") or DATA / "progress.json")  # of the reader


def restore_hint() -> str:
    """How to restore the shipped models; git can only do it in a clone of the repository."""
    copy = "copy data/checkpoints from the course's repository again"
    return f"git checkout -- data/checkpoints, or {copy}" if (ROOT / ".git").exists() else copy
