"""A client that knows who is right, and says so: feedback of its own predictions, each after a while of its own."""

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import orjson

from loadtests.client import Answer, Client, Seen, request
from loadtests.judged import NAME, Row

MOST: Final = 500  # entries at a time
ACCEPTED: Final = 202
TRY_AGAIN: Final = 503
OK: Final = 200
CANDIDATE: Final = "2"


@dataclass(slots=True)
class Judge(Seen):
    """What its predictions were, and what is to be told of them. `delay_s`: the mean of an exponential one.
    `told_shares`: of stable's and the candidate's predictions, those of which it tells.

    The truth travels with the request, as its `id`.
    """

    generator: Random = field(default_factory=Random)
    delay_s: float = 0.0
    told_shares: tuple[float, float] = (1.0, 1.0)
    told: int = 0
    refused: int = 0  # lists of feedback that could not be recorded and are sent again
    _due: list[tuple[float, str, str]] = field(default_factory=list)
    _sent: list[dict[str, Any]] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        Seen.add(self, answer)
        if answer.status == OK and self.delay_s:
            document = orjson.loads(answer.body)
            share = self.told_shares[document["model_version"] == CANDIDATE]
            if share < 1 and self.generator.random() >= share:
                return
            due_s = time.monotonic() + self.generator.expovariate(1 / self.delay_s)
            heapq.heappush(self._due, (due_s, document["parameters"]["prediction_id"], document["id"]))

    def request(self) -> bytes:
        """The next prediction."""
        row = Row.drawn(self.generator)
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row.values()}
        return request(f"/v2/models/{NAME}/infer", orjson.dumps({"id": str(row.truth), "inputs": [tensor]}))

    def feedback(self) -> bytes:
        """What is due of it, as one request."""
        entries = self._sent = list(self._take())
        return request("/v2/feedback", orjson.dumps(entries), "content-type: application/json\r\n")

    def tell(self, teller: Client) -> None:
        """Send what is due, if it is the teller's turn; take what it was answered."""
        for answer in teller.there():
            if answer.status == TRY_AGAIN:
                self.refused += 1
                for entry in self._sent:
                    heapq.heappush(self._due, (time.monotonic(), entry["prediction_id"], entry["truth"]))
                continue
            assert answer.status == ACCEPTED and not orjson.loads(answer.body)["rejected"], answer.body
            self.told += len(self._sent)
        if self._due and self._due[0][0] <= time.monotonic():
            teller.send()

    def _take(self) -> Iterator[dict[str, Any]]:
        for _ in range(MOST):
            if not self._due or self._due[0][0] > time.monotonic():
                return
            _, prediction_id, truth = heapq.heappop(self._due)
            yield {"prediction_id": prediction_id, "truth": truth}


def judged_until(
    client: Client, teller: Client, judge: Judge, over: Callable[[], bool], longest_s: float, slice_s: float = 0.05
) -> bool:
    """Predictions and feedback until it is over; False where it was not in time."""
    end = time.monotonic() + longest_s
    while time.monotonic() < end:
        client.keep_busy(slice_s, judge)
        judge.tell(teller)
        if over():
            return True
    return False
