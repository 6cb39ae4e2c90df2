"""Calls that may hang or fail."""

import threading

import pytest

from gateway.system.bounded_call import run_bounded


def fail() -> None:
    raise OSError("the terminal is gone")


def test_failure_is_logged_and_the_caller_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    assert run_bounded(fail, 10)
    assert [entry.getMessage() for entry in caplog.records] == ["fail has failed"]
    assert "the terminal is gone" in caplog.text


def test_failure_in_the_caller_s_thread_too(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert run_bounded(fail, 10)
    assert "the terminal is gone" in caplog.text


def test_what_hangs_is_left() -> None:
    never = threading.Event()

    def hang() -> None:
        never.wait()

    try:
        assert not run_bounded(hang, 0.01)
    finally:
        never.set()
