"""A wall clock that is set for all processes of a gateway, and for no other: `time.time` and `time.time_ns`.

The machine's own clock is everyone's. libfaketime (0.9.10) also shifts sleeps on the monotonic clock, which fail then.
"""

import os
import struct
from pathlib import Path
from typing import Final

_SITE: Final = """
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
    """In force in Python processes that start with `environment`, from then on."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._file = folder / "offset"
        self._file.write_bytes(bytes(8))
        (folder / "sitecustomize.py").write_text(_SITE.format(path=str(self._file)))
        found = os.environ.get("PYTHONPATH")
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), found)))}

    def set(self, seconds: float) -> None:
        """So much ahead of the real one from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", round(seconds * 1e9)))
