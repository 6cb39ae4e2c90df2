"""What uvicorn asks of a request that is being answered, for one that needs no ASGI task."""

from typing import Final


class _Nothing:
    """A stand-in for an event on which nothing waits."""

    def set(self) -> None:
        return None


class FastCycle:
    """A prediction under way, as far as uvicorn asks: without scope, event and task, which only ASGI needs.

    `named`: the headers by name, the last of each.
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
