"""Feedback statistics of each version: live sums, each prediction once, however often clients repeat its feedback.

Runs in the control process, which receives the feedback of all workers, and passes new feedback on to the guards.
"""

import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.control.record_writer import feedback_memory
from gateway.control.record_writer.feedback_lines import parsed
from gateway.control.record_writer.feedback_memory import Change, FeedbackMemory, RecentValues
from gateway.control.record_writer.outcome_sums import UNLABELLED, VersionFeedback
from gateway.errors import InvalidRequest
from gateway.records.outcomes import bounded
from gateway.records.segments import FEEDBACK, segment_name, segments
from gateway.records.token import Signer, Token
from gateway.settings.model import Kind

MOST_VERSIONS: Final = 2000  # kept: those with the latest feedback
MAX_BUFFERED: Final = 100_000  # most items buffered for the guards: more push the oldest out, but are counted
CHUNK_BYTES: Final = 1 << 20
UNHEARD_NS: Final = 60 * 10**9  # the guards' state is saved more often than that
Key = tuple[str, int, str]  # model, version, variant
log: Final = logging.getLogger("gateway.control.record_writer")


@dataclass(frozen=True, slots=True)
class CreditedFeedback:
    """Feedback on one prediction, for the guards. `outcomes`: by name, those that are new for this prediction.

    `mirrored`: what its truth says of both versions, if the input was mirrored and they answered differently.
    """

    token: Token
    time_ns: int
    outcomes: Mapping[str, float]
    mirrored: "MirroredTruth | None"


class MirroredTruth(NamedTuple):
    """Whether each version was wrong; of numbers, whether it was further off than the other."""

    candidate_wrong: bool
    stable_wrong: bool


class _Recorded(NamedTuple):
    """New feedback in the records of an earlier process."""

    time_ns: int
    model: str
    prediction_id: str
    outcomes: Mapping[str, float]


class Place(NamedTuple):
    """A place in the stream of feedback: a segment's number, and bytes in it."""

    segment: int = 0
    offset: int = 0


START: Final = Place()


