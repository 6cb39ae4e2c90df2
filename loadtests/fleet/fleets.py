"""The small fleets that are checked exhaustively: what may happen in one history of each, and how often."""

from collections.abc import Callable
from functools import partial
from typing import Final

from loadtests.fleet.model import Budget, State, opened

ALL: Final = Budget(stops=1, resumes=1, joins=1, leaves=1, restarts=1, flushes=1, silences=0)
FLEETS: Final[dict[str, Callable[[], State]]] = {
    "2 hosts: stop": partial(opened, 2, 0, Budget(stops=1)),
    "2 hosts: stop, 1 delay, at most 1 loss": partial(opened, 2, 0, Budget(stops=1, delays=1, silences=1)),
    "2 hosts: stop, resume, at most 1 loss": partial(opened, 2, 0, Budget(stops=1, resumes=1, silences=1)),
    "2 hosts: stop, flush, at most 1 loss": partial(opened, 2, 0, Budget(stops=1, flushes=1, silences=1)),
    "2 hosts, 1 holds: stop": partial(opened, 2, 0, Budget(stops=1), hold=True),
    "3 hosts: stop, at most 1 loss": partial(opened, 3, 0, Budget(stops=1, silences=1)),
    "2 hosts: all in one history": partial(opened, 2, 0, ALL),
}
