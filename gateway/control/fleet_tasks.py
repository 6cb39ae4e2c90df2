"""What control runs for the fleet from its start to its end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from gateway.control.fleet.fleet_routing import FleetRouting
from gateway.control.fleet.membership import Membership
from gateway.control.fleet.prediction_keys import PredictionKeys
from gateway.control.fleet.rates import FleetRates

Task = Callable[[], Coroutine[Any, Any, None]]


class InFleet(Protocol):
    """The parts, which are None without a fleet."""

    fleet: Membership | None
    rates: FleetRates | None
    prediction_keys: PredictionKeys | None
    fleet_routing: FleetRouting | None


def fleet_tasks(control: InFleet) -> dict[str, Task]:
    """What runs until it is cancelled, by what it is called in messages."""
    tasks: dict[str, Task] = {}
    if control.fleet is not None:
        tasks["the fleet's beats"] = control.fleet.beat_forever
        tasks["the fleet's news"] = control.fleet.listen_forever
        if control.fleet.ramps is not None:
            tasks["the fleet's ramps"] = control.fleet.ramps.run_forever
    if control.rates is not None:
        tasks["the fleet's rates"] = control.rates.run_forever
    if control.prediction_keys is not None:
        tasks["the fleet's keys"] = control.prediction_keys.run_forever
    return tasks


async def leave_fleet(control: InFleet) -> None:
    """Leave the fleet, while the workers drain."""
    await asyncio.gather(*(part.leave() for part in (control.fleet, control.fleet_routing) if part is not None))


async def close_fleet(control: InFleet, tasks: list[asyncio.Task[None]], timeout_s: float) -> None:
    """Close all connections to the store, once the tasks, which have been cancelled, have ended."""
    if control.fleet is not None:
        await asyncio.wait(tasks, timeout=timeout_s)
    routing = control.fleet_routing.exchange if control.fleet_routing is not None else None
    for part in (control.fleet, control.rates, control.prediction_keys, routing):
        if part is not None:
            await part.close()
