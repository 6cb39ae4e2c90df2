"""Sends feedback to the data plane in lists, again where it asks for that, and gathers what it rejects."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

from gateway.errors import GatewayError
from gateway.offline.feedback.fields import Entry

MAX_ENTRIES: Final = 10_000  # of one list, which is what the data plane takes
MAX_BYTES: Final = 4 * 1024**2  # of one list; a data plane with a smaller limit gets halves
AGAIN: Final = frozenset({429, 503})
MAX_WAIT_S: Final = 60.0  # for one repetition, whatever Retry-After says
GIVE_UP_AFTER_S: Final = 600.0  # of waiting without a list taken
DEFAULT_WAIT_S: Final = 1.0
MAX_KEPT: Final = 1_000  # rejected entries kept for the report
FEEDBACK_PATH: Final = "/v2/feedback"
OnRejected = Callable[[Entry, str], None]


@dataclass(slots=True)
class Report:
    """What became of a file. `kept`: the first rejected lines with the reasons; `reasons`: how often each reason.

    `uncounted`: truths that are taken for the data set, but count in no metric, by reason.
    """

    accepted: int = 0
    rejected: int = 0
    kept: list[tuple[int, str]] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    uncounted: Counter[str] = field(default_factory=Counter)

    def reject(self, line: int, error: str) -> None:
        """Count a rejected line."""
        self.rejected += 1
        if len(self.kept) < MAX_KEPT:
            self.kept.append((line, error))
        if error in self.reasons or len(self.reasons) < MAX_KEPT:
            self.reasons[error] += 1


def batches(entries: Iterable[Entry]) -> Iterator[list[tuple[Entry, bytes]]]:
    """Yield lists of entries, each with its JSON, of at most `MAX_ENTRIES` and about `MAX_BYTES`."""
    batch: list[tuple[Entry, bytes]] = []
    size = 0
    for entry in entries:
        text = orjson.dumps(entry.fields)
        if batch and (len(batch) == MAX_ENTRIES or size + len(text) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((entry, text))
        size += len(text) + 1
    if batch:
        yield batch


class Sender:
    """Sends lists of feedback. `on_rejected` is called for each entry that is not taken.

    `wait`: waits so many seconds. A list may be sent twice, if an answer is lost: repetitions count once.
    """

    def __init__(
        self, client: httpx.Client, report: Report, on_rejected: OnRejected, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._client = client
        self._report = report
        self._on_rejected = on_rejected
        self._wait = wait

    def send(self, batch: Sequence[tuple[Entry, bytes]]) -> None:
        """Send one list, in halves if it is too large. Raises GatewayError if the data plane does not take any."""
        answer = self._answer(b"[%b]" % b",".join(text for _, text in batch))
        if answer.status_code == 413 and len(batch) > 1:
            self.send(batch[: len(batch) // 2])
            self.send(batch[len(batch) // 2 :])
            return
        document = _document(answer)
        if answer.status_code not in (202, 400) or "rejected" not in document:
            reason = f"{answer.status_code}: {document.get('error', 'no reason given')}"
            if answer.status_code not in (400, 413):
                raise GatewayError(self._said(reason))
            for entry, _ in batch:
                self._reject(entry, reason)
            return
        self._report.accepted += int(document.get("accepted", 0))
        for one in document["rejected"]:
            self._reject(batch[one["index"]][0], one["error"])
        for one in document.get("uncounted", ()):
            self._report.uncounted[one["reason"]] += 1

    def _reject(self, entry: Entry, error: str) -> None:
        self._report.reject(entry.line, error)
        self._on_rejected(entry, error)

    def _answer(self, body: bytes) -> httpx.Response:
        waited_s = 0.0
        while True:
            try:
                answer = self._client.post(FEEDBACK_PATH, content=body, headers={"content-type": "application/json"})
                reason, wait_s = f"{answer.status_code}", _retry_after_s(answer)
                if answer.status_code not in AGAIN:
                    return answer
            except httpx.TransportError as error:
                reason, wait_s = str(error) or type(error).__name__, DEFAULT_WAIT_S
                if waited_s == 0.0 and not self._report.accepted and isinstance(error, httpx.ConnectError):
                    raise GatewayError(
                        f"no gateway answers at {self._client.base_url} ({error}); is `gateway serve` running?"
                    ) from None
            if waited_s >= GIVE_UP_AFTER_S:
                raise GatewayError(self._said(f"{reason}, for {waited_s:.0f} s")) from None
            self._wait(wait_s)
            waited_s += wait_s

    def _said(self, reason: str) -> str:
        return (
            f"the gateway takes no more feedback ({reason}); {self._report.accepted:,} lines were accepted before."
            " Send the file again later: repetitions count once"
        )


def _document(answer: httpx.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise GatewayError(
            f"the server at {answer.url} is not a gateway's data plane (it answered {answer.status_code})"
        )
    return document


def _retry_after_s(answer: httpx.Response) -> float:
    try:
        wait_s = float(answer.headers.get("retry-after", DEFAULT_WAIT_S))
    except ValueError:  # a date
        return DEFAULT_WAIT_S
    return min(max(wait_s, 0.01), MAX_WAIT_S) if math.isfinite(wait_s) else DEFAULT_WAIT_S
