"""An HTTP connection that answers predictions without an ASGI task.

uvicorn makes a scope, an event and a task as soon as a request's headers are complete. These, coroutines, messages and
header checks cost more than a small model does, so the fast path for inference does without them. Once the body is
complete, usually in the same packet, the request is decoded, assigned to a version, and either run at once (no batch is
likely, and the version may run on the event loop) or submitted to the version's batcher, whose future sends the
response, stable's by way of the ResponseBatch. Large and compressed bodies and all other requests take uvicorn's ASGI
path.
"""

import asyncio
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.auth.fleet_rate_limit import MustCount
from gateway.backends.batch import Answer
from gateway.errors import RequestError
from gateway.routing.release import CANDIDATE
from gateway.web.framing import transfer_codings
from gateway.web.responses import error_message, message_bytes
from gateway.web.timeouts import TimeoutProtocol
from gateway.worker.call import Call, Origin
from gateway.worker.http.connection_share import may_close, with_close_header
from gateway.worker.http.fast_cycle import FastCycle
from gateway.worker.http.infer import MAX_PATH, WRITER_KEY, InferEndpoint, Target, failure, mark_slow, target_of_url
from gateway.worker.http.trace_context import echo_of, origin_of
from gateway.worker.http.wire import prediction_bytes
from gateway.worker.reply import Reply

SMALL_BODY_BYTES: Final = 65536  # a larger one is left to the ASGI task, which reads it with flow control
LARGE_ANSWER_BYTES: Final = 1 << 18  # more than the system takes at once if the client does not read
LONG_ANSWER_BYTES: Final = 1 << 20  # bytes beyond the system's buffer for the client, which took 10 ms to write
NO_QUERY: Final[Mapping[str, bytes]] = {"query_string": b""}  # a request with a query takes the ASGI path
ASGI_HEADERS: Final = frozenset({b"expect", b"content-encoding"})  # with these headers a prediction takes the ASGI path
CONTINUE: Final = b"100-continue"
SUPPORTED_CODINGS: Final[tuple[list[bytes], ...]] = ([], [b"chunked"])  # transfer codings
MAX_PIECES: Final = 32  # of a body: each copies all those before it
SMALL_DIGITS: Final = 5  # of a content-length: with more, the body is known to be larger
BATCH_GAP_NS: Final = 1_000_000  # requests of two clients this close are likely to meet in one iteration of the loop


