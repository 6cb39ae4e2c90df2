"""Keeps the sums of feedback in a file, with the place in the stream of feedback up to which they are counted.

What was recorded after that place is counted from the record files at the start, so a kill loses nothing that was
recorded, and no start has to read all of the records.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.record_writer.feedback_stats import MOST_VERSIONS, FeedbackStats, Key, Place
from gateway.control.record_writer.outcome_sums import ClassTruths, FeedbackSums, VersionFeedback
from gateway.records.measures import OutcomeSum

FILE: Final = "feedback.json"
SAVE_INTERVAL_S: Final = 5.0
log: Final = logging.getLogger("gateway.control.record_writer")


ReplaceFile = Callable[[Path, Callable[[], bytes]], None]  # path and what makes the content; returns at once


class FeedbackState:
    """Loads `feedback` from the state folder and the records in it, and saves it there by `replace_file`."""

    def __init__(
        self,
        feedback: FeedbackStats,
        state: Path,
        replace_file: ReplaceFile,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._feedback = feedback
        self._file = state / FILE
        self._replace_file = replace_file
        self._clock = clock
        counted, by_version = _read(self._file)
        feedback.by_version.update(by_version)
        self._place = feedback.load(state / "records", counted)
        self._saved_s = clock()

    def counted(self, place: Place) -> None:
        """Called in the writer thread after `feedback.add`. `place`: the end of what is recorded now."""
        self._place = place
        if self._clock() - self._saved_s >= SAVE_INTERVAL_S:
            self.save()

    def save(self) -> None:
        """Save it, soon. Called in the writer thread, or once that has ended."""
        self._saved_s = self._clock()
        content = orjson.dumps(
            {
                "segment": self._place.segment,
                "offset": self._place.offset,
                "versions": [_entry(key, credit) for key, credit in self._feedback.by_version.items()],
            },
            default=list,  # of a sum
        )
        self._replace_file(self._file, lambda: content)


def _entry(key: Key, credit: VersionFeedback) -> dict[str, Any]:
    model, version, variant = key
    sums = credit.sums
    return {
        "model": model,
        "version": version,
        "variant": variant,
        "outcomes": sums.outcomes,
        "routes": sums.routes,
        "classes": {str(index): one for index, one in sums.classes.items()},
    }


def _read(file: Path) -> tuple[Place, dict[Key, VersionFeedback]]:
    """The place and the sums of an earlier run; none if there is no file, or it is damaged."""
    try:
        document = orjson.loads(file.read_bytes())
        entries = [_credit(entry) for entry in document["versions"][-MOST_VERSIONS:]]
        return Place(_natural(document["segment"]), _natural(document["offset"])), dict(entries)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("%s cannot be used; feedback is counted from the latest records: %r", file, error)
    return Place(), {}


def _credit(entry: Mapping[str, Any]) -> tuple[Key, VersionFeedback]:
    kept = FeedbackSums(
        outcomes=_sums(entry["outcomes"]),
        routes={str(route): _sums(outcomes) for route, outcomes in entry["routes"].items()},
        classes={
            _natural(int(index)): ClassTruths(*map(_natural, counts)) for index, counts in entry["classes"].items()
        },
    )
    return (str(entry["model"]), _natural(entry["version"]), str(entry["variant"])), VersionFeedback(kept)


def _sums(document: Mapping[str, Any]) -> dict[str, OutcomeSum]:
    return {str(name): OutcomeSum(_natural(count), _sum(total)) for name, (count, total) in document.items()}


def _natural(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!s:.80} is not a count")
    return number


def _sum(total: object) -> float:
    if not isinstance(total, int | float) or isinstance(total, bool) or total != total:
        raise ValueError(f"{total!s:.80} is not a sum")
    return float(total)
