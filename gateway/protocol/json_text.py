"""JSON that a client has sent, and what it is told where that is none."""

from typing import Any

import orjson

from gateway.errors import InvalidRequest


class NotJson(InvalidRequest):
    """A body that orjson cannot read, for the reason `error`. `hint` follows it in the message."""

    def __init__(self, error: orjson.JSONDecodeError, hint: str = "") -> None:
        super().__init__(f"the body is not valid JSON: {error}{hint}")
        self.error = error


def parse_json(body: bytes) -> Any:
    """What the body says; raises NotJson."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(error) from None
