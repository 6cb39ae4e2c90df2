"""Names for predictions, so that feedback can refer to them."""

import itertools
import secrets
from collections.abc import Callable
from typing import Final

PROCESS_BYTES: Final = 9


def prediction_ids() -> Callable[[], str]:
    """A source of URL-safe names that no other process gives: 72 random bits, and a count."""
    prefix = secrets.token_urlsafe(PROCESS_BYTES)
    count = itertools.count(1)
    return lambda: f"{prefix}{next(count):x}"
