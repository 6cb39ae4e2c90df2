"""A whole fleet on this machine: three gateways, their store, HAProxy before them. Everything is gone at the end."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from loadtests import haproxy, models
from loadtests.fleet.rig.hosts import JSON, MODEL, Host
from loadtests.fleet.rig.namespaces import Namespace, namespaces
from loadtests.fleet.rig.paths import Paths
from loadtests.fleet.rig.stores import Store, url_of
from loadtests.fleet.rig.watch import BODY, INFER, Watch
from loadtests.wrk import Load, background

HOSTS: Final = 3
LEASE_S: Final = 1.0
LOAD: Final = Load(BODY, JSON)
LOAD_CONNECTIONS: Final = 32
OPEN_WITHIN_S: Final = 60.0  # a new fleet opens after ten leases
SPLIT: Final = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
ROUTING: Final = {"models": {MODEL: {"stable": 1, "candidate": 2, "split": SPLIT}}}


@dataclass(slots=True)
class Rig:
    """`paths`: the hosts' ways to the store, None if there is no proxy. `front_url`: HAProxy's."""

    hosts: list[Host]
    store: Store
    paths: Paths | None
    front_url: str
    watch: Watch
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def any_host(self) -> Host:
        """One at random."""
        return self.chance.choice(self.hosts)

    def two_hosts(self) -> tuple[Host, Host]:
        """Two different ones at random."""
        first, second = self.chance.sample(self.hosts, 2)
        return first, second

    @contextlib.contextmanager
    def saturated(self) -> Iterator[Callable[[], int]]:
        """wrk at HAProxy; what this yields ends it and says how many requests failed."""
        with background(self.front_url + INFER, LOAD, LOAD_CONNECTIONS) as end:
            yield end


@contextlib.contextmanager
def fleet(
    folder: Path, kind: str = "redis", *, proxied: bool = False, checkout: Path | None = None, **more: Any
) -> Iterator[Rig]:
    """Three hosts, once all of them answer from candidates. `kind`: of the store. `proxied`: they reach it through the
    proxy. `checkout`: another one, from which they run, without fleet settings if it knows none. `more`: settings of
    gateway.yaml.
    """
    models.doubling(folder / "models", MODEL)
    with contextlib.ExitStack() as stack:
        *places, behind = stack.enter_context(namespaces(HOSTS + 1))
        store = Store(kind, behind, folder / "store")
        stack.callback(store.kill)
        store.start()
        paths = stack.enter_context(Paths(behind, store.port, HOSTS)) if proxied else None
        ports = [store.port] * HOSTS if paths is None else paths.ports
        urls = [url_of(kind, behind.address, port) for port in ports]
        hosts = _hosts(stack, folder, places, urls, checkout, more)
        front = stack.enter_context(haproxy.before_hosts(folder / "haproxy", [host.data for host in hosts]))
        watch = Watch(hosts)
        stack.callback(watch.close)
        if closed := watch.until_all_answer_from_candidates(OPEN_WITHIN_S):
            raise SystemExit(f"{', '.join(closed)}: no answer from the candidate:\n{hosts[0].log[-4000:]}")
        yield Rig(hosts, store, paths, front.url, watch)
        watch.settle()


def settings_of(name: str, url: str) -> dict[str, Any]:
    """The host's fleet settings."""
    return {"fleet": {"store": url, "name": "loadtest", "lease": f"{LEASE_S:g}s", "host": name}}


def _hosts(
    stack: contextlib.ExitStack,
    folder: Path,
    places: list[Namespace],
    urls: list[str],
    checkout: Path | None,
    more: Mapping[str, Any],
) -> list[Host]:
    hosts: list[Host] = []
    stack.callback(_end, hosts)
    for number, (namespace, url) in enumerate(zip(places, urls, strict=True), 1):
        name = f"host-{number}"
        knows_fleets = checkout is None or (checkout / "gateway/control/fleet").is_dir()
        settings = {**(settings_of(name, url) if knows_fleets else {}), **more}
        hosts.append(Host(name, namespace, folder / name, folder / "models", ROUTING, settings, checkout))
        hosts[-1].start()
    for host in hosts:
        host.wait_ready()
    return hosts


def _end(hosts: list[Host]) -> None:
    for host in hosts:
        host.terminate()
    for host in hosts:
        host.wait_ended()