class FeedbackStats:
    """Sums feedback by model, version and variant (`by_version`), and buffers new feedback for the guards.

    `add` and `add_mirrors` are called in the writer thread; `by_version` and `take_new` are used by control's main
    thread.
    """

    def __init__(self, signer: Signer) -> None:
        self.by_version: OrderedDict[Key, VersionFeedback] = OrderedDict()
        self._named: Mapping[str, Container[str]] = {}
        self._reading = False
        self._signer = signer
        self._last: tuple[str, Token] | None = None  # rows of one request often come one after the other
        self._memory = FeedbackMemory()
        self._discordant: RecentValues[int | float] = RecentValues()
        self._new: deque[CreditedFeedback] = deque(maxlen=MAX_BUFFERED)
        self._unheard: deque[_Recorded] = deque(maxlen=MAX_BUFFERED)

    def load(self, folder: Path, counted: Place = START) -> Place:
        """Read the latest feedback of earlier runs at the start, to recognise repetitions; return where it ends.

        `counted`: up to where `by_version` has it counted already; what comes later is counted now, in the sums alone:
        this process has not received it. It is no new evidence for the guards, whose state is kept elsewhere; what came
        last, `take_unheard` returns.
        """
        end, self._reading = counted, True  # `keep_named` drops those in excess
        paths, lines = _newest(folder)
        if counted != START:
            _warn_of_gap(folder, counted, paths)
        for path in paths:
            name = segment_name(path.name)
            for offset, line in _lines(path):
                place = Place(name.number if name else 0, offset)
                lines -= 1
                if lines >= feedback_memory.MAX_REMEMBERED and (place < counted or counted == START):
                    continue  # it would be forgotten before the end, and none of so many is counted at a first start
                for record in parsed((line,)):
                    change = self._memory.put(record)
                    if change is not None and place >= counted:
                        self._count(record, change)
                    if change is not None:
                        self._remember(record, change)
                end = max(end, Place(place.segment, offset + len(line)))
        self.by_version.update({key: VersionFeedback(credit.sums) for key, credit in self.by_version.items()})
        self._reading = False
        return end

    def keep_named(self, named: Mapping[str, Container[str]]) -> None:
        """Count these outcomes, by model, however many others have come first."""
        self._named = named
        for (model, _, _), credit in list(self.by_version.items()):
            credit.drop_unnamed(named.get(model, ()))

    def add(self, lines: bytes) -> None:
        """Count recorded feedback lines."""
        for record in parsed(lines.splitlines()):
            change = self._memory.put(record)
            token = self._count(record, change) if change is not None else None
            if token is None or change is None:
                continue
            new = {name: value for name, value in change.received.items() if name not in change.before}
            if new:
                mirrored = self._mirrored(record, token, new)
                self._new.append(CreditedFeedback(token, record["time_ns"], new, mirrored))

    def add_mirrors(self, lines: bytes) -> None:
        """Remember the candidate's answers to mirrored requests, if they disagree with stable's."""
        for record in parsed(lines.splitlines()):
            if record.get("agreement") is False and type(record.get("predicted")) in (int, float):
                self._discordant.put(hash(record["prediction_id"]), record["predicted"])

    def take_new(self) -> list[CreditedFeedback]:
        """Return the new feedback since the last call, in order of arrival."""
        taken = []
        while self._new:
            taken.append(self._new.popleft())
        return taken

    def take_unheard(self, heard_ns: Mapping[str, int]) -> Iterator[CreditedFeedback]:
        """Yield new feedback that an earlier process had received in its last seconds, once, in order. `heard_ns`: by
        model, up to when it has been counted; 0: of this model none is asked for.
        """
        while self._unheard:
            one = self._unheard.popleft()
            if 0 < heard_ns.get(one.model, 0) < one.time_ns:
                with contextlib.suppress(InvalidRequest):  # signed by a key that has been removed
                    token = self._signer.read(one.prediction_id)
                    yield CreditedFeedback(token, one.time_ns, one.outcomes, None)

    def _remember(self, record: Mapping[str, Any], change: Change) -> None:
        """Keep what may not have been counted by who received it."""
        model, time_ns = record.get("model"), record.get("time_ns")
        new = {name: value for name, value in change.received.items() if name not in change.before}
        if new and type(model) is str and type(time_ns) is int:
            self._unheard.append(_Recorded(time_ns, model, record["prediction_id"], new))
            while self._unheard[0].time_ns < time_ns - UNHEARD_NS:
                self._unheard.popleft()

    def _count(self, record: Mapping[str, Any], change: Change) -> Token | None:
        """Count what has changed; return the prediction's token, None if an earlier run's key has signed it, which has
        been removed.
        """
        prediction, last = record["prediction_id"], self._last
        if last is None or last[0] != prediction:
            try:
                last = self._last = prediction, self._signer.read(prediction)
            except InvalidRequest:
                return None
        token = last[1]
        said = change.said
        credit = self._credit((token.model, token.version, token.variant))
        credit.received[said.verdict if change.truth else UNLABELLED] += 1
        credit.put(token.route, change.before, change.now, change.received)
        if change.classes_before is not None:
            credit.put_classes(said.classes, change.classes_before)
        return token

    def _credit(self, key: Key) -> VersionFeedback:
        credit = self.by_version.get(key)
        if credit is None:
            credit = self.by_version[key] = VersionFeedback()
            if len(self.by_version) > MOST_VERSIONS:
                self.by_version.popitem(last=False)
        else:
            self.by_version.move_to_end(key)
        credit.named, credit.reading = self._named.get(key[0], ()), self._reading
        return credit

    def _mirrored(self, record: Mapping[str, Any], token: Token, outcomes: Mapping[str, float]) -> MirroredTruth | None:
        predicted = self._discordant.get(hash(record["prediction_id"]))
        if type(predicted) is float:
            number, error = _number(token), outcomes.get("error")
            if number is None or error is None:
                return None
            theirs, ours = abs(bounded("error", predicted - (number - error))), abs(error)
            return MirroredTruth(theirs > ours, ours > theirs)
        truth, wrong = record.get("truth_class"), outcomes.get("wrong")
        if type(truth) is list and len(truth) == 1:
            (truth,) = truth
        known = predicted is not None and wrong is not None and type(truth) is int
        return MirroredTruth(predicted != truth, bool(wrong)) if known else None


def _number(token: Token) -> float | None:
    """What stable predicted for a single row, of its main output; None if that was no number."""
    main = token.carried[0] if token.carried else None
    if main is None or main.kind is not Kind.REGRESSION or main.values is None or len(main.values) != 1:
        return None
    number: float | None = main.values[0]
    return number


def _newest(folder: Path) -> tuple[list[Path], int]:
    """The newest segments that hold as many lines as are remembered, in order; and how many lines they hold."""
    paths: list[Path] = []
    lines = 0
    for path in reversed(segments(folder, FEEDBACK)):
        if lines >= feedback_memory.MAX_REMEMBERED:
            break
        paths.insert(0, path)
        with contextlib.suppress(OSError), path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                lines += chunk.count(b"\n")
    return paths, lines


def _warn_of_gap(folder: Path, counted: Place, read: Sequence[Path]) -> None:
    before = [path.name for path in segments(folder, FEEDBACK) if path not in read]
    missed = [file for file in before if (name := segment_name(file)) is not None and name.number > counted.segment]
    if missed:
        most, first, last = feedback_memory.MAX_REMEMBERED, missed[0], missed[-1]
        log.warning(
            "the sums of feedback lack %s to %s: more than %d lines have come since they were saved", first, last, most
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The complete lines of a segment, each with the offset at which it begins."""
    offset = 0
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield offset, line
                offset += len(line)
    except OSError as error:
        log.warning("the feedback in %s cannot be read; statistics start without it: %s", path, error.strerror)
