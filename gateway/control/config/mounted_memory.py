"""What is remembered of mounted models from one start to the next.

STATE/mounted.json   the links that were made; the digest of each version that was ever mounted, to tell a file that has
                     been replaced; the revision of the routing file that was written for them
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.release.decisions import DecisionLog
from gateway.system.durable_files import replace_durably
from gateway.version_key import VersionKey

FILE: Final = "mounted.json"
log: Final = logging.getLogger("gateway.control.config")


@dataclass(frozen=True, slots=True)
class MountedMemory:
    """`links`: where each leads, by its path in the repository. `digests`: by version; empty for one that another
    server runs. `routing`: the revision of the routing file that was written at the first start; empty if none was.
    """

    links: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[VersionKey, str] = field(default_factory=dict)
    routing: str = ""


def read_mounted(state: Path) -> MountedMemory:
    """What was written at the last start; nothing if the file is missing or damaged."""
    file = state / FILE
    try:
        document: Any = orjson.loads(file.read_bytes())
        return MountedMemory(
            {str(name): str(target) for name, target in document["links"].items()},
            {_key(name): str(digest) for name, digest in document["sha256"].items()},
            str(document.get("routing", "")),
        )
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("%s is damaged (%s): mounted files that have been replaced since are not told", file, error)
    return MountedMemory()


def write_mounted(state: Path, memory: MountedMemory) -> None:
    """Write it durably. Raises OSError."""
    digests = {f"{model}/{number}": digest for (model, number), digest in memory.digests.items()}
    document = {"links": dict(memory.links), "sha256": digests, "routing": memory.routing}
    replace_durably(state / FILE, orjson.dumps(document))


def write_after_decisions(state: Path, memory: MountedMemory, decision_log: DecisionLog) -> None:
    """Write it once the decisions so far are on disk: until then a start that is killed finds the same again."""

    def write() -> None:
        try:
            write_mounted(state, memory)
        except OSError as error:
            log.error("%s cannot be written; the next start tells the same again: %s", state / FILE, error)

    decision_log.run_after_sync(write)


def numbers_mounted(state: Path, model: str) -> list[int]:
    """The numbers that a model's mounted versions have had: no proposal gets one of them."""
    return [number for name, number in read_mounted(state).digests if name == model]


def _key(name: str) -> VersionKey:
    model, _, number = name.rpartition("/")
    return model, int(number)
