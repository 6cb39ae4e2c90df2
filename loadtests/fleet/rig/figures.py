"""What a fleet costs: stable's latency while the store is lost, and throughput with a fleet against without."""

import itertools
import time
from pathlib import Path
from typing import Final

import httpx
from rich.progress import track

from loadtests import models, servers
from loadtests.fleet.rig.course import OPENS_WITHIN_S
from loadtests.fleet.rig.namespaces import namespaces
from loadtests.fleet.rig.rig import LOAD, LOAD_CONNECTIONS, OPEN_WITHIN_S, Rig
from loadtests.fleet.rig.stores import Store
from loadtests.fleet.rig.watch import INFER
from loadtests.report import Line
from loadtests.rounds import alternate, line
from loadtests.scenarios.overhead import BODY, JSON
from loadtests.wrk import Load, Measured, measure

P99_RATIO: Final = 1.2
THROUGHPUT_RATIO: Final = 0.98
CUSTOMERS: Final = 1000
PAUSE_S: Final = 0.02


def store_lost(rig: Rig, rounds: int, seconds: int) -> list[Line]:
    """Stable alone at saturation, with the store and without it in turn. A failed request ends the benchmark."""
    told = rig.hosts[0].stop()
    assert told.confirmed, told
    there: list[Measured] = []
    lost: list[Measured] = []
    for _ in track(range(rounds), "the store is lost", transient=True):
        there.append(_measured(rig, seconds))
        rig.store.kill()
        lost.append(_measured(rig, seconds))
        rig.store.start()
        rig.watch.busy(OPENS_WITHIN_S)
    pair = there, lost
    return [
        line("stable's p99 while the store is lost", "µs", pair, lambda one: one.p99_us, P99_RATIO, False),
        line("stable's requests/s while the store is lost", "/s", pair, lambda one: one.per_s, 1 / P99_RATIO, True),
    ]


def throughput(folder: Path, kind: str, rounds: int, seconds: int) -> Line:
    """Two gateways on one core, in turn: one alone, one a fleet of one with the default lease."""
    routing = {"models": {"tiny": {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "all", "weight": 5}]}}}}
    models.tiny(folder / "models")
    place = folder / "models", routing, "tiny"
    with namespaces(1) as [behind]:
        store = Store(kind, behind, folder / "store")
        try:
            store.start()
            settings = {"store": store.url, "name": "loadtest"}
            with (
                servers.gateway(folder / "alone", *place) as alone,
                servers.gateway(folder / "fleet", *place, fleet=settings) as fleet,
            ):
                load = Load(BODY, JSON, customers=CUSTOMERS)
                _wait_open(fleet)
                found = alternate((alone, fleet), load, [LOAD_CONNECTIONS], rounds, seconds)
        finally:
            store.kill()
    pair = found[LOAD_CONNECTIONS]
    return line("requests/s in a fleet, to alone", "/s", pair, lambda one: one.per_s, THROUGHPUT_RATIO, True)


def _wait_open(url: str) -> None:
    """Until the candidate answers, which takes ten leases: without its share a gateway has less to do."""
    end = time.monotonic() + OPEN_WITHIN_S
    with httpx.Client() as client:
        for number in itertools.count():
            headers = {**JSON, "x-customer-id": f"customer-{number % CUSTOMERS}"}
            if client.post(url, content=BODY, headers=headers).headers.get("x-variant") == "candidate":
                return
            if time.monotonic() > end:
                raise SystemExit(f"no answer from the candidate within {OPEN_WITHIN_S:g} s: {url}")
            time.sleep(PAUSE_S)


def _measured(rig: Rig, seconds: int) -> Measured:
    return measure(rig.front_url + INFER, LOAD, LOAD_CONNECTIONS, seconds, pinned=False)
