"""POST /v2/models/{model}[/versions/{version}]/infer: a bare ASGI callable in front of the Starlette application."""

import asyncio
import logging
import re
import time
from functools import lru_cache, partial
from typing import Final, Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.auth.fleet_rate_limit import MustCount
from gateway.auth.keyring import Identity
from gateway.backends.batch import Answer, deadline_exceeded
from gateway.errors import BodyTooSlow, InvalidRequest, RequestError
from gateway.protocol.decode import decode_strict
from gateway.protocol.json_text import NotJson
from gateway.protocol.source import UNKNOWN_ORIGIN
from gateway.web.body import ENCODING, ClientGone, Headers, headers_by_name, receive_body
from gateway.web.exception_handlers import INTERNAL_ERROR
from gateway.web.memory_limits import MemoryLimits
from gateway.web.responses import send_error
from gateway.worker.call import Call, Origin, RequestSource
from gateway.worker.http.access import Access
from gateway.worker.http.attributes import JSON, attributes_of, media_of
from gateway.worker.http.body_decoding import LARGE_BYTES, BodyDecoder, DecodedRequest, must_decode_in_thread
from gateway.worker.http.request_formats import decode_received, restated_source
from gateway.worker.http.response_batch import ResponseBatch
from gateway.worker.http.store_waits import StoreWaits
from gateway.worker.http.trace_context import REQUEST_ID, TRACEPARENT, echo_of, log_extra, origin_of
from gateway.worker.pipeline import Pipeline
from gateway.worker.reply import Reply, is_long_answer

Target = tuple[str, int | None]
_PATH: Final = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_NOT_PLAIN: Final = frozenset(b"%?#")
MAX_PATH: Final = 512  # longer paths name no model, and are not cached
WRITER_KEY: Final = "canary_gateway.line"  # key of the ResponseWriter in an ASGI scope
_SLOW_MODELS: Final[set[str]] = set()  # names of models whose answers take long to write
log: Final = logging.getLogger("gateway.worker.http")


class ResponseWriter(Protocol):
    """Writes the response to the client. The connection puts it into the ASGI scope."""

    def fits(self, size: int) -> None:
        """Note that the request's body takes `size` bytes, decompressed; raises Overloaded if that is too much."""

    async def drain(self) -> None:
        """Wait until the client has read most of what was sent before."""

    def write(self, reply: Reply, *, at_once: bool) -> None:
        """Write the response without waiting; `at_once`: hand it to the system before returning."""


