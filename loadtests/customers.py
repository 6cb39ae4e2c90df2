"""Customers who bring real images of digits, keep asking in the background, and tell the truth a while later."""

import importlib.util
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import httpx
import orjson

from loadtests.client import Answer, Client, request

MODELS: Final = Path(__file__).parents[1] / "models"
CONNECTIONS: Final = 8
CUSTOMERS: Final = 200
PAUSE_S: Final = 0.02  # between rounds: they are customers, not a load
TRUTH_AFTER_S: Final = 1.0
TOLD_SHARE: Final = 0.9  # of the truths; on the others no one ever says a word
POLL_S: Final = 0.05
PATIENCE_S: Final = 120.0


def digits() -> ModuleType:
    """The training script of the shipped digits: its data and its estimator."""
    sys.path.insert(0, str(MODELS))
    try:
        spec = importlib.util.spec_from_file_location("digits_training", MODELS / "digits" / "train.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(MODELS))
    return module


@dataclass(frozen=True, slots=True)
class Images:
    """Rows of 64 grey values, [n, 64], and which digit each of them is, [n]."""

    rows: Any
    labels: Any

    def __len__(self) -> int:
        return len(self.labels)

    def inference(self, start: int, stop: int) -> dict[str, Any]:
        """The V2 request for some of them, as one batch."""
        rows = self.rows[start:stop].astype("float32")
        tensor = {"name": "image", "shape": [len(rows), 64], "datatype": "FP32", "data": rows.ravel().tolist()}
        return {"inputs": [tensor]}


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer, of which the customer knows whether it was right. `time_s` is of the monotonic clock."""

    time_s: float
    prediction_id: str
    version: int
    variant: str
    correct: bool


class Customers:
    """As a context: they ask as long as it is open, each image in its turn, over and over. Its end raises what failed.

    `answers`: all that they were answered; `failures`: what was no answer; `accepted`: the truths that were taken.
    """

    def __init__(self, address: tuple[str, int], images: Images) -> None:
        self.answers: list[Judged] = []
        self.failures: Counter[str] = Counter()
        self.accepted = 0
        self._address = address
        self._generator = random.Random(0)
        self._round = threading.Lock()
        self._images, self._asked = images, 0
        self._truths: deque[tuple[float, dict[str, Any]]] = deque()
        self._over = threading.Event()
        self._thread = ThreadPoolExecutor(1, "customers")
        self._running: Future[None] | None = None

    def __enter__(self) -> "Customers":
        self._running = self._thread.submit(self._run)
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._thread.shutdown()
        if self._running is not None and raised[0] is None:
            self._running.result()

    def meet(self, images: Images) -> int:
        """From now on they bring these images; returns the time in ns since 1970 that parts the two."""
        with self._round:
            self._images, self._asked = images, 0
            return time.time_ns()

    def until_all_told(self) -> None:
        """Wait until each image has been asked about, and the truths due of what was asked by then are told."""
        self.until(lambda: self._asked >= len(self._images), "every image has been asked about")
        asked_s = time.monotonic()
        self.until(lambda: not self._truths or self._truths[0][0] > asked_s, "the truth is told")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it; `what` it is, for who reads that it never came."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            assert self._running is not None
            if self._running.done():
                self._running.result()
            assert time.monotonic() < end, f"not after {PATIENCE_S:g} s: {what}"
            time.sleep(POLL_S)

    def _run(self) -> None:
        host, port = self._address
        with Client(self._address, CONNECTIONS, self._next) as client, httpx.Client() as teller:
            while not self._over.wait(PAUSE_S):
                with self._round:
                    client.send()
                    for answer in client.rest():
                        self._hear(answer)
                self._tell(teller, f"http://{host}:{port}/v2/feedback")

    def _next(self) -> bytes:
        number, customer = self._asked % len(self._images), self._generator.randrange(CUSTOMERS)
        self._asked += 1
        body = orjson.dumps({"id": str(number), **self._images.inference(number, number + 1)})
        return request("/v2/models/digits/infer", body, f"x-customer-id: customer-{customer}\r\n")

    def _hear(self, answer: Answer) -> None:
        if answer.status != 200:
            self.failures[f"{answer.status}: {answer.body[:200].decode(errors='replace')}"] += 1
            return
        document = orjson.loads(answer.body)
        said, truth = classes(document)[0], int(self._images.labels[int(document["id"])])
        parameters, now_s = document["parameters"], time.monotonic()
        one, version = parameters["prediction_id"], int(document["model_version"])
        self.answers.append(Judged(now_s, one, version, parameters["variant"], said == truth))
        if self._generator.random() < TOLD_SHARE:
            self._truths.append((now_s, {"prediction_id": one, "truth": truth}))

    def _tell(self, teller: httpx.Client, url: str) -> None:
        due_s = time.monotonic() - TRUTH_AFTER_S
        due = []
        while self._truths and self._truths[0][0] <= due_s:
            due.append(self._truths.popleft()[1])
        if due:
            told = teller.post(url, json=due).raise_for_status().json()
            self.accepted += told["accepted"]
            self.failures.update(rejected["error"] for rejected in told["rejected"])


def classes(document: Any) -> list[int]:
    """The digits that a V2 answer of the model says."""
    return next(output["data"] for output in document["outputs"] if output["name"] == "label")
