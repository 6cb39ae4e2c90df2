"""Work on control's loop gives way to orders, and not for ever."""

import asyncio

from gateway.control import command_priority as module
from gateway.control.command_priority import CommandPriority


def test_work_goes_on_once_the_order_is_over() -> None:
    async def work() -> list[str]:
        pressing, done = CommandPriority(), list[str]()

        async def piece() -> None:
            await pressing.yield_to_commands()
            done.append("piece")

        with pressing.command():
            task = asyncio.create_task(piece())
            for _ in range(3):  # of the loop's turns
                await asyncio.sleep(0)
            done.append("order")
        await task
        await pressing.yield_to_commands()
        return done

    assert asyncio.run(work()) == ["order", "piece"]


def test_orders_without_an_end_hold_nothing_up_for_long() -> None:
    async def work() -> float:
        pressing, loop = CommandPriority(), asyncio.get_running_loop()
        with pressing.command():
            began_s = loop.time()
            await pressing.yield_to_commands()
            return loop.time() - began_s

    assert asyncio.run(work()) >= module.MAX_PAUSE_S
