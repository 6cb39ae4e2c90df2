"""Deadlines: for a call to the store, and for a wait."""

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import TypeVar

from gateway.control.fleet.store import StoreUnavailable

T = TypeVar("T")


async def within(timeout_s: float, store: str, call: Awaitable[T]) -> T:
    """Await `call`, which is cancelled after `timeout_s` and StoreUnavailable raised. `store`: its URL for messages."""
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except TimeoutError:
        raise StoreUnavailable(f"{store}: no answer within {timeout_s:g} s") from None


async def at_most(timeout_s: float, waiting: Awaitable[object]) -> None:
    """Await it, but no longer than `timeout_s`. Python 3.11's `wait_for` may swallow a cancellation: this does not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await waiting
