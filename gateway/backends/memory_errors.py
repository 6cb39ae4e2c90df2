"""Failures of a model for lack of memory: whether this input needs too much, or memory is short for every process."""

import os
import re
from pathlib import Path
from typing import Final

from gateway.errors import ModelFailed, NoMemory

LARGE_PART: Final = 16  # a request for more than 1/16 of all memory is assumed to fail in any case
CGROUP: Final = Path("/sys/fs/cgroup/memory.max")
_OUT_OF_MEMORY: Final = re.compile(
    r"bad.?alloc|(failed|unable|cannot) to allocate|out of memory|smaller than requested", re.I
)
_SIZE: Final = re.compile(r"requested (?:buffer of size|bytes of) *([0-9]+)")


def model_failure(error: Exception) -> ModelFailed:
    """The error for a request whose run has raised `error`."""
    reason = str(error).removeprefix("[ONNXRuntimeError] : ").strip() or type(error).__name__
    kind = NoMemory if is_out_of_memory(error, reason) else ModelFailed
    return kind(f"the model failed: {reason}")


def is_out_of_memory(error: Exception, reason: str) -> bool:
    """Whether the run was refused memory that would be available at other times."""
    if not isinstance(error, MemoryError) and _OUT_OF_MEMORY.search(reason) is None:
        return False
    size = _SIZE.search(reason)
    return size is None or int(size[1]) <= memory_bytes() // LARGE_PART


def memory_bytes() -> int:
    """The most memory (bytes) that this process may use."""
    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _limit(), _cgroup()]
    return min(bound for bound in bounds if bound > 0)


def _limit() -> int:
    """The limit of the address space (bytes); 0: none."""
    try:
        import resource
    except ImportError:
        return 0
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if soft == resource.RLIM_INFINITY else soft


def _cgroup() -> int:
    try:
        return int(CGROUP.read_text())
    except (OSError, ValueError):  # missing, or "max"
        return 0
