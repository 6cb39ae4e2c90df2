"""Which releases are stopped, kept on disk so that a stop survives a restart; and the list of all that was decided."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.release.pen import Pen

Key = tuple[str, int]  # a model and its candidate's version
SHOWN: Final = 1000  # decisions kept in memory
KEPT_WITHIN_S: Final = 1.0  # then a stop returns all the same: it is in force, and the disk may hang for ever


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of a release: by whom or which guard, when (ns since 1970), why, on what evidence.

    `sequence` orders decisions, from 1 on, through all runs: the time is for people, and clocks are set back.
    """

    time_ns: int
    model: str
    candidate: int
    action: str
    by: str
    reason: str
    evidence: dict[str, Any]
    sequence: int = 0


class Stops:
    """The stopped releases, in `folder`: in the list of decisions, and, should that be cut or moved away, in a file.

    In force at once, written soon: see `kept`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "stops.json"
        self._journal = folder / "decisions.jsonl"
        self._pen = Pen()
        decisions = _read_decisions(self._journal)
        stops = _read_stops(self._file)
        self._stopped: dict[Key, Decision] = _still_stopped(stops, decisions)
        self._next = itertools.count(1 + max((one.sequence for one in (*decisions, *stops.values())), default=0))
        self.decisions: list[Decision] = decisions[-SHOWN:]
        self.counts: Counter[tuple[str, str]] = Counter()  # since the start, by model and action

    def stopped(self, model: str, candidate: int) -> Decision | None:
        """The decision that stopped this release; None where it is not stopped."""
        return self._stopped.get((model, candidate))

    def all(self) -> frozenset[Key]:
        """Every release that is stopped."""
        return frozenset(self._stopped)

    def stop(self, model: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> Decision:
        """Keep that the release is stopped."""
        decision = self._record(model, candidate, "stop", by, reason, evidence)
        self._stopped[model, candidate] = decision
        self._write()
        return decision

    def resume(self, model: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> Decision:
        """Keep that the release goes on."""
        decision = self._record(model, candidate, "resume", by, reason, evidence)
        self._stopped.pop((model, candidate), None)
        self._write()
        return decision

    def note(self, model: str, candidate: int, action: str, by: str, reason: str, evidence: dict[str, Any]) -> Decision:
        """Keep any other decision: one that neither stops nor resumes."""
        return self._record(model, candidate, action, by, reason, evidence)

    async def kept(self) -> bool:
        """Wait until all decisions would survive this process; False where the disk does not take them."""
        return await self._pen.appended(KEPT_WITHIN_S)

    @property
    def on_disk(self) -> bool:
        """Whether all decisions would survive this process, as far as is known now."""
        return self._pen.has_appended

    def after(self, act: Callable[[], None]) -> None:
        """Have `act` called, in a thread, once all decisions so far are on the disk."""
        self._pen.after(act)

    def close(self) -> None:
        """Write everything, and have it reach the disk."""
        self._pen.close()

    def _record(
        self, model: str, candidate: int, action: str, by: str, reason: str, evidence: dict[str, Any]
    ) -> Decision:
        decision = Decision(time.time_ns(), model, candidate, action, by, reason, evidence, next(self._next))
        self.counts[decision.model, decision.action] += 1
        self.decisions = [*self.decisions[-SHOWN + 1 :], decision]
        self._pen.append(self._journal, orjson.dumps({"kind": "decision", **asdict(decision)}) + b"\n")
        return decision

    def _write(self) -> None:
        stopped = list(self._stopped.values())
        self._pen.replace(self._file, lambda: orjson.dumps([asdict(decision) for decision in stopped]))


def read_stopped(folder: Path) -> frozenset[Key]:
    """What is stopped, by the files of a gateway that may be running; raises ValueError for a damaged one."""
    decisions = (
        _decisions_in((folder / "decisions.jsonl").read_bytes()) if (folder / "decisions.jsonl").exists() else []
    )
    return frozenset(_still_stopped(_read_stops(folder / "stops.json"), decisions))


def _read_stops(file: Path) -> dict[Key, Decision]:
    """Raises ValueError for a damaged file: guessing that nothing is stopped would send traffic to what was stopped."""
    if not file.exists():
        return {}
    try:
        entries = json.loads(file.read_bytes())
        stops = [Decision(**{**entry, "sequence": _number(entry.get("sequence"))}) for entry in entries]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error}); which releases were stopped? Mend it, or remove it") from None
    return {(stop.model, stop.candidate): stop for stop in stops}


def _still_stopped(stops: dict[Key, Decision], decisions: list[Decision]) -> dict[Key, Decision]:
    """The file is written after the list of decisions: what is newer in the list holds."""
    stopped = dict(stops)
    places = {key: _place(stop, decisions) for key, stop in stops.items()}
    for decision in decisions:
        key = decision.model, decision.candidate
        if decision.sequence <= places.get(key, 0):
            continue
        if decision.action == "stop":
            stopped[key] = decision
        elif decision.action == "resume":
            stopped.pop(key, None)
    return stopped


def _place(stop: Decision, decisions: list[Decision]) -> int:
    """Which of the decisions are older. The version before has written no sequence: there the list's order tells.

    Where the list lacks such a stop, only its time can.
    """
    if stop.sequence:
        return stop.sequence
    same = [one.sequence for one in decisions if replace(one, sequence=0) == stop]
    return max(same or [one.sequence for one in decisions if one.time_ns <= stop.time_ns], default=0)


def _read_decisions(file: Path) -> list[Decision]:
    """Those that can be read. A killed process may have left half a line, which must not swallow the next one."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        with file.open("ab") as opened:
            opened.write(b"\n")
    return _decisions_in(content)


def _decisions_in(content: bytes) -> list[Decision]:
    decisions: list[Decision] = []
    last = 0
    for line in content.splitlines():
        try:
            entry = orjson.loads(line)
            entry.pop("kind")
            decision = Decision(**{**entry, "sequence": _number(entry.get("sequence")) or last + 1})
            last = max(last, decision.sequence)
            decisions.append(decision)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
    return decisions


def _number(sequence: object) -> int:
    """0 where there is none: the version before has written none."""
    return sequence if type(sequence) is int and sequence > 0 else 0
