"""What two gateways of a fleet show of it: the API, its events, the commands and the metrics, over a real Redis."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control.api.test_event_stream import events, stream
from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import gateway, metric, send_command, until
from tests.processes.test_commands import command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
LEASE_S = 3.0
Pair = tuple[RedisServer, GatewayProcess, GatewayProcess]


def host(folder: Path, store_url: str, name: str) -> GatewayProcess:
    """A host that has been in the fleet before: it opens after one lease, a new one after ten."""
    state = folder / name / "state"
    state.mkdir(parents=True)
    known = {"fleet": "production", "words": {"other/1": [1, 0]}, "stops": [], "sequence": 0}
    (state / "fleet.json").write_text(json.dumps(known))
    settings = {"store": store_url, "lease": f"{LEASE_S:g}s", "name": "production", "host": name}
    return gateway(folder / name, fleet=settings, limits={"rate": {"customers": {"acme": "100/s"}}})


def shown(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/fleet").json()["fleet"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A store and the hosts a and b, whose candidates are open."""
    folder = tmp_path_factory.mktemp("shown")
    with RedisServer(folder / "redis", "--requirepass", "secret") as store:
        url = store.url.replace("//", "//:secret@")
        with host(folder, url, "a") as a, host(folder, url, "b") as b:
            until(lambda: bool(shown(a)["open"] and shown(b)["open"]), "both are open")
            yield store, a, b


@pytest.fixture(autouse=True)
def _resumed(pair: Pair) -> Iterator[None]:
    yield
    store, a, b = pair
    store.thaw()
    until(lambda: all(shown(each)["open"] and not shown(each)["unconfirmed"] for each in (a, b)), "all is well")
    send_command(a, "resume")


def lines(said: str) -> list[str]:
    return [" ".join(re.sub("[│┃]", " ", line).split()) for line in said.splitlines()]


def test_api_shows_both_hosts_and_no_password(pair: Pair) -> None:
    _, a, b = pair
    for each, name in ((a, "a"), (b, "b")):
        document = shown(each)
        assert [(one["name"], one["here"], one["hold"]) for one in document["members"]] == [
            ("a", name == "a", False),
            ("b", name == "b", False),
        ]
        assert (document["name"], document["host"], document["why"], document["problem"]) == (
            "production",
            name,
            "",
            None,
        )
        assert (document["lease_s"], document["when_lost"]) == (LEASE_S, "close")
        assert 0 < document["lease_left_s"] <= LEASE_S
        assert all(one["silent_s"] < LEASE_S for one in document["members"])
        assert "secret" not in json.dumps(document)
        assert document["store"].startswith("redis://127.0.0.1:")


def test_commands_say_on_how_many_hosts(pair: Pair) -> None:
    _, a, b = pair
    stopped = command(a.config, "stop", "flawed")
    assert stopped.returncode == 0, stopped.stderr
    assert re.fullmatch(r"version 2 of flawed is stopped on 2 hosts, confirmed after \d+ ms\n", stopped.stdout)
    resumed = command(b.config, "resume", "flawed")
    assert resumed.stdout == "version 2 of flawed receives traffic again on all hosts\n"
    until(lambda: all(one["up_to_date"] for one in shown(a)["members"]), "the resume is in force everywhere")
    told = lines(command(a.config, "status", "flawed").stdout)
    hosts = {line.replace(", leads flawed", "").replace(" (leads flawed)", "") for line in told}
    assert {"a (this one) all close now", "b all close now"} <= hosts
    assert sum("leads flawed" in line for line in told) == 1
    assert "candidates get traffic on this host; its lease is 3 s" in told


def test_shares_of_rate_limits_are_shown(pair: Pair) -> None:
    _, a, b = pair
    until(lambda: all(shown(each)["rates"]["share"] == 0.5 for each in (a, b)), "each has its half")
    rates = shown(a)["rates"]
    assert (rates["newcomer"], rates["problem"], rates["kept"]) == (False, None, [])
    assert "50.0% of each rate limit are admitted here" in lines(command(a.config, "status", "flawed").stdout)
    assert metric(a, "gateway_fleet_rate_share_ratio") == 0.5
    assert metric(a, "gateway_fleet_rate_newcomer") == 0


def test_hosts_that_beat_are_not_removed(pair: Pair) -> None:
    _, a, _ = pair
    for host_name, says in (
        ("b", "'b' beats, or did until"),
        ("a", "'a' is the host that was asked"),
        ("x", "no host 'x'"),
    ):
        refused = command(a.config, "fleet", "remove", host_name)
        assert refused.returncode == 1 and says in refused.stderr
    assert [one["name"] for one in shown(a)["members"]] == ["a", "b"]


def test_stop_without_the_store_fails_with_the_reason(pair: Pair) -> None:
    store, a, _ = pair
    store.freeze()
    until(lambda: not shown(a)["open"], "the lease has ended")
    stopped = command(a.config, "stop", "flawed")
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "is stopped here only: unconfirmed; the fleet's store has not taken it: " in stopped.stderr
    assert stopped.stderr.count("\n") == 1
    as_json = command(a.config, "stop", "flawed", "--json")
    assert as_json.returncode == 1
    assert json.loads(as_json.stdout)["fleet"]["confirmed"] is False
    told = command(a.config, "status").stdout
    assert "candidates get no traffic on this host: no contact: " in told
    assert "the stop of version 2 of flawed is not confirmed on all hosts" in told
    assert (metric(a, "gateway_fleet_open"), metric(a, "gateway_fleet_stops_unconfirmed")) == (0, 1)
    assert metric(a, "gateway_fleet_lease_remaining_seconds") == 0
    assert metric(a, "gateway_fleet_store_errors_total") > 0
    store.thaw()
    until(lambda: not shown(a)["unconfirmed"], "it is confirmed")
    until(lambda: metric(a, "gateway_fleet_stops_unconfirmed") == 0, "the metric says so")


def test_metrics_and_events_tell_of_the_fleet(pair: Pair) -> None:
    store, a, b = pair

    def leading() -> dict[str, float]:
        return {name: metric(each, "gateway_fleet_leader", model="flawed") for name, each in (("a", a), ("b", b))}

    until(lambda: sorted(leading().values()) == [0, 1], "one leads")
    leads = leading()
    for each in (a, b):
        assert [one["leader"] for one in shown(each)["leaders"]] == [max(leads, key=leads.__getitem__)]
    assert (metric(a, "gateway_fleet_open"), metric(a, "gateway_fleet_members")) == (1, 2)
    assert 0 < metric(a, "gateway_fleet_lease_remaining_seconds") <= LEASE_S
    before = metric(a, "gateway_fleet_revision_applied")
    assert send_command(a, "stop").json()["fleet"]["confirmed"]
    assert metric(a, "gateway_fleet_revision_applied") > before
    with stream(a) as response:
        told = events(response)
        _, snapshot = next(told)
        assert [one["name"] for one in snapshot["fleet"]["members"]] == ["a", "b"]
        next(data for name, data in told if name == "live" and data["fleet"]["open"])
        store.freeze()
        assert next(data for name, data in told if name == "live" and not data["fleet"]["open"])["fleet"]["why"]
