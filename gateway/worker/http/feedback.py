"""POST /v2/feedback: the outcomes of predictions, credited to versions by the signed prediction id alone."""

import asyncio
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import BodyTooLarge, InvalidRequest, Overloaded
from gateway.protocol.depth import check_depth
from gateway.protocol.elements import short
from gateway.protocol.json_text import parse_json
from gateway.protocol.large_json import count_values
from gateway.records import outcomes
from gateway.records.line import line_of
from gateway.records.token import Token
from gateway.settings.model import FeedbackSettings
from gateway.web.authentication import customer_of, identity_in
from gateway.web.body import read_body
from gateway.web.headers import header_text
from gateway.web.responses import JsonResponse
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
MAX_COMMENT: Final = 10_000
MAX_TRUTH: Final = 1000  # characters of JSON
MAX_METRICS: Final = 32
KEYS: Final = frozenset({"prediction_id", "truth", "reward", "metrics", "comment"})
NOT_DELEGATED: Final[Mapping[str, str]] = {}
REQUIRED_KEYS: Final = ("truth", "reward", "metrics")


class FeedbackEndpoint:
    """The endpoint. `max_body` in bytes."""

    def __init__(self, pipeline: Pipeline, max_body: int) -> None:
        self._pipeline = pipeline
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
            return await self._accept(_entries(body), request, headers)
        async with self._long_lists:
            return await self._accept(await asyncio.to_thread(_entries, body), request, headers)

    async def _accept(self, entries: list[Any], request: Request, headers: dict[bytes, bytes]) -> Response:
        identity = identity_in(request.scope)
        named = header_text(headers.get(b"x-customer-id"))
        customer = customer_of(identity, named) if identity else named
        delegated = {"delegated_by": identity.customer} if identity and customer != identity.customer else NOT_DELEGATED
        rejected: list[dict[str, Any]] = []
        uncounted: list[dict[str, Any]] = []
        for index, entry in enumerate(entries):
            if index % ENTRIES_PER_SLICE == ENTRIES_PER_SLICE - 1:
                await asyncio.sleep(0)
            try:
                line, why_uncounted = self._line(entry, {"customer": customer, **delegated})
            except InvalidRequest as error:
                rejected.append({"index": index, "error": str(error)})
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

    def _line(self, entry: Any, sender: Mapping[str, str | None]) -> tuple[bytes, str]:
        """The entry's record line, with the fields `sender` on who gave it, and why its truth does not count, "" if it
        does or there is none.
        """
        if type(entry) is not dict:
            raise InvalidRequest(f"must be an object with prediction_id, got {short(entry)}")
        if unknown := sorted(set(entry) - KEYS):
            raise InvalidRequest(f"unknown key {short(unknown[0])}; known are {', '.join(sorted(KEYS))}")
        token = self._pipeline.recorder.signer.read(entry.get("prediction_id"))
        if all(entry.get(key) is None for key in REQUIRED_KEYS):
            raise InvalidRequest("is empty: give at least one of truth, reward, metrics")
        truth = _truth(entry.get("truth"))
        truth_class, why_uncounted = self._class_of(token, truth)
        allowed = self._allowed(token)
        line = line_of(
            {
                "kind": "feedback",
                "prediction_id": entry["prediction_id"],
                "time_ns": time.time_ns(),
                "model": token.model,
                "version": token.version,
                "variant": token.variant,
                "truth": truth,
                "truth_class": truth_class,
                "correct": None if truth_class is None or token.predicted is None else truth_class == token.predicted,
                "reward": _reward(entry.get("reward"), allowed),
                "metrics": _metrics(entry.get("metrics"), allowed),
                "comment": _comment(entry.get("comment")),
                **sender,
            }
        )
        return line, why_uncounted

    def _allowed(self, token: Token) -> FeedbackSettings:
        served = self._pipeline.catalog.models.get(token.model)
        return outcomes.DEFAULT_SETTINGS if served is None else served.stable.facts.settings.feedback

    def _class_of(self, token: Token, truth: Any) -> tuple[int | None, str]:
        """The class that `truth` names for the version that predicted, or for stable if that version is gone.

        Also why it cannot be compared with the prediction, "" if it can. Raises InvalidRequest if it never could be.
        """
        if truth is None:
            return None, ""
        if token.rows:
            raise InvalidRequest(
                "the request had several rows, and one truth does not say which it is about: send one request per row,"
                " or give reward or metrics, which apply to the whole request"
            )
        served = self._pipeline.catalog.models.get(token.model)
        if served is None:
            return None, f"'{token.model}' is not served now, so its classes are not known"
        classes = served.versions.get(token.version, served.stable).classes
        if classes.no_class_reason:
            return None, f"'{token.model}' predicts no classes: {classes.no_class_reason}"
        found = classes.index_of(truth)
        if found is None:
            raise InvalidRequest(f"truth {short(truth)} is not a class of '{token.model}'; {classes.known}")
        return found, "" if token.predicted is not None else "the prediction had no class"


def _answer(accepted: int, rejected: list[dict[str, Any]], uncounted: list[dict[str, Any]]) -> Response:
    document: dict[str, Any] = {"accepted": accepted, "rejected": rejected}
    if uncounted:
        document["uncounted"] = uncounted
    if not accepted:
        document["error"] = f"no entry is taken; the first: {rejected[0]['error']}"
    return JsonResponse(document, 202 if accepted else 400)


def _entries(body: bytes) -> list[Any]:
    if count_values(body) > MAX_ENTRIES * MAX_VALUES_PER_ENTRY:
        raise BodyTooLarge(
            f"the list holds more values than {MAX_ENTRIES} entries of {MAX_VALUES_PER_ENTRY}; send fewer at a time"
        )
    document = parse_json(body)
    entries = document if type(document) is list else [document]
    if not 0 < len(entries) <= MAX_ENTRIES:
        raise InvalidRequest(f"the body must be one object or a list of 1 to {MAX_ENTRIES}, got {len(entries)} entries")
    return entries


def _truth(value: Any) -> Any:
    """Any JSON: a class by name, index or number, or for other models whatever the data scientist compares with."""
    check_depth(value, "truth")
    if len(orjson.dumps(value)) > MAX_TRUTH:
        raise InvalidRequest(f"truth is longer than {MAX_TRUTH} characters")
    return value


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"{name} must be a number, got {short(value)}")
    return float(value)


def _reward(value: Any, allowed: FeedbackSettings) -> float | None:
    number = _number("reward", value)
    return None if number is None else outcomes.reward(number, allowed)


def _metrics(value: Any, allowed: FeedbackSettings) -> dict[str, float] | None:
    if value is None:
        return None
    if type(value) is not dict or not 0 < len(value) <= MAX_METRICS:
        raise InvalidRequest(f"metrics must be an object of 1 to {MAX_METRICS} numbers, got {short(value)}")
    return dict(_named(value.items(), allowed))


def _named(items: Iterable[tuple[str, Any]], allowed: FeedbackSettings) -> Iterable[tuple[str, float]]:
    for name, value in items:
        number = _number(f"metrics.{name:.60}", value)
        if number is None or not 0 < len(name) <= 100:
            raise InvalidRequest(f"metrics.{name:.60} must be a number with a name of 1 to 100 characters")
        yield name, outcomes.metric(name, number, allowed)


def _comment(value: Any) -> str | None:
    if value is not None and (type(value) is not str or len(value) > MAX_COMMENT):
        raise InvalidRequest(f"comment must be a string of {MAX_COMMENT} characters at most, got {short(value)}")
    return value
