"""The decision list as JSON, cached: many clients request it between two decisions."""

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Final

import orjson

from gateway.control.api.release_pages import array_of
from gateway.control.api.rendering import decision_document
from gateway.control.release.decisions import MAX_IN_MEMORY, ReleaseDecision

MAX_CACHED: Final = 64  # different queries whose answers are cached
FEW: Final = 20  # decisions, which are encoded in less time than a thread takes to begin


class DecisionListCache:
    """Caches encoded decisions and complete answers. The cache of answers is dropped whenever the decision list is
    replaced, as after each decision. A call in a thread must end before the next call.
    """

    def __init__(self) -> None:
        self._decisions: Sequence[ReleaseDecision] = ()
        self._texts: dict[tuple[int, int], bytes] = {}  # by the decision's sequence (0 in old files) and time
        self._answers: dict[tuple[str | None, int], bytes] = {}

    def is_current(self, decisions: Sequence[ReleaseDecision]) -> bool:
        """Whether at most a FEW decisions have been added since the last call of `get`."""
        return any(one is self._decisions[-1] for one in islice(reversed(decisions), FEW)) if self._decisions else False

    def get(self, decisions: Sequence[ReleaseDecision], model: str | None, limit: int) -> bytes:
        """A JSON array of at most `limit` decisions, newest first; `model` None: of all models."""
        if decisions is not self._decisions:
            self._encode_new(decisions)
            self._decisions, self._answers = decisions, {}
        elif (answer := self._answers.get((model, limit))) is not None:
            return answer
        chosen = islice((one for one in reversed(decisions) if model in (None, one.model)), limit)
        answer = array_of(self._texts[_key(one)] for one in chosen)
        if len(self._answers) < MAX_CACHED:
            self._answers[model, limit] = answer
        return answer

    def _encode_new(self, decisions: Sequence[ReleaseDecision]) -> None:
        last = self._decisions[-1] if self._decisions else None
        new = [*takewhile(lambda one: one is not last, reversed(decisions))]
        for one in reversed(new):
            self._texts[_key(one)] = orjson.dumps(decision_document(one))
        if len(self._texts) > 2 * MAX_IN_MEMORY:
            self._texts = {key: self._texts[key] for key in map(_key, decisions)}


def _key(decision: ReleaseDecision) -> tuple[int, int]:
    return decision.sequence, decision.time_ns
