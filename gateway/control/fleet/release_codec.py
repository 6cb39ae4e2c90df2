"""A model's release as bytes in the store, all JSON: the digest as the core, and each host's log as a record.

The routes of a log's entries stand beside them: gateways of the release before know no longer entries, and would pass
them over, but read of a record only what they know.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import orjson

from gateway.control.fleet.codec import typed
from gateway.control.fleet.entries import with_route, without_route
from gateway.control.fleet.evidence import Digest, Log, Release

DIGEST: Final = (int, str, str, int, dict, dict, dict, list, int)
LOG: Final = (int, list, str, dict, int)
ROUTES: Final = "routes"


class Stored(Protocol):
    """What is read of a snapshot."""

    @property
    def core(self) -> bytes: ...
    @property
    def members(self) -> Mapping[str, bytes]: ...


def encoded_digest(digest: Digest) -> bytes:
    """The digest as the core of its document."""
    return orjson.dumps(digest._asdict())


def encoded_log(log: Log) -> bytes:
    """A host's record."""
    bare = [without_route(entry) for entry in log.entries]
    document = log._replace(entries=tuple(entry for entry, _ in bare))._asdict()
    routes = [route for _, route in bare]
    return orjson.dumps(document | ({ROUTES: routes} if any(routes) else {}))


class ReleaseReader:
    """Decodes snapshots; what has not changed since the last one is not decoded again."""

    def __init__(self) -> None:
        self._core = b""
        self._digest: Digest | None = None
        self._records: dict[str, tuple[bytes, Log]] = {}

    def read(self, stored: Stored) -> Release:
        """The release. Raises ValueError, with a remedy, if the data is not one."""
        try:
            if stored.core != self._core:
                self._digest = _digest(orjson.loads(stored.core)) if stored.core else None
                self._core = stored.core
            records = self._records
            self._records = {name: _known(records.get(name), record) for name, record in stored.members.items()}
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            problem = f"a release's data in the fleet's store is damaged ({type(error).__name__}: {error})"
            raise ValueError(f"{problem}; choose another fleet.name, or delete the data") from None
        return Release(self._digest, {name: log for name, (_, log) in self._records.items()})


def digest_of(document: dict[str, Any]) -> Digest:
    """The digest of a JSON object. Raises KeyError, TypeError, ValueError."""
    return _digest(document)


def _digest(document: dict[str, Any]) -> Digest:
    fields = typed([document[name] for name in Digest._fields], DIGEST)
    digest = Digest(*fields)
    numbers = [*digest.weights.values(), *digest.offsets.values()]
    typed(numbers, [int] * len(numbers))
    return digest._replace(recent=tuple(typed(list(digest.recent), [str] * len(digest.recent))))


def _known(before: tuple[bytes, Log] | None, record: bytes) -> tuple[bytes, Log]:
    if before is not None and before[0] == record:
        return before
    document = orjson.loads(record)
    log = Log(*typed([document[name] for name in Log._fields], LOG))
    entries = tuple(typed(list(log.entries), [list] * len(log.entries)))
    if routes := document.get(ROUTES):
        known = typed(list(routes), [int] * len(entries))
        entries = tuple(with_route(entry, route) for entry, route in zip(entries, known, strict=True))
    return record, log._replace(entries=entries)
