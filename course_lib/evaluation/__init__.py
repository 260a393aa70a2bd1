"""How good is it? Judged from the samples alone.

`PromptOracle` reads a picture and compares it with its caption. `distances` compares two sets of
features, and computes what two halves of the real data would score. `neighbours` and `memorisation`
look for copies. `roc` says how well a score tells two things apart, `attacks` spoil pictures.
"""

from course_lib.evaluation.oracle import PromptOracle

__all__ = ["PromptOracle"]
