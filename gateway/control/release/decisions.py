"""The decision log: all decisions on releases, and the stopped releases, on disk so that a stop survives a restart."""

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.release.decision_files import (
    DECISION,
    DEFAULT_RETAIN_BYTES,
    SEAL_BYTES,
    STOPPED,
    DecisionFiles,
    Entry,
)
from gateway.control.release.file_writer import FileWriter
from gateway.system.permissions import owner_remedy
from gateway.version_key import VersionKey

STOP_ACTIONS: Final = ("stop", "resume")  # actions that change what is stopped
MAX_IN_MEMORY: Final = 1000  # decisions kept in memory
LARGEST_SEQUENCE: Final = 1 << 52  # a larger one means damage, and JSON numbers are not exact beyond
DURABLE_TIMEOUT_S: Final = 1.0  # after this a stop returns anyway: it is in force, and the disk may hang


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDecision:
    """A change of a release: which action, by whom or which guard, when (ns since 1970), why, on what evidence.

    `sequence` orders decisions over all runs, from 1 on, because clocks may be set back; the time is for people.
    """

    time_ns: int
    model: str
    candidate: int
    action: str
    by: str
    reason: str
    evidence: dict[str, Any]
    sequence: int = 0


_KINDS: Final = {
    "time_ns": int, "model": str, "candidate": int, "action": str, "by": str, "reason": str, "evidence": dict
}  # fmt: skip


_FIELDS: Final = tuple(field.name for field in fields(ReleaseDecision))


