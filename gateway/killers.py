"""Versions that end the process that loads them: found before the first worker is ready, and left out of the plan."""

import asyncio
from dataclasses import replace

from gateway.configuration import Configuration
from gateway.fleet import Fleet
from gateway.tasks import persistent


class Killers:
    """Looks for them on control's loop. `configuration` tries versions in a scratch process."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._looking: asyncio.Task[None] | None = None

    def look_for(self, fleet: Fleet) -> None:
        """A worker that dies while it loads may have been killed by a model file: find out which, and leave it out."""
        if not fleet.ready.is_set() and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(
                persistent("looking for what ends workers", lambda: self._leave_out(fleet))
            )

    async def _leave_out(self, fleet: Fleet) -> None:
        trials = self._configuration.trials(fleet.plan.routing, set())
        verdicts = await asyncio.to_thread(self._configuration.try_out, trials, frozenset())
        found = {(v.trial.name, v.trial.version): v.error for v in verdicts if v.killed}
        plan = fleet.plan  # as it is now: an edit may have been put in force meanwhile
        fleet.plan = replace(plan, left_out={**plan.left_out, **found})
