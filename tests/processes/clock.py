"""A wall clock that a test sets, for all processes of a gateway: `time.time` and `time.time_ns`, and no other clock."""

import os
import struct
from pathlib import Path

import pytest

_SITE = """
import mmap, struct, time
_file = open({path!r}, "rb")
_set_ns = mmap.mmap(_file.fileno(), 8, access=mmap.ACCESS_READ)
_real_ns = time.time_ns
def _now_ns():
    return _real_ns() + struct.unpack("q", _set_ns[:8])[0]
time.time_ns = _now_ns
time.time = lambda: _now_ns() / 1e9
"""


class WallClock:
    """Applies to processes that start from now on, until `patch` is undone."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._file = folder / "offset"
        self._file.write_bytes(bytes(8))
        (folder / "sitecustomize.py").write_text(_SITE.format(path=str(self._file)))
        found = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), found))))

    def set(self, seconds: float) -> None:
        """Set the clock ahead of the real one by this much from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", round(seconds * 1e9)))
