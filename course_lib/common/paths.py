"""Where the course keeps its files: `data/` beside the package, or the folder COURSE_DATA names.

The shipped models stay where they are; with COURSE_DATA a reader's own come before them.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("COURSE_DATA") or ROOT / "data")
SHIPPED = ROOT / "data" / "checkpoints"  # small trained models and their cards
EMOJI = ROOT / "data" / "emoji"  # pictures that ship, with their licences
CHECKPOINTS = DATA / "checkpoints"  # where models are published; those that lack here are SHIPPED's
RECORDED = ROOT / "course_lib" / "teaching" / "recorded"  # results of the experiments
PROGRESS = Path(os.environ.get("COURSE_PROGRESS") or DATA / "progress.json")  # the reader's own


def way_back() -> str:
    """How to get the shipped models back: only a clone of the repository can ask git."""
    copy = "copy data/checkpoints from the course's repository again"
    return f"git checkout -- data/checkpoints, or {copy}" if (ROOT / ".git").exists() else copy
