"""Trials whose results are remembered by content: what has loaded, and what must not be loaded again unchanged."""

import threading
from collections.abc import Iterable

from gateway.backends.content_verdicts import ContentVerdicts
from gateway.backends.trial import CancelCheck, LoadResult, LoadTrial, TrialProcess, never_cancelled
from gateway.errors import ModelUnavailable


class TrialCache:
    """Runs one series of trials at a time, from any thread. `timeout_s`: for a version to load and warm up."""

    def __init__(self, contents: ContentVerdicts, timeout_s: float) -> None:
        self.contents = contents
        self.timeout_s = timeout_s
        self._scratch = TrialProcess(contents.path)
        self._running = threading.Lock()

    def run(
        self, trials: list[LoadTrial], cancel_check: CancelCheck = never_cancelled, within_s: float | None = None
    ) -> list[LoadResult]:
        """The results, in order. Raises ModelUnavailable if cancelled. `within_s`: replaces `timeout_s`."""
        with self._running:
            seen = {key_of(trial): self.contents.fingerprint(key_of(trial)) for trial in trials}
            verdicts = list(self._scratch.try_versions(trials, within_s or self.timeout_s, cancel_check))
            if self._scratch.cancel_reason:
                raise ModelUnavailable(self._scratch.cancel_reason)
        for verdict in verdicts:
            key = key_of(verdict.trial)
            if verdict.killed or verdict.timed_out:
                self.contents.mark_bad(key, seen[key], verdict.error)
            else:
                self.contents.mark_good(key, seen[key])  # or rejected with an error
        return verdicts

    def end(self, why: str) -> None:
        """Cancel the trials under way and all later ones."""
        self._scratch.end(why)


def harmful(verdicts: Iterable[LoadResult]) -> dict[tuple[str, int], str]:
    """The versions that no worker may load, and why: they would end it or make it hang."""
    return {key_of(one.trial): one.error for one in verdicts if one.killed or one.timed_out}


def key_of(trial: LoadTrial) -> tuple[str, int]:
    """The model and the version."""
    return trial.name, trial.version
