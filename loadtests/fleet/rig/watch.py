"""Watches what every host answers: connections from inside each namespace, so that they outlive its cable.

Between `forbid` and `allow` no answer may come from a candidate, on any host; those that do are counted as late.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import orjson

from loadtests.client import Answer, Client, Seen, request
from loadtests.fleet.rig.hosts import DATA_PORT, MODEL, Host

CONNECTIONS: Final = 8  # to each host
PAUSE_S: Final = 0.002
INFER: Final = f"/v2/models/{MODEL}/infer"
BODY: Final = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]})
REQUEST: Final = request(INFER, BODY)


class Watch:
    """Used by one thread. `late`: by host. `seen`: the same. `lost`: requests whose connection broke, by host, but for
    hosts that were left out.
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.seen: dict[str, Seen] = {}
        self.late: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._clients: dict[str, Client] = {}
        self._forbidden = False
        for host in hosts:
            self.seen[host.name] = Seen()
            self.take_in(host)

    @property
    def lost(self) -> int:
        return sum(self._lost.values()) + sum(client.lost for client in self._clients.values())

    @property
    def failed(self) -> Counter[str]:
        """What was answered but with 200, with an example of each."""
        return sum((seen.failures for seen in self.seen.values()), Counter[str]())

    @property
    def answers(self) -> int:
        return sum(sum(seen.variants.values()) for seen in self.seen.values())

    def candidates(self) -> dict[str, int]:
        """How many answers of the candidate have come so far, by host that is watched now."""
        return {name: self.seen[name].variants["candidate"] for name in self._clients}

    def take_in(self, host: Host) -> None:
        """Watch it from now on; it must serve."""
        address = "127.0.0.1", DATA_PORT
        sockets = host.namespace.open_socket
        self._clients[host.name] = Client(address, CONNECTIONS, lambda: REQUEST, reconnect=True, sockets=sockets)

    def leave_out(self, host: Host) -> None:
        """It is about to end, or has: what it has not answered is not lost."""
        self.take()
        client = self._clients.pop(host.name)
        self._lost[host.name] += client.lost
        client.__exit__()

    def send(self) -> None:
        """Have a request out on every connection."""
        for client in self._clients.values():
            client.send()

    def take(self) -> None:
        """Count what has arrived. On the loopback what was sent before is there."""
        for name, client in self._clients.items():
            for answer in client.there():
                self._count(name, answer)

    def busy(self, seconds: float) -> None:
        """Ask as fast as answers come."""
        self.until(lambda: False, seconds)

    def until(self, done: Callable[[], bool], within_s: float) -> bool:
        """Ask as fast as answers come, until `done`, which is looked at often, or the time is over: then False."""
        end = time.monotonic() + within_s
        while not done():
            if time.monotonic() > end:
                return False
            self.send()
            self.take()
            time.sleep(PAUSE_S)
        return True

    def until_all_answer_from_candidates(self, within_s: float) -> list[str]:
        """Names of the hosts that have not done so in time."""
        before = self.candidates()

        def missing() -> list[str]:
            return [name for name, count in self.candidates().items() if count == before[name]]

        self.until(lambda: not missing(), within_s)
        return missing()

    def forbid(self) -> None:
        """What has arrived is well yet; no candidate's answer after it."""
        self.take()
        self._forbidden = True

    def allow(self) -> None:
        """Candidates may answer again."""
        self.take()
        self._forbidden = False

    def settle(self) -> None:
        """Wait for all answers that are out."""
        for name, client in self._clients.items():
            for answer in client.rest():
                self._count(name, answer)

    def close(self) -> None:
        """Close the connections, whatever is out."""
        for name, client in self._clients.items():
            self._lost[name] += client.lost
            client.__exit__()
        self._clients.clear()

    def _count(self, name: str, answer: Answer) -> None:
        self.seen[name].add(answer)
        if self._forbidden and answer.variant == "candidate":
            self.late[name] += 1
