"""Versions that end the process that loads them, or keep it for ever: found, and left out of what new workers load.

A worker's death while it loads is looked into before its successor starts. What has changed on disk since it was last
loaded is tried in a process of its own first, so that no worker dies of it.
"""

import asyncio
import logging
import signal
from collections import Counter
from dataclasses import replace
from typing import Final

from gateway.backends.content_verdicts import Content, Contents
from gateway.backends.trial import LoadTrial
from gateway.backends.trial_cache import Trials, key_of
from gateway.control.pool.worker_handle import WorkerHandle
from gateway.control.pool.worker_pool import WorkerPool
from gateway.messages import ConfigGeneration
from gateway.version_key import VersionKey

FIRST_S: Final = 10.0  # for a candidate that stable waits for; it is brought in later if it needs longer
ENOUGH: Final = 2  # deaths of workers that load a version, which loads where it is alone
log: Final = logging.getLogger("gateway.control.pool")


class Killers:
    """Looks for them on control's loop; what takes time runs in threads. `timeout_s`: for a version to load."""

    def __init__(self, contents: Contents, timeout_s: float) -> None:
        self._contents = contents
        self._trials = Trials(contents, timeout_s)
        self._timeout_s = timeout_s
        self._looking = asyncio.Lock()
        self._deaths: Counter[tuple[VersionKey, Content]] = Counter()
        self._first: dict[VersionKey, Content] = {}
        self._slow: set[VersionKey] = set()  # candidates that were not there within FIRST_S

    def close(self) -> None:
        """End the trial under way."""
        self._trials.end("the gateway ends")

    async def begin(self, plan: ConfigGeneration) -> None:
        """Before the first worker starts."""
        self._first = await asyncio.to_thread(lambda: {key: self._contents.now(key) for key in plan.versions})

    def began(self) -> None:
        """All workers are ready: they have survived what they have loaded."""
        for key, content in self._first.items():
            if not self._contents.why_bad(key):
                self._contents.good(key, content)

    def take_slow(self) -> set[VersionKey]:
        """Candidates that were not waited for, each once."""
        taken, self._slow = self._slow, set()
        return taken

    def timeout_s(self, key: VersionKey, pool: WorkerPool) -> float:
        """What a worker may take to load the version."""
        release = pool.plan.routing.models.get(key[0])
        first = not pool.ready.is_set() and release is not None and release.candidate == key[1]
        return min(FIRST_S, self._timeout_s) if first else self._timeout_s

    async def died(self, handle: WorkerHandle, code: int, pool: WorkerPool) -> bool:
        """A worker has. Returns whether what it died of is out of the way."""
        key = handle.obituary.loading
        if key is None and not pool.ready.is_set():
            return False
        async with self._looking:
            before = set(pool.plan.left_out)
            if key is not None:
                await self._note(handle, key, code, pool)
            if not handle.overdue or pool.ready.is_set():
                await asyncio.to_thread(self._try, pool.plan)
            await self._leave_out(pool)
            return not set(pool.plan.left_out) <= before

    async def _note(self, handle: WorkerHandle, key: VersionKey, code: int, pool: WorkerPool) -> None:
        """What is known of the version now."""
        content = await asyncio.to_thread(self._contents.now, key)
        limit_s = self.timeout_s(key, pool)
        if handle.overdue:
            if limit_s < self._timeout_s:
                self._slow.add(key)
            limits = f"{limit_s:g} s (models.load_timeout is {self._timeout_s:g} s)"
            more = "" if limit_s == self._timeout_s else "; stable does not wait for it, and it is tried on its own"
            why = f"it was not loaded and warmed up within {limits}{more}"
            self._contents.bad(key, content, why)
            return
        self._deaths[key, content] += 1
        deaths = self._deaths[key, content]
        if code < 0 and deaths >= ENOUGH:
            name = signal.Signals(-code).name
            self._contents.bad(
                key,
                content,
                f"loading it has ended {deaths} workers, the last by {name}, though it may load where it is alone: is"
                " there memory for it in every worker? Give the host more, set fewer server.workers or fix its file",
            )

    def _try(self, plan: ConfigGeneration) -> None:
        """Try what is not known, in a thread: each by itself, since workers see whether it can stand in for stable."""
        unknown = self._contents.unknown(_wanted(plan))
        stables = {(name, release.stable) for name, release in plan.routing.models.items()}
        self._trials.run([LoadTrial(*key, key[1]) for key in unknown if key in stables])
        short_s = min(FIRST_S, self._timeout_s)
        verdicts = self._trials.run(
            [LoadTrial(*key, key[1]) for key in unknown if key not in stables], within_s=short_s
        )
        if short_s < self._timeout_s:
            self._slow |= {key_of(verdict.trial) for verdict in verdicts if verdict.late}

    async def _leave_out(self, pool: WorkerPool) -> None:
        """What does harm is left out of the plan, what is mended comes back."""
        before = pool.plan
        left_out = await asyncio.to_thread(self._harmful, before)
        if left_out != before.left_out:
            for key in left_out.keys() - before.left_out.keys():
                log.error("version %d of '%s' is not loaded: %s", key[1], key[0], left_out[key])
            pool.plan = replace(pool.plan, left_out=left_out)  # as it is now: an edit may have come meanwhile

    def _harmful(self, plan: ConfigGeneration) -> dict[VersionKey, str]:
        return {key: why for key in _wanted(plan) if (why := self._contents.why_bad(key))}


def _wanted(plan: ConfigGeneration) -> list[VersionKey]:
    return [key for key in plan.versions if key[0] not in plan.unloaded]
