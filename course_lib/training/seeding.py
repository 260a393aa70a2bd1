"""Random draws that depend on a position alone, so that no random state has to be saved."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, index: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's draws depend on (seed, index) alone; the state outside is untouched."""
    mixed = np.random.SeedSequence(seed, spawn_key=(index,)).generate_state(1)  # independent
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(mixed[0]))
        yield
