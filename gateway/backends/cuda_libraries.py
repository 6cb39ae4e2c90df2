"""Loads CUDA's libraries from pip packages (nvidia-cudnn-cu13 and others), unknown to the system's loader."""

import contextlib
import io
import threading
from collections.abc import Iterable
from typing import Final

import onnxruntime

_ON_CUDA: Final = ("CUDA", "Tensorrt")
_asked: Final = threading.Event()


def preload_from_packages(providers: Iterable[str]) -> bool:
    """Load them for these providers, once per process. Returns whether that was done now: then a retry may succeed."""
    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is None or _asked.is_set() or not any(name.startswith(_ON_CUDA) for name in providers):
        return False
    _asked.set()
    with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):  # it prints what is missing
        preload()
    return True
