"""A rate limit over the fleet: how many requests of one customer all hosts admit together, as its load moves.

Requests are sent at a steady pace from inside each host's namespace, so also to one that is cut off.
"""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.client import Client, request
from loadtests.fleet.rig.hosts import DATA_PORT, Host
from loadtests.fleet.rig.rig import Rig
from loadtests.fleet.rig.watch import BODY, INFER

CUSTOMER: Final = "limited"
LIMIT: Final = 100
SETTINGS: Final = {"rate": {"customers": {CUSTOMER: f"{LIMIT}/s"}}}
REQUEST: Final = request(INFER, BODY, f"x-customer-id: {CUSTOMER}\r\ncontent-type: application/json\r\n")
LEAST: Final = 0.95
MOVES_S: Final = 2.0
MEASURED_S: Final = 10.0
PACE_S: Final = 0.01
CONNECTIONS: Final = 8  # to each host


@dataclass(slots=True)
class RateRow:
    """A load, in requests/s by host, and what of it was admitted a second. `least`: too little below this."""

    name: str
    offered: Mapping[str, float]
    least: float
    per_s: float = 0.0
    by_host: dict[str, float] = field(default_factory=dict)
    other: Counter[str] = field(default_factory=Counter)

    @property
    def met(self) -> bool:
        """Any ten seconds may hold one request more on each host than ten whole windows."""
        return self.least <= self.per_s <= LIMIT + len(self.by_host) / MEASURED_S and not self.other

    def figures(self) -> dict[str, Any]:
        """For the results."""
        return {"name": self.name, "per_s": self.per_s, "by_host": self.by_host, "met": self.met}


def rates(rig: Rig) -> list[RateRow]:
    """The load moves from one host to another and to all; then one is cut off."""
    first, second, third = (host.name for host in rig.hosts)
    spread = dict.fromkeys((first, second, third), 1.2 * LIMIT)
    whole = LEAST * LIMIT
    with _Askers(rig.hosts) as askers:
        rows = [
            askers.measured(RateRow("all on one host", {first: 3.0 * LIMIT}, whole)),
            askers.measured(RateRow("moved to another", {second: 3.0 * LIMIT}, whole)),
            askers.measured(RateRow("on all hosts", spread, whole)),
        ]
        rig.hosts[0].namespace.unplug()
        try:
            rows.append(askers.measured(RateRow("one host cut off", spread, whole)))
            kept = LIMIT - rows[-1].by_host[first]
            rows.append(askers.measured(RateRow("cut off, on another", {second: 3.0 * LIMIT}, LEAST * kept)))
        finally:
            rig.hosts[0].namespace.plug()
        rows.append(askers.measured(RateRow("in contact again", {second: 3.0 * LIMIT}, whole), moves_s=2 * MOVES_S))
    return rows


def print_rates(rows: list[RateRow]) -> None:
    """A table of what was admitted."""
    table = Table(title=f"a limit of {LIMIT}/s, {MEASURED_S:g} s each, {MOVES_S:g} s after the load has moved")
    for heading in ("load", "admitted/s", "at least", "by host", "other"):
        table.add_column(heading)
    for row in rows:
        by_host = ", ".join(f"{per_s:g}" for per_s in row.by_host.values())
        cells = row.name, f"{row.per_s:g}", f"{row.least:.3g}", by_host, str(dict(row.other) or "")
        table.add_row(*cells, style=None if row.met else "red")
    Console().print(table)


class _Askers:
    """A client for each host."""

    def __init__(self, hosts: list[Host]) -> None:
        self._clients = {host.name: _client(host) for host in hosts}

    def __enter__(self) -> "_Askers":
        return self

    def __exit__(self, *raised: object) -> None:
        for client in self._clients.values():
            client.__exit__()

    def measured(self, row: RateRow, moves_s: float = MOVES_S) -> RateRow:
        """Offer the row's load, and count once it has moved."""
        self._run(row.offered, moves_s)
        admitted = self._run(row.offered, MEASURED_S)
        row.by_host = {name: seen[200] / MEASURED_S for name, seen in admitted.items()}
        row.per_s = round(sum(row.by_host.values()), 2)
        row.other = Counter({f"{status}": count for seen in admitted.values() for status, count in seen.items()})
        del row.other["200"], row.other["429"]
        return row

    def _run(self, offered: Mapping[str, float], seconds: float) -> dict[str, Counter[int]]:
        seen: dict[str, Counter[int]] = {name: Counter() for name in self._clients}
        sent = dict.fromkeys(self._clients, 0)
        begun = time.monotonic()
        while (passed_s := time.monotonic() - begun) < seconds:
            for name, client in self._clients.items():
                seen[name].update(answer.status for answer in client.there())
                sent[name] += client.send_some(int(passed_s * offered.get(name, 0.0)) - sent[name])
            time.sleep(PACE_S)
        for name, client in self._clients.items():
            seen[name].update(answer.status for answer in client.rest())
        return seen


def _client(host: Host) -> Client:
    address = "127.0.0.1", DATA_PORT
    return Client(address, CONNECTIONS, lambda: REQUEST, reconnect=True, sockets=host.namespace.open_socket)
