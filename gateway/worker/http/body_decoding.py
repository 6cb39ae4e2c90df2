"""Decodes large bodies on threads, so that the event loop goes on. The time counts towards the request's deadline.

As many bodies are decoded at once as there are threads, the others wait; one decoded too late is answered with 504.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple, TypeVar

from gateway.backends.batch import Answer
from gateway.errors import DeadlineExceeded
from gateway.protocol.json_text import NotJson
from gateway.protocol.large_json import check_values, decode_large
from gateway.protocol.tensors import InferRequest, TensorSpec
from gateway.settings.gateway import LimitsSettings
from gateway.web.body import INLINE_BYTES, Headers, decompressed
from gateway.worker.call import Call, RequestSource
from gateway.worker.http.request_formats import JSON_LENGTH, TEXT, decode_received, json_length, restated_source
from gateway.worker.reply import write

T = TypeVar("T")
THREADS: Final = 2
LARGE_BYTES: Final = 65536  # bytes of JSON, which take 1 ms


class DecodedRequest(NamedTuple):
    """A decoded request. `media`: of a raw body; `spent_ns`: the time it took, waiting for a thread included."""

    request: InferRequest
    source: RequestSource
    media: str | None
    spent_ns: int


class BodyDecoder:
    """Decodes bodies and encodes answers on THREADS threads. `timeout_s`: of a request that does not set its own."""

    def __init__(self, limits: LimitsSettings, timeout_s: float) -> None:
        self._most = limits.values
        self._most_classes = limits.classes
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="decoder")

    async def decompress(self, body: bytes, headers: Headers, max_body: int) -> bytes:
        """The body without its content coding; raises RequestError."""
        if len(body) <= INLINE_BYTES:
            return decompressed(body, headers, max_body)
        return await self._in_thread(lambda _: decompressed(body, headers, max_body))

    async def decode(
        self, body: bytes, headers: Headers, media: str | None, model: str, inputs: Sequence[TensorSpec], began_ns: int
    ) -> DecodedRequest:
        """Decode a body that was complete at `began_ns` on the monotonic clock; raises RequestError."""
        decode = partial(self._decode, body, headers, media, model, inputs)
        request, source, media = await self._in_thread(decode)
        spent_ns = time.monotonic_ns() - began_ns
        timeout_us = request.parameters.get("timeout")
        if type(timeout_us) is int and 0 < timeout_us * 1000 < spent_ns:
            raise _too_late()
        return DecodedRequest(request, source, media, spent_ns)

    async def write(self, call: Call, answer: Answer) -> None:
        """Encode a large answer; raises InvalidRequest. It has no timeout: the prediction is yet to be recorded."""
        await asyncio.get_running_loop().run_in_executor(self._threads, write, call, answer, self._most_classes)

    async def _in_thread(self, decode: Callable[[Callable[[], None]], T]) -> T:
        """Run `decode` on a thread; it calls its argument now and then. Raises DeadlineExceeded if time runs out."""
        late_s = time.monotonic() + self._timeout_s

        def go_on() -> None:
            if time.monotonic() > late_s:
                raise _too_late()

        def run() -> T:
            go_on()
            return decode(go_on)

        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except TimeoutError:
            raise _too_late() from None

    def _decode(
        self,
        body: bytes,
        headers: Headers,
        media: str | None,
        model: str,
        inputs: Sequence[TensorSpec],
        go_on: Callable[[], None],
    ) -> tuple[InferRequest, RequestSource, str | None]:
        try:
            if media is None and JSON_LENGTH not in headers:
                return decode_large(body, self._most, go_on), RequestSource(body), None
            if length := json_length(headers):
                check_values(body, self._most, min(length, len(body)))
            elif media == TEXT and body[:64].lstrip().startswith(b"{"):
                check_values(body, self._most)
            request, source = decode_received(body, headers, media, model, inputs)
            return request, source, media and source.media
        except NotJson as error:
            return *restated_source(error, body, headers), None


def must_decode_in_thread(body: bytes, headers: Headers, media: str | None) -> bool:
    """Whether so much of the body may be JSON that it should not be decoded on the event loop."""
    if len(body) <= LARGE_BYTES:
        return False
    if media is None and JSON_LENGTH in headers:
        length = headers[JSON_LENGTH].strip()
        return not (length.isdigit() and len(length) < 10 and int(length) <= LARGE_BYTES)
    return media in (None, TEXT)


def _too_late() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the body was decoded; send fewer rows, or binary tensors")
