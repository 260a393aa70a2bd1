"""Where the course keeps its files: `data/` beside the package, or the folder COURSE_DATA names."""

import os
from pathlib import Path

DATA = Path(os.environ.get("COURSE_DATA") or Path(__file__).resolve().parent.parent / "data")
CHECKPOINTS = DATA / "checkpoints"  # small trained models and their cards, part of the repository
