"""Work on control's event loop gives way to operator commands, but not indefinitely."""

import asyncio

from gateway.control import order_priority as module
from gateway.control.order_priority import Pressing


def test_give_way_continues_when_the_order_is_over() -> None:
    async def work() -> list[str]:
        pressing, done = Pressing(), list[str]()

        async def piece() -> None:
            await pressing.give_way()
            done.append("piece")

        with pressing.order():
            task = asyncio.create_task(piece())
            for _ in range(3):  # of the loop's turns
                await asyncio.sleep(0)
            done.append("order")
        await task
        await pressing.give_way()
        return done

    assert asyncio.run(work()) == ["order", "piece"]


def test_give_way_waits_a_bounded_time_for_an_endless_order() -> None:
    async def work() -> float:
        pressing, loop = Pressing(), asyncio.get_running_loop()
        with pressing.order():
            began_s = loop.time()
            await pressing.give_way()
            return loop.time() - began_s

    assert asyncio.run(work()) >= module.MOST_S
