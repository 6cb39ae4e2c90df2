"""What the history says of models that are loaded and unloaded while the gateway runs, neither too often nor twice.

A start and an edit explain themselves; a load of the same files as the last one recorded changes nothing.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gateway.control.release.decisions import DecisionLog
from gateway.messages import LoadRequest

SHOWN_DIGITS: Final = 12  # of a digest
MOST_A_DAY: Final = 100  # a client that loads and unloads for ever would displace what matters
DAY_S: Final = 86_400.0


class LoadHistory:
    """Records loads and unloads in `decision_log`: at most MOST_A_DAY within a day, and with the next one how many were
    left out. `clock`: in seconds.
    """

    def __init__(self, decision_log: DecisionLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._decision_log = decision_log
        self._clock = clock
        self._loaded: dict[str, dict[str, str]] = {}  # by model: the digests of the versions last recorded
        self._recorded_s: deque[float] = deque(maxlen=MOST_A_DAY)
        self._left_out = 0

    def loaded(self, request: LoadRequest, late: int | None, digests: dict[str, str], stable: int) -> None:
        """Record that a model has been loaded. `late`: the version that it was for, None if a client asked. `digests`:
        by version, of its files. `stable`: the model's stable version.
        """
        if self._loaded.get(request.name) == digests:
            return
        self._loaded[request.name] = digests
        names = " and ".join(
            f"{number} ({digest[:SHOWN_DIGITS]})" if digest else number for number, digest in digests.items()
        )
        why = "as a client asked" if late is None else f"since version {late} could not be when it was to be served"
        self._record("load", request, late or stable, f"loaded from disk: {names}, {why}", {"sha256": digests})

    def unloaded(self, request: LoadRequest, stable: int) -> None:
        """Record that a model has been unloaded, as a client asked."""
        self._loaded.pop(request.name, None)
        reason = "unloaded, as a client asked: requests get 404 until it is loaded again"
        self._record("unload", request, stable, reason, {})

    def _record(self, action: str, request: LoadRequest, version: int, reason: str, evidence: dict[str, Any]) -> None:
        now_s = self._clock()
        if len(self._recorded_s) == MOST_A_DAY and now_s - self._recorded_s[0] < DAY_S:
            self._left_out += 1
            return
        self._recorded_s.append(now_s)
        if self._left_out:
            reason += f"; {self._left_out:,} loads and unloads before it are not recorded, at most {MOST_A_DAY} a day"
            self._left_out = 0
        if request.origin:
            evidence["from"] = request.origin
        self._decision_log.record(request.name, version, action, request.by, reason, evidence)
