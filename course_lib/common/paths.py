"""Where the course keeps its files: `data/` beside the package, or the folder COURSE_DATA names."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("COURSE_DATA") or ROOT / "data")
CHECKPOINTS = DATA / "checkpoints"  # small trained models and their cards, part of the repository
RECORDED = ROOT / "course_lib" / "teaching" / "recorded"  # results of the experiments
PROGRESS = Path(os.environ.get("COURSE_PROGRESS") or DATA / "progress.json")  # the reader's own
