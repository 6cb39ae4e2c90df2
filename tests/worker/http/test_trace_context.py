"""The header `traceparent`, after the cases of W3C's own test suite (trace-context/test/test.py)."""

import pytest

from gateway.worker.call import Trace
from gateway.worker.http.trace_context import parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("flags", "sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True), ("fe", False)]
)
def test_valid_traceparent_is_parsed(flags: str, sampled: bool) -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}".encode()) == Trace(TRACE, SPAN, sampled)


@pytest.mark.parametrize("more", ["", "-", "-what-the-future-will-be-like", "-\n"])
def test_later_version_with_more_fields_is_parsed(more: str) -> None:
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01{more}".encode()) == Trace(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-0x",
        f"00-{TRACE}-{SPAN}-.0",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01.what-the-future-will-not-be-like",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f".0-{TRACE}-{SPAN}-01",
        f"00-.{TRACE[1:]}-{SPAN}-01",
        "00" + "-" * 100_000,
    ],
)
def test_invalid_traceparent_is_ignored(header: str) -> None:
    assert parse_traceparent(header.encode()) is None


def test_non_ascii_digit_is_refused() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-0".encode() + b"\xb2") is None
