"""The traffic of each release over the last hour, the last day and its whole life, which survives a restart."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.traffic.series import BUCKET_S, DAY_S, HOUR_S, NOTHING, Counts, Series, counts_of
from gateway.settings.routing import ReleaseSettings
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.slots import Slots
from gateway.shm.tally import VARIANTS

MODELS_PER_TICK: Final = 20  # each takes some 50 µs of control's loop
END: Final = object()
FILE: Final = "traffic.jsonl"
STABLE, CANDIDATE, _ = VARIANTS
log: Final = logging.getLogger("gateway.control.traffic")
Part = tuple[int, str]  # a version, and the variant in which it served


@dataclass(frozen=True, slots=True)
class VersionTraffic:
    """One version's counts in the last hour, the last day, and since the release began."""

    version: int
    variant: str
    hour: Counts
    day: Counts
    release: Counts


@dataclass(frozen=True, slots=True)
class ReleaseTraffic:
    """A release's traffic. `since_s`: when it began, that is when these versions were named, in seconds since 1970."""

    model: str
    since_s: float
    versions: tuple[VersionTraffic, ...]


@dataclass(slots=True)
class _Part:
    """A version in one variant. `release`: since the release began, up to the last bucket; `seen`: counted by then."""

    series: Series = field(default_factory=Series)
    release: Counts = NOTHING
    seen: Counts = NOTHING


@dataclass(slots=True)
class _Release:
    versions: tuple[int, int | None]  # stable, candidate
    since_s: float
    parts: dict[Part, _Part] = field(default_factory=dict)


