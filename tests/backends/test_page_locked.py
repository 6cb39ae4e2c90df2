"""Page-locked memory, with a runtime that only notes what it is asked: unlocked once, after its last view has gone."""

import ctypes
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state

from gateway.backends import page_locked
from gateway.backends.page_locked import PageLocked, cuda_runtime

FLOATS = np.dtype(np.float32)


class Noting:
    """Stands for CUDA's runtime."""

    def __init__(self, code: int = 0) -> None:
        self.asked: list[tuple[str, int]] = []
        self._code = code

    def cudaSetDevice(self, device: ctypes.c_int) -> int:
        self.asked.append(("device", device.value))
        return 0

    def cudaHostRegister(self, address: ctypes.c_void_p, size: ctypes.c_size_t, flags: ctypes.c_uint) -> int:
        assert address.value is not None and address.value % 4096 == 0 and flags.value == 1
        self.asked.append(("lock", size.value))
        return self._code

    def cudaGetLastError(self) -> int:
        self.asked.append(("forget", self._code))
        return self._code

    def cudaHostUnregister(self, address: ctypes.c_void_p) -> int:
        self.asked.append(("unlock", address.value or 0))
        return 0


def test_it_is_locked_until_the_last_view_has_gone() -> None:
    runtime: Any = Noting()
    allocate = PageLocked(3, runtime)
    array = allocate((5, 7), FLOATS)
    assert (array.shape, array.dtype, array.flags.writeable, allocate.locked) == ((5, 7), FLOATS, True, True)
    address = array.ctypes.data
    view = array[2:]
    del array
    gc.collect()
    assert runtime.asked == [("device", 3), ("lock", 140)]
    view[:] = 1.0
    del view
    gc.collect()
    assert runtime.asked[2:] == [("unlock", address)]


def test_where_it_cannot_be_locked_it_is_ordinary_memory() -> None:
    refusing: Any = Noting(code=2)
    allocate = PageLocked(0, refusing)
    assert allocate((2, 3), FLOATS).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert not allocate.locked and "error 2" in allocate.reason
    allocate((2, 3), FLOATS)
    gc.collect()
    assert [what for what, _ in refusing.asked] == ["device", "lock", "forget"]  # asked once, unlocked never
    none = PageLocked(0, None)
    assert none((0, 3), FLOATS).shape == (0, 3) and "not loaded" in none.reason


def test_the_runtime_is_the_one_that_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = tmp_path / "maps"
    monkeypatch.setattr(page_locked, "MAPS", maps)
    assert cuda_runtime() is None
    maps.write_text("7f00-7f01 r-xp 00000000 fe:00 12 /nowhere/libcudart.so.13\n7f02-7f03 rw-p 00000000 00:00 0\n")
    assert cuda_runtime() is None
    own = onnxruntime_pybind11_state.__file__
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "libcudart.so.13").symlink_to(own)
    maps.write_text(f"7f00-7f01 r-xp 00000000 fe:00 12    {tmp_path}/a folder/libcudart.so.13\n")
    assert cuda_runtime() is not None
