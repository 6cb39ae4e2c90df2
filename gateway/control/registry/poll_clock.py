"""When the registry is asked: regularly, at growing intervals while it does not answer, and soon after a hint."""

import math
from typing import Final

HINT_S: Final = 1.0  # between a poll and one that follows a hint at least, however many come
LONGEST_RETRY_S: Final = 60.0  # until what has failed is tried again, where polls are rarer
MOST_MISSED: Final = 6  # such pauses, between two calls to a registry that does not answer


class PollClock:
    """`poll_s`: between two polls. `retry_s`: until what has failed is tried again. All times are in seconds on one
    clock that the caller reads.
    """

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self.retry_s = min(poll_s, LONGEST_RETRY_S)
        self._hinted = False
        self._polled_s = -math.inf
        self._due_s = self._next_s = -math.inf
        self._missed = 0

    def hint(self) -> None:
        """Something may have changed there: poll soon."""
        self._hinted = True

    def begin_anew(self) -> None:
        """Poll at once: another host has done so up to now."""
        self._due_s = self._next_s = -math.inf
        self._missed = 0

    def may_ask(self, now_s: float) -> bool:
        """Whether it may be asked or told anything now."""
        if self._hinted and now_s - self._polled_s >= HINT_S:
            self._hinted = False
            self._due_s = self._next_s = -math.inf
        return now_s >= self._next_s

    def polls(self, now_s: float) -> bool:
        """Whether a poll is due, which begins now."""
        if now_s < self._due_s:
            return False
        self._polled_s, self._due_s = now_s, now_s + self._poll_s
        return True

    def waits(self, now_s: float) -> None:
        """Something has to wait, or has failed here: it is decided anew by a poll, though these are rare."""
        self._due_s = min(self._due_s, now_s + self.retry_s)

    def answered(self) -> None:
        """It has answered."""
        self._missed = 0

    def missed(self, now_s: float) -> None:
        """It has not."""
        self._missed = min(self._missed + 1, MOST_MISSED)
        self._next_s = now_s + self.retry_s * self._missed
        self._due_s = min(self._due_s, self._next_s)
