"""The state of a request that uvicorn's protocol reads, for requests that are answered without an ASGI task."""

from typing import Final


class _Nothing:
    """Stands in for an event that nothing waits for."""

    def set(self) -> None:
        return None


class FastCycle:
    """A prediction in flight, with what uvicorn's protocol reads of it: no scope, event or task, which only ASGI needs.

    `named`: the headers by name, the last of each. `pieces`: how many parts the body has come in.
    """

    message_event: Final = _Nothing()
    body = b""
    pieces = 1
    more_body = True
    disconnected = False
    response_started = False
    response_complete = False

    def __init__(self, headers: list[tuple[bytes, bytes]], named: dict[bytes, bytes], keep_alive: bool) -> None:
        self.headers = headers
        self.named = named
        self.keep_alive = keep_alive
