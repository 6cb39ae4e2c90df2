"""Which releases are stopped, kept on disk so that a stop survives a restart; and the list of all that was decided."""

import json
import os
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

Key = tuple[str, int]  # a model and its candidate's version
SHOWN: Final = 1000  # decisions kept in memory


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of a release: by whom or which guard, when (ns since 1970), why, on what evidence."""

    time_ns: int
    model: str
    candidate: int
    action: str
    by: str
    reason: str
    evidence: dict[str, Any]


class Stops:
    """The stopped releases, in `folder`. Writing is not waited for to reach the disk: see `sync`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "stops.json"
        self._journal = folder / "decisions.jsonl"
        self._stopped: dict[Key, Decision] = _read_stops(self._file)
        self.decisions: list[Decision] = _read_decisions(self._journal)[-SHOWN:]
        self.counts: Counter[tuple[str, str]] = Counter()  # since the start, by model and action

    def stopped(self, model: str, candidate: int) -> Decision | None:
        """The decision that stopped this release; None where it is not stopped."""
        return self._stopped.get((model, candidate))

    def stop(self, model: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> Decision:
        """Keep that the release is stopped."""
        decision = self._record(Decision(time.time_ns(), model, candidate, "stop", by, reason, evidence))
        self._stopped[model, candidate] = decision
        self._write()
        return decision

    def resume(self, model: str, candidate: int, by: str, reason: str, evidence: dict[str, Any]) -> Decision:
        """Keep that the release goes on."""
        decision = self._record(Decision(time.time_ns(), model, candidate, "resume", by, reason, evidence))
        self._stopped.pop((model, candidate), None)
        self._write()
        return decision

    def note(self, model: str, candidate: int, action: str, by: str, reason: str, evidence: dict[str, Any]) -> Decision:
        """Keep any other decision: one that neither stops nor resumes."""
        return self._record(Decision(time.time_ns(), model, candidate, action, by, reason, evidence))

    def sync(self) -> None:
        """Have what was written reach the disk: for a thread, since a disk takes its time."""
        for path in (self._file, self._journal):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def _record(self, decision: Decision) -> Decision:
        self.counts[decision.model, decision.action] += 1
        self.decisions = [*self.decisions[-SHOWN + 1 :], decision]
        with self._journal.open("ab") as file:
            file.write(orjson.dumps({"kind": "decision", **asdict(decision)}) + b"\n")
        return decision

    def _write(self) -> None:
        unfinished = self._file.with_suffix(".new")
        unfinished.write_bytes(orjson.dumps([asdict(decision) for decision in self._stopped.values()]))
        unfinished.replace(self._file)


def _read_stops(file: Path) -> dict[Key, Decision]:
    """Raises ValueError for a damaged file: guessing that nothing is stopped would send traffic to what was stopped."""
    if not file.exists():
        return {}
    try:
        stops = [Decision(**entry) for entry in json.loads(file.read_bytes())]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}); which releases were stopped? Mend it, or remove it") from None
    return {(stop.model, stop.candidate): stop for stop in stops}


def _read_decisions(file: Path) -> list[Decision]:
    """Those that can be read: a killed process may have left half a line."""
    decisions = []
    for line in file.read_bytes().splitlines() if file.exists() else []:
        try:
            entry = orjson.loads(line)
            entry.pop("kind")
            decisions.append(Decision(**entry))
        except (ValueError, TypeError, KeyError):
            continue
    return decisions
