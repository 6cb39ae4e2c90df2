"""Background tasks that must survive errors: retried, each kind of error logged once, ended only by cancellation."""

import asyncio
import logging

import pytest

from gateway.system import background_tasks
from gateway.system.background_tasks import retry_forever


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_tasks, "BACKOFF_S", (0.0,))


def test_persistent_task_is_retried_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    troubles = [*[OSError(24, "Too many open files")] * 50, *[RuntimeError("can't start new thread")] * 50]

    async def act() -> str:
        if troubles:
            raise troubles.pop(0)
        return "done"

    assert asyncio.run(retry_forever("starting worker 1", act)) == "done"
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.system"]
    assert said == [
        *["starting worker 1 has failed, and is tried again until it does not"] * 2,
        "starting worker 1 has been done, at attempt 101",
    ]


def test_persistent_task_ends_when_cancelled() -> None:
    async def scenario() -> None:
        task = asyncio.get_running_loop().create_task(retry_forever("sleeping", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
