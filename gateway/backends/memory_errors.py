"""Failures of a model for want of memory: whose want it is, the input's or that of all who share the memory."""

import os
import re
from pathlib import Path
from typing import Final

from gateway.errors import ModelFailed, NoMemory

LARGE_PART: Final = 16  # what asks for more than this part of all memory is taken to fail whoever else runs
CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_OUT_OF_MEMORY: Final = re.compile(
    r"bad.?alloc|(failed|unable|cannot) to allocate|out of memory|smaller than requested", re.I
)
_SIZE: Final = re.compile(r"requested (?:buffer of size|bytes of) *([0-9]+)")


def model_failure(error: Exception) -> ModelFailed:
    """What a run that has raised `error` is answered with."""
    reason = str(error).removeprefix("[ONNXRuntimeError] : ").strip() or type(error).__name__
    kind = NoMemory if is_out_of_memory(error, reason) else ModelFailed
    return kind(f"the model failed: {reason}")


def is_out_of_memory(error: Exception, reason: str) -> bool:
    """Whether it was refused memory that is there at other times."""
    if not isinstance(error, MemoryError) and _OUT_OF_MEMORY.search(reason) is None:
        return False
    size = _SIZE.search(reason)
    return size is None or int(size[1]) <= memory_bytes() // LARGE_PART


def memory_bytes() -> int:
    """What this process may use at most."""
    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _limit(), _cgroup()]
    return min(bound for bound in bounds if bound > 0)


def _limit() -> int:
    """Of its address space; 0: none."""
    try:
        import resource
    except ImportError:
        return 0
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if soft == resource.RLIM_INFINITY else soft


def _cgroup() -> int:
    try:
        return int(CGROUP.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return 0
