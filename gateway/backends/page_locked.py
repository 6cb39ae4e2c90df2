"""Page-locked (pinned) memory, which a CUDA device reads without an intermediate copy by the driver.

The driver copies ordinary memory into a buffer of its own first, in the calling thread. ONNX Runtime's Python package
provides page-locked memory only for provider libraries registered as plug-ins, so this module locks its own memory
through CUDA's runtime library, which the CUDA provider has loaded into the process. The runtime recognises locked
memory by its address.
"""

import ctypes
import logging
import math
import mmap
import weakref
from pathlib import Path
from typing import Final

import numpy as np

from gateway.protocol.tensors import Array

MAPS: Final = Path("/proc/self/maps")
RUNTIME: Final = "libcudart"
PORTABLE: Final = 1  # cudaHostRegisterPortable: for all contexts of the process
log: Final = logging.getLogger("gateway.backends")


def cuda_runtime() -> ctypes.CDLL | None:
    """CUDA's runtime library if this process has loaded it, else None."""
    try:
        lines = MAPS.read_text(errors="replace").splitlines()
    except OSError:
        return None
    path = next((words[5] for line in lines if RUNTIME in line and len(words := line.split(None, 5)) > 5), "")
    try:
        return ctypes.CDLL(path) if path else None
    except OSError:
        return None


class PageLocked:
    """Allocates arrays for one CUDA device. `locked`: all arrays so far are page-locked; if not, `reason` says why."""

    def __init__(self, device: int, runtime: ctypes.CDLL | None) -> None:
        self._device = device
        self._runtime = runtime
        self.reason = "" if runtime else "CUDA's runtime library is not loaded in this process"

    @property
    def locked(self) -> bool:
        return not self.reason

    def __call__(self, shape: tuple[int, ...], dtype: "np.dtype[np.generic]") -> Array:
        """An array of zeros; in ordinary memory, which is slower, if locking fails."""
        count = math.prod(shape)
        memory = mmap.mmap(-1, max(count * dtype.itemsize, 1))
        array = np.frombuffer(memory, dtype, count)
        if self._runtime is not None and not self.reason:
            self._lock(array, len(memory))
        return array.reshape(shape)

    def _lock(self, array: Array, size: int) -> None:
        runtime = self._runtime
        assert runtime is not None
        address = array.ctypes.data
        code = runtime.cudaSetDevice(ctypes.c_int(self._device)) or runtime.cudaHostRegister(
            ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_uint(PORTABLE)
        )
        if code:
            runtime.cudaGetLastError()  # clears the error: the next check in this thread would report it again
            self.reason = f"CUDA's runtime refuses to lock {size} bytes: error {code}"
            log.warning("%s; inputs are copied to the device more slowly", self.reason)
            return
        # Views keep this array, so it goes last, and its memory after it. Not at exit: CUDA may be gone by then.
        weakref.finalize(array, runtime.cudaHostUnregister, ctypes.c_void_p(address)).atexit = False
