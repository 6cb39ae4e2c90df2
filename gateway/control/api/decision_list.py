"""The decision list as JSON, cached: many clients request it between two decisions."""

from collections.abc import Sequence
from typing import Final

import orjson

from gateway.control.api.release_pages import array_of
from gateway.control.api.rendering import decision_document
from gateway.control.release.decisions import ReleaseDecision

MAX_CACHED: Final = 64  # different queries whose answers are cached


class DecisionListCache:
    """Caches encoded decisions and complete answers. Use it from one thread only. The cache of answers is dropped
    whenever the decision list is replaced, as after each decision.
    """

    def __init__(self) -> None:
        self._decisions: Sequence[ReleaseDecision] = ()
        self._texts: dict[tuple[int, int], bytes] = {}  # by the decision's sequence (0 in old files) and time
        self._answers: dict[tuple[str | None, int], bytes] = {}

    def get(self, decisions: Sequence[ReleaseDecision], model: str | None, limit: int) -> bytes:
        """A JSON array of at most `limit` decisions, newest first; `model` None: of all models."""
        if decisions is not self._decisions:
            known, self._decisions, self._answers = self._texts, decisions, {}
            self._texts = {_key(one): known.get(_key(one)) or orjson.dumps(decision_document(one)) for one in decisions}
        elif (answer := self._answers.get((model, limit))) is not None:
            return answer
        chosen = [one for one in reversed(decisions) if model in (None, one.model)][:limit]
        answer = array_of(self._texts[_key(one)] for one in chosen)
        if len(self._answers) < MAX_CACHED:
            self._answers[model, limit] = answer
        return answer


def _key(decision: ReleaseDecision) -> tuple[int, int]:
    return decision.sequence, decision.time_ns
