"""What clients ask one worker for and all must do: load or unload a model."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from gateway.accepting import Accepting
from gateway.configuration import Configuration
from gateway.errors import GatewayError, InvalidRequest, NotFound
from gateway.fleet import Fleet
from gateway.orders import Load, Plan, Unload, Wish
from gateway.release.resolve import Resolved
from gateway.serving.scratch import Trial
from gateway.settings.routing_settings import ReleaseSettings, RoutingSettings

log: Final = logging.getLogger("gateway.control")


class Granting(Protocol):
    """Who can do it."""

    fleet: Fleet
    accepting: Accepting
    configuration: Configuration
    served: Mapping[str, ReleaseSettings]

    def take_in(self, resolved: Resolved) -> Plan:
        """Another model beside those in force, which no worker serves yet."""


class Wishes:
    """Grants them one by one, and not while an edit is put in force. Lives on control's loop."""

    def __init__(self, control: Granting, changing: asyncio.Lock) -> None:
        self._control = control
        self._changing = changing

    def grant(self, wish: Wish) -> "asyncio.Task[str]":
        """What went wrong, empty where nothing did."""
        return asyncio.get_running_loop().create_task(self._granted(wish))

    async def _granted(self, wish: Wish) -> str:
        async with self._changing:
            try:
                if wish.load:
                    await self._load(wish.name)
                else:
                    _raise(await self._control.fleet.order(lambda order: Unload(order, wish.name)))
            except GatewayError as error:
                return str(error)
            except Exception as error:  # else who has made the wish would wait for ever
                log.exception("loading or unloading '%s' failed", wish.name)
                return f"{type(error).__name__}: {error}"
            return ""

    async def _load(self, name: str) -> None:
        control = self._control
        plan = control.fleet.plan
        settings = plan.routing.models.get(name)
        if settings is None:
            seen = await control.accepting.first_seen(name)
            settings = seen.routing.models[name] if seen is not None else None
        if settings is None:
            raise NotFound(f"the repository has no model '{name}' with a version that has a file and is not stopped")
        trial = Trial(name, settings.stable, settings.stable)
        verdicts = await asyncio.to_thread(control.configuration.try_out, [trial], frozenset())
        if verdicts[0].error:
            raise InvalidRequest(verdicts[0].error)
        routing = RoutingSettings.model_construct(models={**plan.routing.models, name: settings})
        plan = control.take_in(Resolved(routing, plan.named, control.accepting.memory))
        _raise(await control.fleet.order(lambda order: Load(order, name, plan)))


def _raise(errors: list[str]) -> None:
    if errors:
        raise InvalidRequest("; ".join(errors))