class TrafficHistory:
    """Runs on control's loop. It reads the counters every BUCKET_S, and when it is asked. `replace_file(path, content)`
    replaces a file soon and durably. `on_new_release(model)` is called when other versions are named than before.
    `clock`: seconds since 1970. A kill loses what was counted since the last bucket.
    """

    def __init__(
        self,
        folder: Path,
        scoreboard: Scoreboard,
        versions: Slots,
        replace_file: Callable[[Path, Callable[[], bytes]], None],
        on_new_release: Callable[[str], None] = lambda model: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = folder / FILE
        self._scoreboard = scoreboard
        self._slots = versions
        self._replace_file = replace_file
        self._on_new_release = on_new_release
        self._clock = clock
        self._releases = _read(self._file, clock())
        self._bucket_s = _bucket(clock())
        self._served: Mapping[str, ReleaseSettings] = {}
        self._closing: Iterator[None] | None = None  # what is left of the bucket that has ended

    def steps(self, served: Mapping[str, ReleaseSettings]) -> Iterator[None]:
        """Begin the releases that are new in `served`, which is replaced as a whole. If a bucket has ended, take in the
        counters, of some models at each call, and save all. Yields after each model. Call often.
        """
        now_s = self._clock()
        if served is not self._served:
            self._served = served
            for model, settings in served.items():
                self._release(model, settings, now_s)
                yield
        if self._closing is None and self._bucket_s != _bucket(now_s):
            self._closing = self._close_bucket(served, self._bucket_s, now_s)
            self._bucket_s = _bucket(now_s)
        if self._closing is not None:
            yield from islice(self._closing, MODELS_PER_TICK - 1)
            if next(self._closing, END) is END:
                self._closing = None

    def save(self, served: Mapping[str, ReleaseSettings]) -> None:
        """Take in the counters, and save all, since the gateway ends."""
        for _ in self._close_bucket(served, self._bucket_s, self._clock()):
            pass

    def traffic(self, model: str, settings: ReleaseSettings) -> ReleaseTraffic:
        """The traffic of one release up to now."""
        now_s = self._clock()
        release = self._release(model, settings, now_s)
        return ReleaseTraffic(
            model, release.since_s, tuple(self._version(model, release, part, now_s) for part in _parts_of(settings))
        )

    def _version(self, model: str, release: _Release, part: Part, now_s: float) -> VersionTraffic:
        kept = release.parts[part]
        new = self._counted(model, part, kept.seen).since(kept.seen)
        hour, day = (kept.series.within(seconds, now_s) + new for seconds in (HOUR_S, DAY_S))
        return VersionTraffic(*part, hour, day, kept.release + new)

    def _close_bucket(self, served: Mapping[str, ReleaseSettings], start_s: int, now_s: float) -> Iterator[None]:
        lines: list[bytes] = []
        for model, settings in list(served.items()):
            release = self._release(model, settings, now_s)
            for part, kept in list(release.parts.items()):
                self._take_in(model, part, kept, start_s, now_s)
                if kept.series.empty and part not in _parts_of(settings):
                    del release.parts[part]
            lines.append(orjson.dumps(_document(model, release)))
            yield
        for model in self._releases.keys() - served.keys():
            del self._releases[model]
        self._replace_file(self._file, lambda: b"\n".join([*lines, b""]))

    def _take_in(self, model: str, part: Part, kept: _Part, start_s: int, now_s: float) -> None:
        """Add what was counted since the last time."""
        counted = self._counted(model, part, kept.seen)
        new, kept.seen = counted.since(kept.seen), counted
        kept.release += new
        kept.series.add(start_s, new, now_s)

    def _release(self, model: str, settings: ReleaseSettings, now_s: float) -> _Release:
        """The model's release, begun anew if other versions are named than before; each version keeps its series."""
        versions = settings.stable, settings.candidate
        known = self._releases.get(model)
        if known is None:
            known = self._releases[model] = _Release(versions, now_s)
        elif known.versions != versions:
            for part, kept in known.parts.items():
                self._take_in(model, part, kept, self._bucket_s, now_s)
                kept.release = NOTHING
            known.versions, known.since_s = versions, now_s
            self._on_new_release(model)
        for part in _parts_of(settings):
            if part not in known.parts:
                known.parts[part] = _Part(seen=self._counted(model, part, NOTHING))
        return known

    def _counted(self, model: str, part: Part, seen: Counts) -> Counts:
        """What is counted by now; `seen`, what was by the last time, if the version is not served."""
        version, variant = part
        slot = self._slots.versions_of(model).get(version)
        return seen if slot is None else counts_of(self._scoreboard.totals(slot), variant)


def _parts_of(settings: ReleaseSettings) -> tuple[Part, ...]:
    stable = settings.stable, STABLE
    return (stable,) if settings.candidate is None else (stable, (settings.candidate, CANDIDATE))


def _bucket(now_s: float) -> int:
    return int(now_s) - int(now_s) % BUCKET_S


def _document(model: str, release: _Release) -> dict[str, Any]:
    parts = [
        {"version": version, "variant": variant, "release": kept.release.to_json(), **kept.series.to_json()}
        for (version, variant), kept in release.parts.items()
    ]
    return {"model": model, "versions": release.versions, "since_s": release.since_s, "parts": parts}


def _read(file: Path, now_s: float) -> dict[str, _Release]:
    """What an earlier run has saved; what is damaged or missing costs only history."""
    try:
        lines = file.read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.warning("%s cannot be read, so the traffic of the last day is not known: %s", file, error.strerror)
        return {}
    releases: dict[str, _Release] = {}
    for number, line in enumerate(lines, 1):
        try:
            document = orjson.loads(line)
            releases[str(document["model"])] = _restored(document, now_s)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            log.warning("%s: line %d is damaged, so its model's traffic begins anew: %s", file, number, error)
    return releases


def _restored(document: dict[str, Any], now_s: float) -> _Release:
    stable, candidate = document["versions"]
    release = _Release((stable, candidate), float(document["since_s"]))
    for part in document["parts"]:
        kept = _Part(Series.from_json(part, now_s), Counts.from_json(part["release"]))
        release.parts[int(part["version"]), str(part["variant"])] = kept
    return release