class DecisionLog:
    """Records decisions and holds the stopped releases.

    They are kept in `folder` twice: in the decision files, and in stops.json in case those are cut or moved away. A
    decision is in force at once and written soon: see `wait_durable`. `retain`: bytes of old decisions to keep. The
    constructor raises ValueError if the files cannot be read or are damaged.
    """

    def __init__(self, folder: Path, retain: int = DEFAULT_RETAIN_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "stops.json"
        self._file_writer = FileWriter()
        self._files = DecisionFiles(folder, retain)
        read = _ReadState(deque(maxlen=MAX_IN_MEMORY))
        try:
            self._stopped: dict[VersionKey, ReleaseDecision] = _stopped_by(self._file, self._files, read)
        except OSError as error:
            raise ValueError(
                f"{error.filename} cannot be read ({error.strerror}); what is stopped is not known{owner_remedy(error)}"
            ) from None
        self.decisions: list[ReleaseDecision] = [*_before(self._files, MAX_IN_MEMORY - len(read.recent)), *read.recent]
        known = (read.last, *(one.sequence for one in (*self.decisions, *self._stopped.values())))
        self._last = max(known)
        self._size = self._files.size
        self._seal_if_large()
        self.counts: Counter[tuple[str, str]] = Counter()  # since the start, by model and action
        self.on_stop: Callable[[ReleaseDecision], None] = lambda decision: None  # called with each stop at once

    def stopped(self, model: str, candidate: int) -> ReleaseDecision | None:
        """Return the decision that stopped this release; None if it is not stopped."""
        return self._stopped.get((model, candidate))

    def stopped_keys(self) -> frozenset[VersionKey]:
        """Return all stopped releases."""
        return frozenset(self._stopped)

    def stop(self, model: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Record that the release is stopped; return the decision."""
        decision = self._record(model, candidate, "stop", by, reason, evidence)
        self._stopped[model, candidate] = decision
        self._write()
        self.on_stop(decision)
        return decision

    def resume(self, model: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        """Record that the release is resumed; return the decision."""
        decision = self._record(model, candidate, "resume", by, reason, evidence)
        self._stopped.pop((model, candidate), None)
        self._write()
        return decision

    def record(
        self, model: str, candidate: int, action: str, by: str, reason: str, evidence: dict[str, Any]
    ) -> ReleaseDecision:
        """Record any other decision, one that neither stops nor resumes; return it."""
        return self._record(model, candidate, action, by, reason, evidence)

    async def wait_durable(self) -> bool:
        """Wait until all decisions would survive this process's death; False if that fails or exceeds
        DURABLE_TIMEOUT_S.
        """
        return await self._file_writer.wait_appended(DURABLE_TIMEOUT_S)

    @property
    def on_disk(self) -> bool:
        """Whether all decisions so far would survive this process's death. Does not wait."""
        return self._file_writer.has_appended

    def run_after_sync(self, act: Callable[[], None]) -> None:
        """Call `act`, in a thread, once all decisions so far are on disk; never if they cannot be written."""
        self._file_writer.run_after_sync(act)

    @property
    def last_sequence(self) -> int:
        """Of the last decision of all."""
        return self._last

    def last(self, model: str, candidate: int, action: str) -> ReleaseDecision | None:
        """Return the last decision of this kind on the release, among the latest MAX_IN_MEMORY."""
        wanted = model, candidate, action
        return next((one for one in reversed(self.decisions) if (one.model, one.candidate, one.action) == wanted), None)

    def replace_file(self, path: Path, content: Callable[[], bytes], *, retried: bool = True) -> None:
        """Replace another file of the state folder, soon: see `FileWriter.replace`."""
        self._file_writer.replace(path, content, retried=retried)

    def close(self) -> None:
        """Write and sync everything, and end the writer's threads."""
        self._file_writer.close()

    def _record(
        self, model: str, candidate: int, action: str, by: str, reason: str, evidence: dict[str, Any]
    ) -> ReleaseDecision:
        self._seal_if_large()  # before this decision, which is then the first in the new file
        self._last += 1
        decision = ReleaseDecision(
            time_ns=time.time_ns(),
            model=model,
            candidate=candidate,
            action=action,
            by=by,
            reason=reason,
            evidence=evidence,
            sequence=self._last,
        )
        self.counts[decision.model, decision.action] += 1
        self.decisions = [*self.decisions[-MAX_IN_MEMORY + 1 :], decision]
        line = orjson.dumps({"kind": DECISION, **{name: getattr(decision, name) for name in _FIELDS}}) + b"\n"
        self._file_writer.append(self._files.newest, line)
        self._size += len(line)
        return decision

    def _seal_if_large(self) -> None:
        if self._size < SEAL_BYTES:
            return
        self._size = 0  # if sealing fails, it is tried again after another LARGEST bytes
        stopped = [asdict(decision) for decision in self._stopped.values()]
        last = self._last
        self._file_writer.run_after_appends(lambda: self._files.seal(stopped, last), self._files.newest)

    def _write(self) -> None:
        stopped = list(self._stopped.values())
        self._file_writer.replace(self._file, lambda: orjson.dumps(stopped))


def _before(files: DecisionFiles, most: int) -> list[ReleaseDecision]:
    """Read earlier decisions for display; what cannot be read is left out."""
    with contextlib.suppress(OSError):
        return [*deque(_decisions(files.entries_before()), maxlen=most)] if most > 0 else []
    return []


def read_stopped(folder: Path) -> frozenset[VersionKey]:
    """Return the stopped releases by the files of a gateway that may be running; raise OSError or ValueError."""
    return frozenset(_stopped_by(folder / "stops.json", DecisionFiles(folder), _ReadState(deque(maxlen=0))))


@dataclass(slots=True)
class _ReadState:
    """What has been read from the decision files so far: the latest decisions and the highest sequence."""

    recent: "deque[ReleaseDecision]"
    last: int = 0


def _stopped_by(file: Path, files: DecisionFiles, read: _ReadState) -> dict[VersionKey, ReleaseDecision]:
    """Combine stops.json and the decision files. Raises OSError; ValueError if stops.json is damaged."""
    stops = _read_stops(file)
    changes = (one for one in _read_decisions(files.entries(whole=stops is None), read) if one.action in STOP_ACTIONS)
    return _still_stopped(stops or {}, _last_changes(changes) if stops is None else list(changes))


def _last_changes(changes: Iterable[ReleaseDecision]) -> list[ReleaseDecision]:
    """Keep the last change of each release, in order: enough if there is no stops.json."""
    last: dict[VersionKey, ReleaseDecision] = {}
    for one in changes:
        last.pop((one.model, one.candidate), None)
        last[one.model, one.candidate] = one
    return list(last.values())


def _read_stops(file: Path) -> dict[VersionKey, ReleaseDecision] | None:
    """Read stops.json; None if there is none. Raises ValueError if it is damaged.

    To assume that nothing is stopped would send traffic to stopped candidates.
    """
    try:
        entries = orjson.loads(file.read_bytes())
        if type(entries) is not list:
            raise ValueError(f"it must hold a list, not {type(entries).__name__}")
        stops = [_decision(entry) for entry in entries]
    except FileNotFoundError:
        return None
    except ValueError as error:
        problem = f"{file} is damaged ({error}), so it is not known which releases were stopped. Fix it, or remove it"
        raise ValueError(f"{problem}; then the stops in {file.with_name('decisions.jsonl').name} apply") from None
    return {(stop.model, stop.candidate): stop for stop in stops}


def _read_decisions(entries: Iterable[Entry], read: _ReadState) -> Iterator[ReleaseDecision]:
    """Yield the decisions in the entries; for the list of stops that begins a file, the decisions that made them."""
    for entry in entries:
        if entry.get("kind") == STOPPED and isinstance(stops := entry.get("stops"), list):
            read.last = max(read.last, _number(entry.get("sequence")))
            yield from _decisions(stops)
        else:
            for decision in _decisions([entry]):
                one = decision if decision.sequence else replace(decision, sequence=read.last + 1)
                read.last = max(read.last, one.sequence)
                read.recent.append(one)
                yield one


def _decisions(entries: Iterable[Any]) -> Iterator[ReleaseDecision]:
    for entry in entries:
        with contextlib.suppress(ValueError):
            yield _decision(entry)


def _decision(entry: Any) -> ReleaseDecision:
    """Parse a decision; raises ValueError if it is none."""
    try:
        said = {name: value for name, value in entry.items() if name != "kind"}
        decision = ReleaseDecision(**{**said, "sequence": _number(said.get("sequence"))})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{entry!s:.80} is not a decision: {error}") from None
    for name, kind in _KINDS.items():
        if type(value := getattr(decision, name)) is not kind:
            raise ValueError(f"a decision's {name} is {value!s:.80}, which is not of the type {kind.__name__}")
    return decision


def _still_stopped(
    stops: dict[VersionKey, ReleaseDecision], decisions: list[ReleaseDecision]
) -> dict[VersionKey, ReleaseDecision]:
    """Apply decisions newer than stops.json, which is written after the decision files."""
    stopped = dict(stops)
    places = {key: _position(stop, decisions) for key, stop in stops.items()}
    for decision in decisions:
        key = decision.model, decision.candidate
        if decision.sequence <= places.get(key, 0):
            continue
        if decision.action == "stop":
            stopped[key] = decision
        elif decision.action == "resume":
            stopped.pop(key, None)
    return stopped


def _position(stop: ReleaseDecision, decisions: list[ReleaseDecision]) -> int:
    """Return the sequence up to which decisions are not newer than `stop`.

    The previous release of the gateway wrote no sequence: there the position in the list counts, or, if the list lacks
    the stop, its time.
    """
    if stop.sequence:
        return stop.sequence
    same = [one.sequence for one in decisions if replace(one, sequence=0) == stop]
    return max(same or [one.sequence for one in decisions if one.time_ns <= stop.time_ns], default=0)


def _number(sequence: object) -> int:
    """Return a valid sequence, or 0: the previous release of the gateway wrote none."""
    return sequence if type(sequence) is int and 0 < sequence < LARGEST_SEQUENCE else 0
