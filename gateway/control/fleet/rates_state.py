"""What the store holds of a fleet's rate limits: a record for each host, and when its present life began.

All is in whole requests per window of a quota. A quota's key holds its limit and window, so hosts whose settings differ
do not count together. Of a quota that a record does not name, the host has its base: a part of the limit, the same for
all quotas. Records are JSON and removed by their host, its successor or a person only, never by time.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from gateway.control.fleet.codec import typed

PROTOCOL: Final = 1
MILLION: Final = 1_000_000
MOST: Final = 256  # quotas that a record names, and those of the others when its base grows
KEYS_CACHED: Final = 1 << 14
RECORDS_CACHED: Final = 64  # hosts whose records need not be read again while they are the same


class Entry(NamedTuple):
    """`share`: what the host may admit and reserves. `demand`: what it is asked for, refused requests included."""

    share: int
    demand: int


NO_ENTRIES: Final[Mapping[str, Entry]] = {}


class RateRecord(NamedTuple):
    """A host's. `turn` rises with each change. `base_ppm`: its part of each limit that `entries` do not name."""

    turn: int = 0
    name: str = ""
    base_ppm: int = 0
    entries: Mapping[str, Entry] = NO_ENTRIES

    def share(self, key: str) -> int:
        """What the host reserves of the quota."""
        entry = self.entries.get(key)
        return base_share(key, self.base_ppm) if entry is None else entry.share


class RatesCore(NamedTuple):
    """`life`: random, made with the data. `run_id`: the server's, for which `settled` holds: until then hosts bring
    what they have in force, and no share grows.
    """

    life: str = ""
    run_id: str = ""
    settled: bool = False
    protocol: int = PROTOCOL


def quota_key(name: str, limit: int, window_ns: int) -> str:
    """The key of a quota."""
    return f"{name}/{limit}/{window_ns}"


@lru_cache(KEYS_CACHED)
def limit_of(key: str) -> int:
    """The limit in a key. Raises ValueError."""
    return int(key.split("/")[1])


@lru_cache(KEYS_CACHED)
def window_of(key: str) -> int:
    """The window in a key, in ns. Raises ValueError."""
    return int(key.split("/")[2])


def base_share(key: str, base_ppm: int) -> int:
    """The part of a quota's limit, in whole requests."""
    return limit_of(key) * base_ppm // MILLION


def encoded_record(record: RateRecord) -> bytes:
    """As it is stored."""
    entries = {key: list(entry) for key, entry in record.entries.items()}
    return orjson.dumps([record.turn, record.name, record.base_ppm, entries], option=orjson.OPT_SORT_KEYS)


@lru_cache(RECORDS_CACHED)
def decoded_record(data: bytes) -> RateRecord:
    """Raises ValueError, with a remedy, if the data is not a record."""
    try:
        turn, name, base_ppm, found = typed(orjson.loads(data), (int, str, int, dict))
        entries = {key: Entry(*typed(entry, (int, int))) for key, entry in found.items()}
        for key in entries:
            limit_of(key)
    except (ValueError, TypeError, IndexError) as error:
        raise damaged(error) from None
    return RateRecord(turn, name, base_ppm, entries)


def encoded_core(core: RatesCore) -> bytes:
    """As it is stored."""
    return orjson.dumps(list(core))


def decoded_core(data: bytes) -> RatesCore:
    """Without data a core without life. Raises ValueError, with a remedy, if it is damaged or of another protocol."""
    if not data:
        return RatesCore()
    try:
        core = RatesCore(*typed(orjson.loads(data), (str, str, bool, int)))
    except (ValueError, TypeError) as error:
        raise damaged(error) from None
    if core.protocol != PROTOCOL:
        raise ValueError(f"this gateway speaks version {PROTOCOL} of the rates' protocol, the fleet {core.protocol}")
    return core


def damaged(error: Exception) -> ValueError:
    """The error of data that cannot be read."""
    problem: Any = f"the fleet's rates in the store are damaged ({type(error).__name__}: {error})"
    return ValueError(f"{problem}; choose another fleet.name, or delete the data")