class InferEndpoint:
    """Answers inference requests, and passes all others on to `application`. `max_body` in bytes."""

    def __init__(self, pipeline: Pipeline, application: ASGIApp, max_body: int, access: Access) -> None:
        self.pipeline = pipeline
        self.access = None if access.open else access
        self.max_body = max_body
        # A request is not in flight before its body is complete, but its body must not take for ever.
        self.body_timeout_s = pipeline.timeout_s
        self._application = application
        # The connection of the last prediction, and its time (monotonic). They are not attributes of the connections'
        # class: each write to a class invalidates the interpreter's caches for it, which cost 6 us a request.
        self.previous_request_ns: object = None
        self.last_request_ns = 0
        self.response_batch = ResponseBatch(pipeline)
        self.store_waits = StoreWaits(pipeline)
        self._decoder = BodyDecoder(pipeline.limits, pipeline.timeout_s)
        self.memory_limits = MemoryLimits(pipeline.limits, max_body, pipeline.head)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or (target := target_of(scope["path"])) is None:
            await self._application(scope, receive, send)
            return
        pipeline = self.pipeline
        headers = headers_by_name(scope["headers"])
        call: Call | None = None
        try:
            identity, uncounted = None, False
            if self.access is not None:
                identity, uncounted = await self.access.predict_first(scope, headers)
            async with asyncio.timeout(self.body_timeout_s):
                body = await receive_body(receive, headers, self.max_body)
            began_ns = time.monotonic_ns()
            if ENCODING in headers:
                body = await self._decoder.decompress(body, headers, self.max_body)
                scope[WRITER_KEY].fits(len(body))
            await scope[WRITER_KEY].drain()  # a client that has not read the last answer can wait for the next
            pipeline.admit()
            try:
                decoded = await self._decoded(target[0], headers, body, began_ns)
                begin = partial(self.begin, target, headers, body, identity, decoded, uncounted=uncounted)
                access = self.access
                begun = (begin(), 0.0) if access is None else await access.counted(begin, self.store_waits.waiting)
                call, waited_s = begun[0], begun[1]
                if decoded is not None:
                    call.deadline_ns -= decoded.spent_ns
                if waited_s:
                    call.spend(int(waited_s * 1e9))
                await self._answer(call, scope[WRITER_KEY])
            finally:
                pipeline.release()
        except RequestError as error:
            await send_error(send, error, echo_of(origin_of(headers)))
        except ClientGone:
            return
        except TimeoutError:
            slow = BodyTooSlow(f"the body did not arrive within {self.body_timeout_s:g} s")
            await send_error(send, slow, echo_of(origin_of(headers)))
        except Exception as error:
            broken = failure(error, target[0], origin_of(headers), call)
            await send_error(send, broken, echo_of(origin_of(headers)))

    async def _answer(self, call: Call, line: ResponseWriter) -> None:
        pipeline, version = self.pipeline, call.version
        if (
            not version.must_queue(call.feeds)
            and (not version.batches or pipeline.inflight == 1)
            and call.served.name not in _SLOW_MODELS
        ):
            reply = pipeline.infer_now(call)
            await line.drain()
            line.write(reply, at_once=False)
            return
        submitted: asyncio.Future[Answer] | None = pipeline.submit(call)
        while submitted is not None:
            await asyncio.wait((submitted,))
            submitted = await self._written(call, submitted)
            await line.drain()  # nothing may wait inside the gate, least of all for a client that does not read
            with pipeline.gate:
                rescue = pipeline.rescue(call, submitted)
                if rescue is None:
                    reply = pipeline.end(call, submitted)
                    pipeline.recorder.answered(((call, reply),))
                    line.write(reply, at_once=not call.version.stable)
                    if not call.version.stable:
                        pipeline.gate.sent(call.served.switch.lapsed)
            submitted = rescue

    async def _written(self, call: Call, submitted: "asyncio.Future[Answer]") -> "asyncio.Future[Answer]":
        """The answer, encoded on a thread if it is large; the deadline's error if stable's is late by then."""
        if submitted.cancelled() or submitted.exception() is not None or not is_long_answer(submitted.result()):
            return submitted
        mark_slow(call.served.name)
        try:
            await self._decoder.write(call, submitted.result())
        except InvalidRequest:
            return submitted  # raised again when the call ends
        if not call.version.stable or time.monotonic_ns() < call.deadline_ns:
            return submitted
        ended: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        ended.set_exception(deadline_exceeded())
        return ended

    async def _decoded(self, name: str, headers: Headers, body: bytes, began_ns: int) -> DecodedRequest | None:
        """Decode a large body without blocking the event loop; None if it is not large."""
        if len(body) <= LARGE_BYTES or not must_decode_in_thread(body, headers, media := media_of(headers)):
            return None
        served = self.pipeline.served(name)
        return await self._decoder.decode(body, headers, media, name, served.stable.signature.inputs, began_ns)

    def begin(
        self,
        target: Target,
        headers: Headers,
        body: bytes,
        identity: Identity | None,
        decoded: DecodedRequest | None = None,
        *,
        uncounted: bool = False,
    ) -> Call:
        """Decode the body, unless it is `decoded`, and begin its prediction; raises RequestError, MustCount.
        `uncounted`: see Access.admit.
        """
        name, pinned = target
        pipeline = self.pipeline
        served = pipeline.catalog.models.get(name) or pipeline.served(name)
        if pinned is not None:
            pipeline.version(name, pinned)
        media = None if headers.get(b"content-type") == JSON else media_of(headers)
        try:
            if decoded is not None:
                request, source, media, _ = decoded
            elif media is None and b"inference-header-content-length" not in headers:
                request, source = decode_strict(body), RequestSource(body)
            else:
                request, source = decode_received(body, headers, media, served.name, served.stable.signature.inputs)
                media = media and source.media
        except NotJson as error:
            (request, source), media = restated_source(error, body, headers), None
        if TRACEPARENT in headers or REQUEST_ID in headers:
            source.origin = origin_of(headers)
        attributes = attributes_of(served, headers, request.parameters, media)
        if self.access is not None:
            try:
                attributes = self.access.admit(identity, attributes, uncounted=uncounted)
            except MustCount as must:
                must.timeout_ns = pipeline.request_timeout_ns(request)
                raise
            if identity is not None and attributes.customer != identity.customer:
                source.origin = (source.origin or UNKNOWN_ORIGIN)._replace(delegated_by=identity.customer)
        return pipeline.begin(served, pinned, request, attributes, source)


def failure(error: Exception, model: str, origin: Origin | None, call: Call | None) -> RequestError:
    """Log an error of the gateway itself; returns the error to answer with. `call`: None if there is none yet."""
    extra = log_extra(origin, call)
    log.error("internal error of the gateway during a prediction of the model %r", model, exc_info=error, extra=extra)
    return RequestError(INTERNAL_ERROR)


def mark_slow(model: str) -> None:
    """Send the model's predictions along the ASGI path from now on: its answers take long to write."""
    if model not in _SLOW_MODELS:
        _SLOW_MODELS.add(model)
        target_of_url.cache_clear()


def target_of(path: str) -> Target | None:
    """The model and the pinned version (or None) that a path names; None if it is not an inference path."""
    return _target_of(path) if len(path) <= MAX_PATH else None


@lru_cache(maxsize=4096)
def target_of_url(url: bytes) -> Target | None:
    """As `target_of`, for the URL of a request line, at most `MAX_PATH` long. None also if it has a query or
    escapes, or if the model's predictions take the ASGI path.
    """
    plain = url.isascii() and not _NOT_PLAIN.intersection(url)
    target = _target_of(url.decode()) if plain else None
    return None if target is None or target[0] in _SLOW_MODELS else target


@lru_cache(maxsize=4096)
def _target_of(path: str) -> Target | None:
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    name, version = match.groups()
    return name, None if version is None else number_of(version)


def number_of(version: str) -> int:
    """The version number in a path; 0, which is no version, if it is not a number."""
    return int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0
