"""Requests that a worker has counted by control: what it does where control does not answer."""

import asyncio
import time

from gateway.auth.fleet_rate_limit import BY_SHARE
from gateway.auth.rate_limit import Quota
from gateway.messages import CountReply, CountRequest
from gateway.worker import rate_counting
from gateway.worker.rate_counting import MOST_UNANSWERED, RateCounting
from tests.control.fleet.servers import asynchronous

QUOTA = Quota(10, 10_000_000_000, (7, 9))


class Control:
    """The other end of the pipe."""

    def __init__(self) -> None:
        self.asked: list[CountRequest] = []
        self.alive = True
        self.later_s = 0.0
        self.counting = RateCounting(self.send, lambda: time.monotonic() + self.later_s)

    def send(self, request: CountRequest) -> bool:
        self.asked.append(request)
        return self.alive

    async def ask(self, count: int = 1) -> "list[asyncio.Task[int]]":
        tasks = [asyncio.get_running_loop().create_task(self.counting.count(QUOTA)) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks


@asynchronous
async def test_each_gets_the_answer_to_its_own_request() -> None:
    control = Control()
    first, second = await control.ask(2)
    one, two = control.asked
    assert one.places == two.places == (7, 9)
    control.counting.answer(CountReply(two.number, 5))
    control.counting.answer(CountReply(one.number, 0))
    assert (await first, await second) == (0, 5)


@asynchronous
async def test_control_that_hangs_is_asked_no_more_than_its_pipe_can_hold() -> None:
    control = Control()
    tasks = await control.ask(MOST_UNANSWERED + 5)
    assert len(control.asked) == MOST_UNANSWERED
    assert [await task for task in tasks[MOST_UNANSWERED:]] == [BY_SHARE] * 5
    assert await tasks[0] == BY_SHARE, f"after {rate_counting.WITHIN_S:g} s"
    await asyncio.gather(*tasks)
    assert await control.counting.count(QUOTA) == BY_SHARE, "those that were given up are still in the pipe"
    control.counting.answer(CountReply(control.asked[0].number, 0))
    (again,) = await control.ask()
    control.counting.answer(CountReply(control.asked[-1].number, 3))
    assert await again == 3


@asynchronous
async def test_of_the_requests_to_a_control_that_hangs_only_the_first_waits() -> None:
    control = Control()
    (waiting,) = await control.ask()
    assert await waiting == BY_SHARE
    assert await control.counting.count(QUOTA) == BY_SHARE and len(control.asked) == 1
    control.counting.answer(CountReply(control.asked[0].number, 0))
    (again,) = await control.ask()
    control.counting.answer(CountReply(control.asked[-1].number, 3))
    assert await again == 3


@asynchronous
async def test_a_control_that_hangs_is_noticed_by_requests_that_wait_for_less() -> None:
    control = Control()
    for _ in range(2):
        (hurried,) = await control.ask()
        hurried.cancel()
        await asyncio.gather(hurried, return_exceptions=True)
    assert len(control.asked) == 2
    control.later_s = rate_counting.WITHIN_S
    (third,) = await control.ask()
    assert third.done() and third.result() == BY_SHARE and len(control.asked) == 2
    for request in control.asked:
        control.counting.answer(CountReply(request.number, 0))
    control.later_s += 3600
    (again,) = await control.ask()
    control.counting.answer(CountReply(control.asked[-1].number, 3))
    assert await again == 3, "an answer that came is no debt"


@asynchronous
async def test_without_control_the_share_holds_at_once() -> None:
    control = Control()
    (waiting,) = await control.ask()
    control.counting.give_up()
    assert await waiting == BY_SHARE
    assert await control.counting.count(QUOTA) == BY_SHARE and len(control.asked) == 1
    dying = Control()
    dying.alive = False
    assert await dying.counting.count(QUOTA) == BY_SHARE
