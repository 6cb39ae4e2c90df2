"""Work that must outlive what goes wrong: tried again, said once for each trouble, ended only by its end."""

import asyncio
import logging

import pytest

from gateway.system import background_tasks
from gateway.system.background_tasks import persistent


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_tasks, "PAUSES_S", (0.0,))


def test_it_is_tried_again_until_it_can_be_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    troubles = [*[OSError(24, "Too many open files")] * 50, *[RuntimeError("can't start new thread")] * 50]

    async def act() -> str:
        if troubles:
            raise troubles.pop(0)
        return "done"

    assert asyncio.run(persistent("starting worker 1", act)) == "done"
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.system"]
    assert said == [
        *["starting worker 1 has failed and is retried until it succeeds"] * 2,
        "starting worker 1 succeeded at attempt 101",
    ]


def test_one_that_is_cancelled_ends() -> None:
    async def scenario() -> None:
        task = asyncio.get_running_loop().create_task(persistent("sleeping", lambda: asyncio.sleep(60)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