class AsgiResponseWriter:
    """Writes the response of a prediction that goes through uvicorn's ASGI path."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: "InferConnection", cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    def fits(self, size: int) -> None:
        self._connection.set_decompressed_size(size)

    async def drain(self) -> None:
        await self._cycle.flow.drain()

    def write(self, reply: Reply, *, at_once: bool) -> None:
        self._connection.send(self._cycle, reply, at_once=at_once)


Cycle = RequestResponseCycle | FastCycle


class InferConnection(TimeoutProtocol):
    """uvicorn's protocol with a fast path for inference. Its application must be an InferEndpoint."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._endpoint: InferEndpoint = self.config.loaded_app
        self._small_body = min(SMALL_BODY_BYTES, self._endpoint.max_body)
        self.timeout_s, self.memory_limits = self._endpoint.body_timeout_s, self._endpoint.memory_limits
        self._fast_cycle: FastCycle | None = None  # a prediction on the fast path, whose body is being received
        self._target: Target | None = None  # the model and version that it asks for
        self._answering: Cycle | None = None  # the one of several pipelined requests that is being answered
        self._submitted: tuple[asyncio.Future[Answer], Call] | None = None

    def on_message_begin(self) -> None:
        """As uvicorn's, but without the scope, which the fast path does not need."""
        self._in_head = True
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's, which also looks for `expect` in each header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        before, parser = self.cycle, self.parser
        if self.transport.is_closing():
            return  # after the last response of the connection: another could not be sent
        if (
            (before is None or before.response_complete)
            and len(self.url) <= MAX_PATH
            and (target := target_of_url(self.url)) is not None
            and parser.get_method() == b"POST"
            and not parser.should_upgrade()
            and parser.get_http_version() == "1.1"
            and (
                len(length) <= SMALL_DIGITS
                if (length := (headers := dict(self.headers)).get(b"content-length")) is not None
                else transfer_codings(self.headers) in SUPPORTED_CODINGS
            )
            and ASGI_HEADERS.isdisjoint(headers)
        ):
            self._target = target
            cycle: Any = FastCycle(self.headers, headers, parser.should_keep_alive())
            self._fast_cycle = self._answering = self.cycle = cycle
            self.headers = []  # for trailers, see FramedConnection
        else:
            self._use_asgi()

    def _use_asgi(self) -> None:
        """Hand the request to uvicorn's ASGI path, with the state that it would have set since the request began."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url, self.headers = url, headers
        self.expect_100_continue = any(name == b"expect" and value.lower() == CONTINUE for name, value in headers)
        self.scope["headers"] = headers
        super().on_headers_complete()

    def _fall_back_to_asgi(self, short: FastCycle) -> None:
        """Move a prediction that began on the fast path to the ASGI path."""
        self._fast_cycle = None
        cycle: Any = None
        self.cycle = cycle
        self.headers = short.headers
        self._use_asgi()
        self.cycle.keep_alive = short.keep_alive  # a shutdown may have begun since
        super().on_body(short.body)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        scope: Any = cycle.scope
        scope[WRITER_KEY] = AsgiResponseWriter(self, cycle)
        if self.close_after_response:
            app = with_close_header(app, self)
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        short = self._fast_cycle
        if short is None:
            super().on_body(body)
            return
        if not short.body:
            short.body = body
            if len(body) > self._small_body:
                self._fall_back_to_asgi(short)
            return
        short.body += body
        short.pieces += 1
        if len(short.body) > self._small_body or short.pieces > MAX_PIECES:
            self._fall_back_to_asgi(short)

    def on_message_complete(self) -> None:
        short, target = self._fast_cycle, self._target
        if short is None or target is None:
            super().on_message_complete()
            return
        if self.flow.write_paused or self.close_after_response:
            self._fall_back_to_asgi(short)
            super().on_message_complete()
            return
        self._ended = True
        self._fast_cycle = None
        short.more_body = False
        endpoint = self._endpoint
        call: Call | None = None
        try:
            identity = None if endpoint.access is None else endpoint.access.predict(NO_QUERY, short.named)
            call = endpoint.begin(target, short.named, short.body, identity)
            version = call.version
            if (len(short.body) > version.backend.small_body and version.must_queue(call.feeds)) or (
                version.batches and self._batch_likely(call)
            ):
                self._submit(short, call)
                return
            answer: Reply | bytes = endpoint.pipeline.infer_now(call)
        except MustCount:
            self._fall_back_to_asgi(short)
            super().on_message_complete()
            return
        except Exception as error:
            answer = _failed(error, target[0], origin_of(short.named), call, short)
        self.send(short, answer)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._target is not None and self.transport.get_write_buffer_size() > LONG_ANSWER_BYTES:
            mark_slow(self._target[0])

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._fast_cycle = None
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        if self._submitted is not None:
            submitted, call = self._submitted
            if not _is_evidence(call):  # else a hanging candidate would go unnoticed if clients give up first
                submitted.cancel()

    def busy(self) -> bool:
        answering = self._answering
        return answering is not None and not answering.response_complete and self._fast_cycle is None

    def _batch_likely(self, call: Call) -> bool:
        """Whether a batch is likely to form: other predictions are in flight, or another client has just sent one."""
        endpoint, now_ns = self._endpoint, call.started_ns
        previous, before_ns = endpoint.previous_request_ns, endpoint.last_request_ns
        endpoint.previous_request_ns, endpoint.last_request_ns = self, now_ns
        return endpoint.pipeline.inflight > 0 or (previous is not self and now_ns - before_ns < BATCH_GAP_NS)

    def _submit(self, cycle: Cycle, call: Call) -> None:
        pipeline = self._endpoint.pipeline
        pipeline.admit()
        submitted = pipeline.submit(call)
        self._submitted = submitted, call
        submitted.add_done_callback(partial(self._on_done, cycle, call))

    def _on_done(self, cycle: Cycle, call: Call, submitted: "asyncio.Future[Answer]") -> None:
        pipeline = self._endpoint.pipeline
        self._submitted = None
        if submitted.cancelled():
            pipeline.release()
            return
        # if latencies are compared, stable's is sent as a candidate's, and takes as long
        if call.version.stable and not call.version.latency_compared:
            self._endpoint.response_batch.put(self, cycle, call, submitted)
            return
        with pipeline.gate:
            rescue = pipeline.rescue(call, submitted)
            if rescue is None:
                reply = self.end(cycle, call, submitted)
                if isinstance(reply, Reply):
                    pipeline.recorder.answered(((call, reply),))
                self.send(cycle, reply, at_once=True)
                if isinstance(reply, Reply) and not call.version.stable:
                    pipeline.gate.sent(call.served.switch.lapsed)
        if rescue is None:
            pipeline.release()
        else:
            self._submitted = rescue, call
            rescue.add_done_callback(partial(self._on_done, cycle, call))

    def end(self, cycle: Cycle, call: Call, submitted: "asyncio.Future[Answer]") -> Reply | bytes:
        """The reply to a submitted call that is done, or the bytes of an error response."""
        try:
            return self._endpoint.pipeline.end(call, submitted)
        except Exception as error:
            return _failed(error, call.served.name, call.source.origin, call, cycle)

    def send(self, cycle: Cycle, answer: Reply | bytes, *, at_once: bool = False) -> None:
        """Write the response unless the client has gone; `at_once`: hand it to the system before returning."""
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        if self.transport.is_closing():
            return
        if isinstance(answer, Reply):
            if self.close_after_response and may_close(self):
                cycle.keep_alive = False
            answer = prediction_bytes(answer, closing=not cycle.keep_alive)
        if at_once or len(answer) > LARGE_ANSWER_BYTES:  # uvloop keeps all of it until the last byte is sent
            answer = self._write_now(answer)
        if answer:
            self.transport.write(answer)
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _write_now(self, answer: bytes) -> bytes:
        """Write the answer to the socket now, not at the end of uvloop's iteration; returns the unwritten rest.

        With TLS the answer is sent at the end of the iteration; the send is over only then, see Gate.defer_exit.
        """
        if self.scheme == "https" or self.transport.is_closing() or self.transport.get_write_buffer_size():
            return answer
        try:
            return answer[os.write(self.transport.get_extra_info("socket").fileno(), answer) :]
        except OSError:  # it would block, or the client has gone, which the transport notices itself
            return answer


def _is_evidence(call: Call) -> bool:
    """Whether the outcome of the call is evidence for or against a candidate."""
    return call.decision.randomised or call.decision.variant is CANDIDATE or call.candidate_failed_ns > 0


def _failed(error: Exception, model: str, origin: Origin | None, call: Call | None, cycle: Cycle) -> bytes:
    if not isinstance(error, RequestError):
        error = failure(error, model, origin, call)
    if "connection" in error.headers:  # the error ends the connection
        cycle.keep_alive = False
    return message_bytes(error_message(error, echo_of(origin)), closing=not cycle.keep_alive)
