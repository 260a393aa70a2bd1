"""Recorded studies: each makes a result file that a chapter shows. Run one with `python -m`."""
