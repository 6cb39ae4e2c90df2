"""A ring of bytes in memory: one process appends whole entries, another takes them away, neither ever waits.

The writer moves `head` after an entry's bytes are there, so a writer that is killed leaves no half of one. The reader
moves `tail` after what it took is safe elsewhere. In between it notes where it puts it (`begin_drain`), so that after
its own death the next reader knows what to undo before it takes the same bytes again: each entry arrives exactly once.

A writer that finds everything taken begins again at the front (`base`): the bytes that it writes to, and the reader
takes from, then stay in a core's cache, where those of the whole ring would not.

    words   head, owner's pid and birth, base: the count at which the front was written to (the writer's)
            tail, drain's end, segment and offset (the reader's)

Source: Lamport, "Proving the Correctness of Multiprocess Programs" (1977): one writer and one reader need no lock. The
order of two stores holds for other cores on x86; on ARM CPython's own barriers at each bytecode stand in for a fence.
"""

import os
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import SettingsError
from gateway.shm.process_identity import start_ticks
from gateway.shm.segment import HEADER_WORDS, WORD, SharedSegment

HEAD: Final = 0
OWNER_PID: Final = 1
OWNER_BORN: Final = 2
BASE: Final = 3
TAIL: Final = 8  # on another cache line than the writer's words
DRAIN_END: Final = 9
DRAIN_SEGMENT: Final = 10
DRAIN_OFFSET: Final = 11
WORDS: Final = 16
_DATA: Final = (HEADER_WORDS + WORDS) * WORD
NEAR: Final = 1 << 18  # bytes from the front that are written to before it is worth to go back
_LAYOUT: Final = 0x524E_0002_0000
_LAYOUT_WITHOUT_BASE: Final = 0x524E_0001_0000  # of a former release: the word was there, and always 0


class Drain(NamedTuple):
    """A drain under way when its process died: bytes up to `end` were being written at `offset` of `segment`."""

    end: int
    segment: int
    offset: int


class Ring:
    """Both ends of the ring, which holds `size` bytes. A process uses one of them: `append`, or the others."""

    __slots__ = ("_at", "_far", "_head", "_limit", "_raw", "_stop", "_words", "segment", "size")

    def __init__(self, segment: SharedSegment) -> None:
        self.segment = segment
        self._words = segment.words[:WORDS]
        self._raw = segment.raw
        self.size = len(segment.raw) - _DATA
        self._stop = _DATA + self.size
        self._head = self._words[HEAD]
        self._at = self._place(self._head)  # where the next entry begins
        self._far = _DATA + min(self.size // 2, NEAR)
        self._limit = self._words[TAIL] + self.size  # as far as the writer knows the reader to be

    @classmethod
    def create(cls, path: Path, size: int) -> "Ring":
        """An empty ring of at least `size` bytes; raises SettingsError where memory is short."""
        return cls(SharedSegment.create(path, WORDS + -(-size // WORD), _LAYOUT))

    @classmethod
    def attach(cls, path: Path) -> "Ring":
        """A ring that another process made; raises SettingsError where there is none."""
        try:
            return cls(SharedSegment.attach(path, _LAYOUT))
        except SettingsError:
            return cls(SharedSegment.attach(path, _LAYOUT_WITHOUT_BASE))

    def own(self) -> None:
        """This process is the writer from now on."""
        self._words[OWNER_PID] = os.getpid()
        self._words[OWNER_BORN] = start_ticks(os.getpid())

    @property
    def owner_lives(self) -> bool:
        """Whether the writer may still append."""
        pid = self._words[OWNER_PID]
        return pid > 0 and 0 < self._words[OWNER_BORN] == start_ticks(pid)

    def append(self, entry: bytes) -> bool:
        """Add an entry; False where the ring is too full for it."""
        count = len(entry)
        end = self._head + count
        if end > self._limit and not self.fits(count):
            return False
        begin = self._at
        if begin >= self._far and self._words[TAIL] == self._head:
            self._words[BASE] = self._head  # before the head moves: a reader with nothing to take does not look at it
            begin = _DATA
        self._at = stop = begin + count
        if stop <= self._stop:
            self._raw[begin:stop] = entry
        else:
            room = self._stop - begin
            self._at = stop = _DATA + count - room
            self._raw[begin : self._stop] = entry[:room]
            self._raw[_DATA:stop] = entry[room:]
        self._head = self._words[HEAD] = end
        return True

    def fits(self, size: int) -> bool:
        """Whether an entry of `size` bytes would be taken now."""
        end = self._head + size
        if end > self._limit:
            self._limit = self._words[TAIL] + self.size
        return end <= self._limit

    def pending(self, most: int) -> bytes | memoryview:
        """What waits to be taken, `most` bytes at most; it stays, also in a view, until `release`."""
        tail = self._words[TAIL]
        count = min(self._words[HEAD] - tail, most)
        begin = self._place(tail)
        stop = begin + count
        if stop <= self._stop:
            return memoryview(self._raw)[begin:stop]
        return self._raw[begin : self._stop] + self._raw[_DATA : stop - self.size]

    def lines(self, most: int) -> bytes | memoryview:
        """As `pending` where entries are lines: whole ones only, but one at least, however long it is."""
        waiting = self.waiting
        if waiting <= most:
            return self.pending(waiting)
        begin = self._place(self._words[TAIL])
        if begin + most <= self._stop:
            end = self._raw.rfind(b"\n", begin, begin + most) + 1
            if end:
                return memoryview(self._raw)[begin:end]
        data = bytes(self.pending(most))
        if end := data.rfind(b"\n") + 1:
            return data[:end]
        data = bytes(self.pending(waiting))
        return data[: data.find(b"\n") + 1]

    def begin_drain(self, count: int, segment: int, offset: int) -> None:
        """The next `count` bytes are about to be written at `offset` of `segment`."""
        self._words[DRAIN_SEGMENT] = segment
        self._words[DRAIN_OFFSET] = offset
        self._words[DRAIN_END] = self._words[TAIL] + count

    def release(self, count: int) -> None:
        """`count` bytes are safe elsewhere."""
        self._words[TAIL] += count

    def undo_drain(self) -> None:
        """What was noted by `begin_drain` has not been done, and is undone."""
        self._words[DRAIN_END] = self._words[TAIL]

    @property
    def interrupted(self) -> Drain | None:
        """The drain that its process did not live to end; None where there is none."""
        if self._words[DRAIN_END] <= self._words[TAIL]:
            return None
        return Drain(self._words[DRAIN_END], self._words[DRAIN_SEGMENT], self._words[DRAIN_OFFSET])

    @property
    def waiting(self) -> int:
        """How many bytes wait to be taken."""
        return self._words[HEAD] - self._words[TAIL]

    @property
    def empty(self) -> bool:
        """Nothing waits to be taken."""
        return self._words[HEAD] == self._words[TAIL]

    def _place(self, count: int) -> int:
        """Where the byte of this count lies. A reader asks after it has seen the head move: from then on base stays."""
        return _DATA + (count - self._words[BASE]) % self.size

    def remove(self) -> None:
        """Take the file away."""
        self.segment.remove()
