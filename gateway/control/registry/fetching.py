"""Brings one version after the other from the registry, in a task of its own: the registry is asked meanwhile."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.control.proposal import Basis, VersionRefused
from gateway.control.registry.memory import ModelMemory, RegistryMemory
from gateway.control.registry.step import Aliases
from gateway.control.registry.versions import RegistryVersions
from gateway.errors import BodyTooLarge, InvalidRequest, ModelUnavailable
from gateway.registry.mlflow_client import MlflowClient

RETRY_S: Final = (5.0, 15.0, 60.0, 300.0)  # until a version that could not be brought is tried again; the last repeats
FINAL: Final = (VersionRefused, ModelUnavailable, InvalidRequest, BodyTooLarge)  # the same whenever it is tried
log: Final = logging.getLogger("gateway.control.registry")


@dataclass(frozen=True, slots=True)
class _Failed:
    """A version that could not be brought, for the `times`-th time; it is tried again when it is `due_s`."""

    version: int
    times: int
    due_s: float
    why: str


class Fetching:
    """`seen`: the aliases of a model as last read under a name in the registry; a version that they no longer name is
    given up. `changed`: called with the model and that name when something is known. `said`: by model, what is under
    way; `as_stable`: whether that is to be stable.
    """

    def __init__(
        self,
        client: MlflowClient,
        versions: RegistryVersions,
        memory: RegistryMemory,
        seen: Callable[[str, str], Aliases],
        changed: Callable[[str, str], None],
    ) -> None:
        self.said: dict[str, str] = {}
        self.as_stable = False
        self._client = client
        self._versions = versions
        self._memory = memory
        self._seen = seen
        self._changed = changed
        self._failed: dict[str, _Failed] = {}
        self._task: asyncio.Task[None] | None = None

    def begin(
        self, model: str, memory: ModelMemory, version: int, basis: Basis, *, replace: bool, as_stable: bool
    ) -> str:
        """Begin to bring the version as candidate or `as_stable`, unless one is being brought or this one is to wait.
        Returns why it waits. `basis`: what that was decided by. `replace`: also if another candidate is under way.
        """
        loop, failed = asyncio.get_running_loop(), self._failed.get(model)
        if self.said:
            return "" if model in self.said else f"version {version} waits until another model's has been brought"
        if failed is not None and failed.version == version and loop.time() < failed.due_s:
            return failed.why
        self.said[model] = f"version {version} is being fetched and tried"
        self.as_stable = as_stable
        acting = self._bring(model, memory, version, basis, replace=replace, as_stable=as_stable)
        self._task = loop.create_task(acting)
        return ""

    def cancel(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()

    async def _bring(
        self, model: str, memory: ModelMemory, version: int, basis: Basis, *, replace: bool, as_stable: bool
    ) -> None:
        def unwanted() -> str:
            seen = self._seen(model, memory.registered)
            now = seen.champion if as_stable else seen.challenger
            return "" if now == version else f"the alias is no longer at version {version}"

        try:
            there = await self._client.version(memory.registered, version)
            await self._versions.bring(model, there, memory, basis, unwanted, replace=replace, as_stable=as_stable)
        except FINAL as error:
            memory.refused, memory.why = version, f"version {version} is refused: {error}"
            log.warning("'%s': %s", model, memory.why)
            self._deal_with(model, memory, version, as_stable=as_stable)
        except Exception as error:
            self._note_failure(model, version, error)
        else:
            memory.refused, memory.why = None, ""
            memory.brought = memory.brought if as_stable else version
            self._deal_with(model, memory, version, as_stable=as_stable)
        finally:
            self.said.pop(model, None)
        self._changed(model, memory.registered)

    def _deal_with(self, model: str, memory: ModelMemory, version: int, *, as_stable: bool) -> None:
        self._failed.pop(model, None)
        if as_stable:
            memory.champion = version
        else:
            memory.challenger = version
        self._memory.save()

    def _note_failure(self, model: str, version: int, error: Exception) -> None:
        failed = self._failed.get(model)
        times = failed.times + 1 if failed is not None and failed.version == version else 1
        why = f"version {version} could not be brought, and is tried again: {error}"
        due_s = asyncio.get_running_loop().time() + RETRY_S[min(times, len(RETRY_S)) - 1]
        self._failed[model] = _Failed(version, times, due_s, why)
        log.warning("'%s': %s", model, why)
