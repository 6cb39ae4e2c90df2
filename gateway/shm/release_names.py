"""The names of a switchboard's releases, and the reasons of breaker trips, for the run that finds the board later.

If control is killed, the stops that workers have set remain on the board; without names they could not be attributed.
The names lie behind all words that workers read per request, with memory only for slots that have been used.

    words for each slot: candidate's version, length of the model's name in bytes, the name, each worker's trip reason
"""

from typing import Final

from gateway.shm.segment import WORD, SharedSegment

NAME_WORDS: Final = 32  # models are folders, whose names have 255 bytes at most
VERSION: Final = 0
LENGTH: Final = 1
NAME: Final = 2


def words_of(workers: int) -> int:
    """Return the number of words per slot."""
    return NAME + NAME_WORDS + workers


class ReleaseNames:
    """The names, in the words of `segment` from `first` on."""

    def __init__(self, segment: SharedSegment, first: int, workers: int) -> None:
        self._segment = segment
        self._first = first
        self._stride = words_of(workers)

    def put(self, slot: int, model: str, version: int) -> None:
        """Assign the slot to this release and clear its trip reasons; raise SettingsError if memory is short."""
        first, name = self._at(slot), model.encode()
        self._segment.reserve(first, self._stride)
        words = self._segment.words[first : first + self._stride]
        words[:] = memoryview(bytes(self._stride * WORD)).cast("q")
        words[NAME : NAME + NAME_WORDS] = memoryview(name.ljust(NAME_WORDS * WORD, b"\0")).cast("q")
        words[VERSION], words[LENGTH] = version, len(name)

    def get(self, slot: int) -> tuple[str, int] | None:
        """Return the model and candidate version of the slot; None if it was never assigned."""
        first = self._at(slot)
        version, length = self._segment.words[first + VERSION], self._segment.words[first + LENGTH]
        if not 0 < length <= NAME_WORDS * WORD:
            return None
        name = self._segment.words[first + NAME : first + NAME + NAME_WORDS].tobytes()[:length]
        return name.decode(errors="replace"), version

    def found_word(self, slot: int, worker: int) -> int:
        """Return the index of the word for the worker's trip reason, which holds an index into TRIPS."""
        return self._at(slot) + NAME + NAME_WORDS + worker

    def _at(self, slot: int) -> int:
        return self._first + slot * self._stride
