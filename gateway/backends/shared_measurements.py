"""Shares what a load has measured with the other workers, so that each version is measured only once.

Measuring takes thirty milliseconds of a small version's load, and seconds of a large one's; opening its session takes
one. With a thousand models that was most of a start, and of the start of every replaced worker. All workers run the
same file on the same machine, so one result holds for all. New content on disk is measured again.

The workers of one gateway append lines to one file in shared memory, which lasts as long as the gateway. A line applies
to one content, as identified by `ContentVerdicts`, one version of ONNX Runtime and the providers that it was measured
on. An incomplete line, left when memory was full or a worker was killed, is ignored.
"""

import contextlib
import hashlib
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import onnxruntime
import orjson

from gateway.backends.content_verdicts import Content, ContentVerdicts
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.warmup import WarmUp
from gateway.version_key import VersionKey

MIN_AGE_NS: Final = 2_000_000_000  # a file written more recently may change again and look the same
_CTIME: Final = 4  # its index in the entry of a file


@dataclass(frozen=True, slots=True)
class Measurement:
    """The results of one load. `warm_up`: without its row; `sha256`: as in LoadedVersion."""

    warm_up: WarmUp
    loop_limits: LoopLimits
    sha256: str
    providers: tuple[str, ...]


class Measurements:
    """The measurements of all workers, in the file `path`. For one thread at a time."""

    def __init__(self, path: Path, repository: Path) -> None:
        self._path = path
        self._contents = ContentVerdicts(repository)
        self._known: dict[str, Measurement] = {}
        self._read = 0  # bytes
        self._torn = b""

    def content(self, key: VersionKey) -> Content:
        """The fingerprint of the version's files; empty if one was written less than MIN_AGE_NS ago."""
        content = self._contents.fingerprint(key)
        still = all(time.time_ns() - one[_CTIME] >= MIN_AGE_NS for one in content)
        return content if still else ()

    def find(self, content: Content) -> Measurement | None:
        """What a worker has measured of this content; None if nothing."""
        if not content:
            return None
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            self._read += len(new)
            *lines, self._torn = (self._torn + new).split(b"\n")
            for line in lines:
                self._learn(line)
        return self._known.get(_name(content))

    def publish(self, content: Content, measured: Measurement) -> None:
        """Append the measurement for the other workers."""
        if not content:
            return
        line = orjson.dumps(
            {
                "of": _name(content),
                "warm_up": measured.warm_up.dump(),
                "reach": asdict(measured.loop_limits),
                "sha256": measured.sha256,
                "providers": measured.providers,
            }
        )
        with contextlib.suppress(OSError):
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(
                    file, b"\n" + line + b"\n"
                )  # in one write, on a new line in case another worker left an incomplete one
            finally:
                os.close(file)

    def _learn(self, line: bytes) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            found = orjson.loads(line)
            self._known[found["of"]] = Measurement(
                WarmUp.load(found["warm_up"]),
                LoopLimits.load(found["reach"]),
                found["sha256"],
                tuple(found["providers"]),
            )


def _name(content: Content) -> str:
    return hashlib.sha256(repr((onnxruntime.__version__, content)).encode("utf-8", "surrogateescape")).hexdigest()
