"""Training: the loop, the average of the weights, checkpoints, and the course's named recipes."""

from course_lib.devices import pick_device
from course_lib.paths import CHECKPOINTS
from course_lib.training.checkpoints import (
    amend_card,
    load_checkpoint,
    published,
    read_card,
    read_checkpoint,
    save_checkpoint,
)
from course_lib.training.ema import EMA
from course_lib.training.loop import Step, Training, train
from course_lib.training.rate import learning_rate

__all__ = [
    "CHECKPOINTS",
    "EMA",
    "Step",
    "Training",
    "amend_card",
    "learning_rate",
    "load_checkpoint",
    "pick_device",
    "published",
    "read_card",
    "read_checkpoint",
    "save_checkpoint",
    "train",
]
