"""How much memory is free. It needs no torch, so that `course doctor` can say it without."""

from pathlib import Path

import psutil


def free_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes to be had, also in a container that may use fewer than the machine has."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        pages = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(pages["inactive_file"])  # of files that were read; given up when asked for
    except (OSError, ValueError, KeyError):  # no such container, or its limit is the word "max"
        return free
    return min(free, limit - used + cached)
