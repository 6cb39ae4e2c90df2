"""Work on control's event loop gives way to operator commands, but not indefinitely."""

import asyncio

from gateway.control import command_priority as module
from gateway.control.command_priority import CommandPriority


def test_give_way_continues_when_the_order_is_over() -> None:
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


def test_give_way_waits_a_bounded_time_for_an_endless_order() -> None:
    async def work() -> float:
        pressing, loop = CommandPriority(), asyncio.get_running_loop()
        with pressing.command():
            began_s = loop.time()
            await pressing.yield_to_commands()
            return loop.time() - began_s

    assert asyncio.run(work()) >= module.MAX_PAUSE_S
