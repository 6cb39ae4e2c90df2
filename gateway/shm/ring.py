"""A byte ring in shared memory: one process appends whole entries, another removes them; neither ever blocks.

The writer advances `head` after an entry's bytes are in place, so a killed writer leaves no partial entry. The reader
advances `tail` after the entries are safe elsewhere. Before it writes them it notes where (`begin_drain`), so that if
it is killed, the next reader can undo that write and take the same bytes again: each entry arrives exactly once.

A writer that finds the ring empty starts again at the front (`base`): the bytes that are written and read then stay in
a core's cache, which the whole ring would not.

    words   head, owner's pid and start time, base: the count at which the front was written to (the writer's)
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
OWNER_START_TICKS: Final = 2
BASE: Final = 3
TAIL: Final = 8  # on another cache line than the writer's words
DRAIN_END: Final = 9
DRAIN_SEGMENT: Final = 10
DRAIN_OFFSET: Final = 11
WORDS: Final = 16
_DATA: Final = (HEADER_WORDS + WORDS) * WORD
NEAR_FRONT: Final = 1 << 18  # bytes from the front after which starting again at the front pays off
_LAYOUT: Final = 0x524E_0002_0000
_LAYOUT_WITHOUT_BASE: Final = 0x524E_0001_0000  # of an earlier release, in which the word was always 0


class Drain(NamedTuple):
    """A drain interrupted by its process's death: bytes up to `end` were being written at `offset` of `segment`."""

    end: int
    segment: int
    offset: int


class Ring:
    """A ring of `size` bytes. The writer uses `own`, `append` and `fits`; the reader, another process, the others."""

    __slots__ = ("_at", "_far", "_head", "_limit", "_raw", "_stop", "_words", "segment", "size")

    def __init__(self, segment: SharedSegment) -> None:
        self.segment = segment
        self._words = segment.words[:WORDS]
        self._raw = segment.raw
        self.size = len(segment.raw) - _DATA
        self._stop = _DATA + self.size
        self._head = self._words[HEAD]
        self._at = self._place(self._head)  # where the next entry begins
        self._far = _DATA + min(self.size // 2, NEAR_FRONT)
        self._limit = self._words[TAIL] + self.size  # by the reader's tail when the writer last read it

    @classmethod
    def create(cls, path: Path, size: int) -> "Ring":
        """Create an empty ring of at least `size` bytes; raises SettingsError if memory is short."""
        return cls(SharedSegment.create(path, WORDS + -(-size // WORD), _LAYOUT))

    @classmethod
    def attach(cls, path: Path) -> "Ring":
        """Map a ring that another process made; raises SettingsError if there is none."""
        try:
            return cls(SharedSegment.attach(path, _LAYOUT))
        except SettingsError:
            return cls(SharedSegment.attach(path, _LAYOUT_WITHOUT_BASE))

    def own(self) -> None:
        """Make this process the writer."""
        self._words[OWNER_PID] = os.getpid()
        self._words[OWNER_START_TICKS] = start_ticks(os.getpid())

    @property
    def owner_lives(self) -> bool:
        """Whether the writer's process is still running."""
        pid = self._words[OWNER_PID]
        return pid > 0 and 0 < self._words[OWNER_START_TICKS] == start_ticks(pid)

    def append(self, entry: bytes) -> bool:
        """Append an entry; return False if there is no room for it."""
        count = len(entry)
        end = self._head + count
        if end > self._limit and not self.fits(count):
            return False
        begin = self._at
        if begin >= self._far and self._words[TAIL] == self._head:
            self._words[BASE] = self._head  # before the head moves: a reader of an empty ring does not read base
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
        """Whether there is room for an entry of `size` bytes now."""
        end = self._head + size
        if end > self._limit:
            self._limit = self._words[TAIL] + self.size
        return end <= self._limit

    def pending(self, most: int) -> bytes | memoryview:
        """Return at most `most` waiting bytes, as a view if they are contiguous; they stay valid until `release`."""
        tail = self._words[TAIL]
        count = min(self._words[HEAD] - tail, most)
        begin = self._place(tail)
        stop = begin + count
        if stop <= self._stop:
            return memoryview(self._raw)[begin:stop]
        return self._raw[begin : self._stop] + self._raw[_DATA : stop - self.size]

    def lines(self, most: int) -> bytes | memoryview:
        """As `pending`, but only whole lines, and at least one, even if it is longer than `most`."""
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
        """Note that the next `count` bytes are about to be written at `offset` of `segment`."""
        self._words[DRAIN_SEGMENT] = segment
        self._words[DRAIN_OFFSET] = offset
        self._words[DRAIN_END] = self._words[TAIL] + count

    def release(self, count: int) -> None:
        """Free the first `count` waiting bytes, which are safe elsewhere."""
        self._words[TAIL] += count

    def undo_drain(self) -> None:
        """Clear the note of `begin_drain`: the write has not been done, or has been undone."""
        self._words[DRAIN_END] = self._words[TAIL]

    @property
    def interrupted(self) -> Drain | None:
        """The drain that a killed reader did not finish, or None."""
        if self._words[DRAIN_END] <= self._words[TAIL]:
            return None
        return Drain(self._words[DRAIN_END], self._words[DRAIN_SEGMENT], self._words[DRAIN_OFFSET])

    @property
    def waiting(self) -> int:
        """The number of waiting bytes."""
        return self._words[HEAD] - self._words[TAIL]

    @property
    def empty(self) -> bool:
        """Whether no bytes are waiting."""
        return self._words[HEAD] == self._words[TAIL]

    def _place(self, count: int) -> int:
        """The offset of the byte with this count. Readers call it after they saw the head move: base then stays."""
        return _DATA + (count - self._words[BASE]) % self.size

    def remove(self) -> None:
        """Delete the file."""
        self.segment.remove()
