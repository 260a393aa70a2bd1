"""Training: the loop, EMA, the optimisers, and the folder of a run."""

from course_lib.training.adversarial import adversarial_loss
from course_lib.training.ema import EMA
from course_lib.training.folder import Folder
from course_lib.training.loop import Step, Training, train
from course_lib.training.optimizers import Optimizer
from course_lib.training.rate import learning_rate
from course_lib.training.scale.engine import Scale

__all__ = [
    "EMA",
    "Folder",
    "Optimizer",
    "Scale",
    "Step",
    "Training",
    "adversarial_loss",
    "learning_rate",
    "train",
]
