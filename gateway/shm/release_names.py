"""Which release has which slot of a switchboard, and what its breakers have found: for who finds the board later.

Control is killed, and the stops that workers have set stand on the board: without names no one could tell whose they
are. Lies behind all that workers look at, with memory only for slots that have been used.

    words for each slot: the candidate's version, the bytes of the model's name, the name, what each worker has found
"""

from typing import Final

from gateway.shm.segment import WORD, SharedSegment

NAME_WORDS: Final = 32  # models are folders, whose names have 255 bytes at most
VERSION: Final = 0
LENGTH: Final = 1
NAME: Final = 2


def words_of(workers: int) -> int:
    """How many words each slot takes."""
    return NAME + NAME_WORDS + workers


class ReleaseNames:
    """The names, from word `first` on."""

    def __init__(self, segment: SharedSegment, first: int, workers: int) -> None:
        self._segment = segment
        self._first = first
        self._stride = words_of(workers)

    def put(self, slot: int, model: str, version: int) -> None:
        """The slot is this release's; raises SettingsError where memory is short."""
        first, name = self._at(slot), model.encode()
        self._segment.reserve(first, self._stride)
        words = self._segment.words[first : first + self._stride]
        words[:] = memoryview(bytes(self._stride * WORD)).cast("q")
        words[NAME : NAME + NAME_WORDS] = memoryview(name.ljust(NAME_WORDS * WORD, b"\0")).cast("q")
        words[VERSION], words[LENGTH] = version, len(name)

    def get(self, slot: int) -> tuple[str, int] | None:
        """Whose the slot is; None where no one's."""
        first = self._at(slot)
        version, length = self._segment.words[first + VERSION], self._segment.words[first + LENGTH]
        if not 0 < length <= NAME_WORDS * WORD:
            return None
        name = self._segment.words[first + NAME : first + NAME + NAME_WORDS].tobytes()[:length]
        return name.decode(errors="replace"), version

    def found_word(self, slot: int, worker: int) -> int:
        """Where the worker writes what its breaker has found: the place of a word in TRIPS."""
        return self._at(slot) + NAME + NAME_WORDS + worker

    def _at(self, slot: int) -> int:
        return self._first + slot * self._stride
