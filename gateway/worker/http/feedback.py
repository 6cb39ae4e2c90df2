"""POST /v2/feedback: the outcomes of predictions, credited to versions by the signed prediction id alone."""

import asyncio
import logging
import time
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import BodyTooLarge, InvalidRequest, Overloaded
from gateway.protocol.json_text import NotJson, parse_json
from gateway.protocol.large_json import count_values
from gateway.web.authentication import customer_of, identity_in
from gateway.web.body import Headers, read_body
from gateway.web.content_type import refusal_of
from gateway.web.headers import header_text
from gateway.web.responses import JsonResponse
from gateway.worker.feedback_entry import FeedbackEntries
from gateway.worker.pipeline import Pipeline

MAX_ENTRIES: Final = 10_000  # entries of one request
ENTRIES_PER_SLICE: Final = 20  # entries processed before predictions may run again: about a third of a millisecond
MAX_BODY_BYTES: Final = 16 * 1024 * 1024  # bytes
MAX_VALUES_PER_ENTRY: Final = (
    50  # of an entry, on average: parsing holds up predictions, 10 MiB of small objects for 4 s
)
MAX_LONG_LISTS: Final = 2  # in memory at once: parsed, they take ten times their bytes
INLINE_BYTES: Final = 65536  # bytes that are parsed on the event loop
TIMEOUT_S: Final = 1.0  # for room in the ring: a long list may come faster than control drains it
POLL_S: Final = 0.01
ROWS_PER_ENTRY: Final = 20  # rows of an entry that take about as long as an entry of one row
INLINE_ROWS: Final = 400  # rows of an entry that are judged on the event loop, as long as a slice
log: Final = logging.getLogger("gateway.worker.http")


class FeedbackEndpoint:
    """The endpoint. `max_body` in bytes."""

    def __init__(self, pipeline: Pipeline, max_body: int) -> None:
        self._pipeline = pipeline
        self._entries = FeedbackEntries(pipeline)
        self._max_body = min(max_body, MAX_BODY_BYTES)
        self._long_lists = asyncio.Semaphore(MAX_LONG_LISTS)

    def routes(self) -> list[Route]:
        return [Route("/v2/feedback", self.accept, methods=["POST"])]

    async def accept(self, request: Request) -> Response:
        """Answer 202 once all valid entries are recorded, and list the others with reasons. 400 if none is valid.

        `uncounted` lists truths that are recorded for the data set but cannot be compared with the prediction.
        """
        headers = dict(request.scope["headers"])
        body = await read_body(request.receive, headers, self._max_body)
        if len(body) <= INLINE_BYTES:
            return await self._accept(_entries(body, headers), request, headers)
        async with self._long_lists:
            return await self._accept(await asyncio.to_thread(_entries, body, headers), request, headers)

    async def _accept(self, entries: list[Any], request: Request, headers: dict[bytes, bytes]) -> Response:
        identity = identity_in(request.scope)
        named = header_text(headers.get(b"x-customer-id"))
        customer = customer_of(identity, named) if identity else named
        sender: dict[str, str | None] = {"customer": customer}
        if identity and customer != identity.customer:
            sender["delegated_by"] = identity.customer
        rejected: list[dict[str, Any]] = []
        uncounted: list[dict[str, Any]] = []
        done = 0
        for index, entry in enumerate(entries):
            rows = _rows(entry)
            done += 1 + rows // ROWS_PER_ENTRY
            if done >= ENTRIES_PER_SLICE:
                done = 0
                await asyncio.sleep(0)
            try:
                if rows > INLINE_ROWS:
                    line, why_uncounted = await asyncio.to_thread(self._entries.line, entry, sender)
                else:
                    line, why_uncounted = self._entries.line(entry, sender)
            except InvalidRequest as error:
                rejected.append({"index": index, "error": str(error)})
                continue
            except Exception:  # an unforeseen one must not lose the entries after it
                log.exception("an entry of feedback cannot be judged")
                rejected.append({"index": index, "error": "the gateway failed to judge this entry; its log says why"})
                continue
            if not await self._recorded(line):
                raise Overloaded(
                    f"feedback cannot be recorded now; send the list again. Entries before entry {index} are recorded;"
                    " repetitions count once"
                )
            if why_uncounted:
                uncounted.append({"index": index, "reason": why_uncounted})
        return _answer(len(entries) - len(rejected), rejected, uncounted)

    async def _recorded(self, line: bytes) -> bool:
        recorder = self._pipeline.recorder
        end = time.monotonic() + TIMEOUT_S
        while not recorder.feedback(line):
            if time.monotonic() > end:
                recorder.feedback_dropped()
                return False
            await asyncio.sleep(POLL_S)
        return True


def _rows(entry: Any) -> int:
    """About how many values an entry gives by row: truths that are lists count by their length, metrics each."""
    if type(entry) is not dict:
        return 0
    truth, metrics = entry.get("truth"), entry.get("metrics")
    values = [entry.get("reward")]
    for value in (truth, metrics):
        values += value.values() if type(value) is dict else (value,)
    rows = sum(len(value) for value in values if type(value) is list)
    if type(metrics) is dict:
        rows += len(metrics)
    if rows > INLINE_ROWS:
        return rows
    return rows + sum(len(one) for value in values if type(value) is list for one in value if type(one) is list)


def _answer(accepted: int, rejected: list[dict[str, Any]], uncounted: list[dict[str, Any]]) -> Response:
    document: dict[str, Any] = {"accepted": accepted, "rejected": rejected}
    if uncounted:
        document["uncounted"] = uncounted
    if not accepted:
        document["error"] = f"no entry is taken; the first: {rejected[0]['error']}"
    return JsonResponse(document, 202 if accepted else 400)


def _entries(body: bytes, headers: Headers) -> list[Any]:
    if count_values(body) > MAX_ENTRIES * MAX_VALUES_PER_ENTRY:
        raise BodyTooLarge(
            f"the list holds more values than {MAX_ENTRIES} entries of {MAX_VALUES_PER_ENTRY}; send fewer at a time"
        )
    try:
        document = parse_json(body)
    except NotJson as error:
        raise refusal_of(error, body, headers, "send feedback as application/json") from None
    entries = document if type(document) is list else [document]
    if not 0 < len(entries) <= MAX_ENTRIES:
        raise InvalidRequest(f"the body must be one object or a list of 1 to {MAX_ENTRIES}, got {len(entries)} entries")
    return entries
