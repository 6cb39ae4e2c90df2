"""Finds versions that crash or hang the process that loads them, and leaves them out of the generation that new workers
load.

When a worker dies while loading, the cause is examined before its successor starts. Versions whose files have changed
since they were last loaded are first tried in a process of their own, so that no worker dies of them.
"""

import asyncio
import logging
import signal
from collections import Counter
from dataclasses import replace
from typing import Final

from gateway.backends.content_verdicts import Content, ContentVerdicts
from gateway.backends.trial import LoadTrial
from gateway.backends.trial_cache import TrialCache, key_of
from gateway.control.pool.worker_handle import WorkerHandle
from gateway.control.pool.worker_pool import WorkerPool
from gateway.messages import ConfigGeneration
from gateway.version_key import VersionKey

FIRST_LOAD_TIMEOUT_S: Final = 10.0  # that the first start waits for a candidate; a slower one is loaded later
MIN_DEATHS: Final = 2  # deaths of workers while loading a version that loads well in a process of its own
log: Final = logging.getLogger("gateway.control.pool")


class CrashingVersions:
    """Runs on control's loop; slow work runs in threads. `load_timeout_s`: the time that a version may take to load."""

    def __init__(self, contents: ContentVerdicts, timeout_s: float) -> None:
        self._contents = contents
        self._trials = TrialCache(contents, timeout_s)
        self._timeout_s = timeout_s
        self._looking = asyncio.Lock()
        self._deaths: Counter[tuple[VersionKey, Content]] = Counter()
        self._first: dict[VersionKey, Content] = {}
        self._slow: set[VersionKey] = set()  # candidates that did not load within FIRST_LOAD_TIMEOUT_S

    def close(self) -> None:
        """End the load trial in progress."""
        self._trials.end("the gateway ends")

    async def note_contents(self, config: ConfigGeneration) -> None:
        """Call before the first worker starts: notes the content of each version's files."""
        self._first = await asyncio.to_thread(lambda: {key: self._contents.fingerprint(key) for key in config.versions})

    def mark_loaded_good(self) -> None:
        """Call when all workers are ready: the versions that they loaded are known to be good."""
        for key, content in self._first.items():
            if not self._contents.reason_bad(key):
                self._contents.mark_good(key, content)

    def take_slow(self) -> set[VersionKey]:
        """The candidates left out at the start because they load slowly; each is returned once."""
        taken, self._slow = self._slow, set()
        return taken

    def load_timeout_s(self, key: VersionKey, pool: WorkerPool) -> float:
        """How long a worker may take to load the version, in seconds; shorter for a
        candidate during the first start.
        """
        release = pool.config.routing.models.get(key[0])
        first = not pool.ready.is_set() and release is not None and release.candidate == key[1]
        return min(FIRST_LOAD_TIMEOUT_S, self._timeout_s) if first else self._timeout_s

    async def on_worker_death(self, handle: WorkerHandle, code: int, pool: WorkerPool) -> bool:
        """Call when a worker has died. Returns whether the cause of its death has been removed."""
        key = handle.last_activity.loading
        if key is None and not pool.ready.is_set():
            return False
        async with self._looking:
            before = set(pool.config.unavailable)
            if key is not None:
                await self._note(handle, key, code, pool)
            if not handle.load_timed_out or pool.ready.is_set():
                await asyncio.to_thread(self._try, pool.config)
            await self._leave_out(pool)
            return not set(pool.config.unavailable) <= before

    async def _note(self, handle: WorkerHandle, key: VersionKey, code: int, pool: WorkerPool) -> None:
        """Record the outcome of this load: a timeout, or a death, which counts as the
        version's fault from ENOUGH on.
        """
        content = await asyncio.to_thread(self._contents.fingerprint, key)
        limit_s = self.load_timeout_s(key, pool)
        if handle.load_timed_out:
            if limit_s < self._timeout_s:
                self._slow.add(key)
            limits = f"{limit_s:g} s (models.load_timeout is {self._timeout_s:g} s)"
            more = "" if limit_s == self._timeout_s else "; stable does not wait for it, and it is tried on its own"
            why = f"it was not loaded and warmed up within {limits}{more}"
            self._contents.mark_bad(key, content, why)
            return
        self._deaths[key, content] += 1
        deaths = self._deaths[key, content]
        if code < 0 and deaths >= MIN_DEATHS:
            name = signal.Signals(-code).name
            self._contents.mark_bad(
                key,
                content,
                f"loading it has ended {deaths} workers, the last by {name}, though it may load where it is alone: is"
                " there memory for it in every worker? Give the host more, set fewer server.workers or fix its file",
            )

    def _try(self, config: ConfigGeneration) -> None:
        """Try the versions with unknown content; for a thread. Each is tried by itself, since workers check whether it
        can stand in for stable.
        """
        unknown = self._contents.unknown([key for key in _wanted(config) if config.kept.get(key[0]) != key[1]])
        stables = {(name, release.stable) for name, release in config.routing.models.items()}
        self._trials.run([LoadTrial(*key, key[1]) for key in unknown if key in stables])
        short_s = min(FIRST_LOAD_TIMEOUT_S, self._timeout_s)
        verdicts = self._trials.run(
            [LoadTrial(*key, key[1]) for key in unknown if key not in stables], within_s=short_s
        )
        if short_s < self._timeout_s:
            self._slow |= {key_of(verdict.trial) for verdict in verdicts if verdict.timed_out}

    async def _leave_out(self, pool: WorkerPool) -> None:
        """Update the generation's `unavailable`: add harmful versions, remove repaired ones."""
        before = pool.config
        unavailable = await asyncio.to_thread(self._harmful, before)
        if unavailable != before.unavailable:
            for key in unavailable.keys() - before.unavailable.keys():
                log.error("version %d of '%s' is not loaded: %s", key[1], key[0], unavailable[key])
            pool.config = replace(pool.config, unavailable=unavailable)  # not `before`: an edit may have come meanwhile

    def _harmful(self, config: ConfigGeneration) -> dict[VersionKey, str]:
        return {key: why for key in _wanted(config) if (why := self._contents.reason_bad(key))}


def _wanted(config: ConfigGeneration) -> list[VersionKey]:
    return [key for key in config.versions if key[0] not in config.unloaded]
