"""How good is it? Judged from the samples alone.

`PromptOracle` reads a picture and compares it with its caption. `distances` compares two sets of
features, and computes what two halves of the real data would score. `neighbours` looks for copies.
"""

from course_lib.evaluation.oracle import PromptOracle

__all__ = ["PromptOracle"]
