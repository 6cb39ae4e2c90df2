"""Outcomes that wait until their predictions are old enough to count (`feedback_delay`)."""

import base64
import heapq
import logging
import zlib
from collections.abc import Iterator
from itertools import count
from typing import Final

import orjson

from gateway.control.guards.feedback_shares import SET_BACK_NS
from gateway.control.guards.observation import FeedbackEvent

MOST_WAITING: Final = 20_000  # what comes beyond is no evidence
LONGEST_GAP_NS: Final = 60 * 10**9  # between two looks; after more, the clock was set, or the machine was suspended
log: Final = logging.getLogger("gateway.control.guards")


class WaitingOutcomes:
    """Those of one part of the feedback. They wait by the wall clock, which predictions are dated by; but a clock that
    is set makes none of them older or younger. `dropped`: outcomes for which there was no room.
    """

    def __init__(self, delay_ns: int) -> None:
        self._delay_ns = delay_ns
        self._waiting: list[tuple[int, int, FeedbackEvent, tuple[str, ...]]] = []
        self.dropped = 0
        self._numbers = count()
        self._looked_ns = 0  # when `ripe` was called last; 0: not yet
        self._kept = ""
        self._restored: list[bytes] = []  # the rows of what waits, which need not be read to be kept

    def add(self, event: FeedbackEvent, outcomes: tuple[str, ...], time_ns: int) -> None:
        """Keep an event until its prediction is old enough. After `ripe` only. One that is of later than now was made
        while the clock was ahead, and counts as made now.
        """
        if len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("%s outcomes wait for feedback_delay already: others do not count", f"{MOST_WAITING:,}")
            return
        event = event._replace(decided_ns=min(event.decided_ns, time_ns))
        heapq.heappush(self._waiting, (event.decided_ns, next(self._numbers), event, outcomes))
        self._kept = ""

    def ripe(self, time_ns: int) -> Iterator[tuple[FeedbackEvent, tuple[str, ...]]]:
        """Those that are old enough, in the order of their predictions; they wait no more."""
        gap_ns = time_ns - self._looked_ns if self._looked_ns else 0
        self._looked_ns = time_ns
        if self._restored or not -SET_BACK_NS <= gap_ns <= LONGEST_GAP_NS:
            self._date_anew(gap_ns, time_ns)
        while self._waiting and self._waiting[0][0] <= time_ns - self._delay_ns:
            self._kept = ""
            _, _, event, outcomes = heapq.heappop(self._waiting)
            yield event, outcomes

    def to_packed(self) -> str:
        """What waits, as a text of some 20 characters each; empty if nothing does."""
        if self._waiting and not self._kept:
            rows = [
                [*event[1:5], event.route, {name: event.outcomes[name] for name in outcomes}]
                for _, _, event, outcomes in sorted(self._waiting)
            ]
            self._kept = base64.b64encode(zlib.compress(orjson.dumps(rows), 1)).decode()
        return self._kept

    def restore(self, packed: str) -> None:
        """Restore the output of `to_packed`. Costs little, as `KeyBounds.restore`."""
        self._kept = packed
        self._restored = [zlib.decompress(base64.b64decode(packed))] if packed else []

    def _date_anew(self, gap_ns: int, time_ns: int) -> None:
        """Let what waits go on as before the clock was set by `gap_ns`, and read what was restored."""
        while self._restored:
            for decided_ns, weight_ppm, candidate, key, route, outcomes in orjson.loads(self._restored.pop()):
                event = FeedbackEvent(0, decided_ns, weight_ppm, candidate, key, outcomes, route=route)
                self._waiting.append((decided_ns, next(self._numbers), event, tuple(outcomes)))
        waiting, self._waiting = self._waiting, []
        for decided_ns, number, event, outcomes in waiting:
            anew_ns = min(decided_ns + gap_ns, time_ns)
            self._waiting.append((anew_ns, number, event._replace(decided_ns=anew_ns), outcomes))
        heapq.heapify(self._waiting)
        self._kept = ""
