"""How much memory is free. It does without torch, as `course doctor` must."""

from pathlib import Path

import psutil


def free_memory(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Free memory in bytes, also inside a container with a limit of its own."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        pages = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = int(pages["inactive_file"])  # cached files, which the system drops when needed
    except (OSError, ValueError, KeyError):  # not in a container, or its limit is the word "max"
        return free
    return min(free, limit - used + cached)
