"""Several gateways as one fleet, over a real Redis: a stop on any of them holds on all, or says that it does not."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml

from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import body, gateway, kill, metric, release, send_command, until, workers
from tests.processes.test_commands import command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
LEASE_S = 1.0
OPEN_AFTER_S = 10 * LEASE_S  # that a fleet without knowledge waits
LIMITS = {"rate": {"customers": {"acme": "100/s"}}}
KNOWN = {"fleet": "gateway", "words": {"other/1": [1, 0]}, "stops": [], "sequence": 0}


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        assert isinstance(server, RedisServer)
        yield server


class Store(Protocol):
    """Where a fleet meets."""

    @property
    def url(self) -> str: ...


def host(
    folder: Path, store: Store, name: str, *, known: bool = False, limits: Any = LIMITS, **fleet: Any
) -> GatewayProcess:
    """A gateway of the fleet, half of whose predictions go to the candidate. `known`: it remembers the fleet, and so
    opens after one lease, not after ten.
    """
    state = folder / name / "state"
    if known and not state.exists():
        state.mkdir(parents=True)
        (state / "fleet.json").write_text(json.dumps(KNOWN))
    settings = {"store": store.url, "lease": f"{LEASE_S:g}s", "host": name, **fleet}
    return gateway(folder / name, server={"workers": 1}, fleet=settings, limits=limits)


def members(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/fleet").json()["fleet"]["members"]


def shares(running: GatewayProcess) -> Any:
    """This host's part of each rate limit, and what hosts out of contact keep."""
    rates = httpx.get(f"{running.control_url}/api/fleet").json()["fleet"]["rates"]
    return rates["share"], [(one["name"], one["share"]) for one in rates["kept"]]


def ask(running: GatewayProcess) -> str:
    """Which version has answered."""
    answer = httpx.post(f"{running.url}/v2/models/flawed/infer", content=body(1.0), timeout=10)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-variant"])


def is_open(running: GatewayProcess) -> bool:
    return "candidate" in {ask(running) for _ in range(20)}


def until_open(*all_of_them: GatewayProcess) -> None:
    for running in all_of_them:
        until(lambda running=running: is_open(running), "answers from the candidate")  # type: ignore[misc]


def assert_closed(*all_of_them: GatewayProcess) -> None:
    for running in all_of_them:
        assert {ask(running) for _ in range(50)} == {"stable"}


def stop(running: GatewayProcess) -> Any:
    answer = httpx.post(f"{running.control_url}/api/releases/flawed/stop", json={"reason": "a test"}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()["fleet"]


def resume(running: GatewayProcess) -> None:
    """The store has to answer; where it was late, the resume may have been made all the same."""
    until(lambda: send_command(running, "resume").status_code == 200 or not release(running)["stopped"], "a resume")


Pair = tuple[GatewayProcess, GatewayProcess]


@contextlib.contextmanager
def two(folder: Path, store: Store, **fleet: Any) -> Iterator[Pair]:
    """Two hosts whose candidates are open."""
    with host(folder, store, "a", known=True) as a, host(folder, store, "b", known=True, **fleet) as b:
        until_open(a, b)
        yield a, b


@pytest.fixture(scope="module", name="shared")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Pair]]:
    """A store and two hosts for tests that leave them as they were, but for a stop."""
    folder = tmp_path_factory.mktemp("pair")
    with RedisServer(folder / "redis") as store, two(folder, store) as pair:
        yield store, pair


@pytest.fixture(name="pair")
def _pair(shared: tuple[RedisServer, Pair]) -> Pair:
    """Two hosts whose candidates are open."""
    _, pair = shared
    if release(pair[0])["stopped"]:
        until(lambda: send_command(pair[0], "resume").status_code == 200, "resumed")
    until_open(*pair)
    return pair


@pytest.fixture(name="pair_store")
def _pair_store(shared: tuple[RedisServer, Pair]) -> RedisServer:
    return shared[0]


def test_stop_on_one_host_is_confirmed_on_all_and_resume_opens_all(pair: Pair) -> None:
    a, b = pair
    for by, other in ((a, b), (b, a), (a, b)):
        confirmation = stop(by)
        assert_closed(a, b)
        assert (confirmation["confirmed"], confirmation["hosts"], confirmation["missing"]) == (True, 2, [])
        assert confirmation["ms"] < LEASE_S * 1e3
        assert release(other)["stop"]["reason"] == "a test"
        assert release(other)["stop"]["evidence"]["fleet_host"] == ("a" if by is a else "b")
        resume(other)
        until_open(a, b)


def test_breakers_stop_holds_on_all_hosts(pair: Pair) -> None:
    a, b = pair
    while not release(a)["stopped"]:
        httpx.post(f"{a.url}/v2/models/flawed/infer", content=body(-1.0))
    until(lambda: release(b)["stopped"], "the stop on the other host")
    assert_closed(a, b)
    assert release(b)["stop"]["by"] == release(a)["stop"]["by"] == "breaker"


def test_feedback_on_any_hosts_prediction_is_taken_by_any_host(pair: Pair) -> None:
    for by in pair:
        before = [metric(running, "gateway_feedback_total") for running in pair]
        answer = httpx.post(f"{by.url}/v2/models/flawed/infer", content=body(1.0)).json()
        feedback = {"prediction_id": answer["parameters"]["prediction_id"], "reward": 1.0}
        for running, count in zip(pair, before, strict=True):
            taken = httpx.post(f"{running.url}/v2/feedback", json=feedback)
            assert taken.json()["accepted"] == 1, taken.text
            until(lambda: metric(running, "gateway_feedback_total") == count + 1, "it is counted")  # noqa: B023
    assert httpx.get(f"{pair[0].control_url}/api/fleet").json()["fleet"]["keys_problem"] is None


def weigh(running: GatewayProcess, percent: float) -> httpx.Response:
    edit = {"route": "everyone", "percent": percent, "reason": "a test"}
    return httpx.post(f"{running.control_url}/api/releases/flawed/weight", json=edit, timeout=30)


def routing_of(running: GatewayProcess) -> Path:
    return running.config.with_name("routing.yaml")


def in_force(running: GatewayProcess) -> Any:
    (route,) = release(running)["routes"]
    return route["weight_percent"]


def weight(running: GatewayProcess) -> Any:
    """In the file, and in force."""
    (route,) = yaml.safe_load(routing_of(running).read_text())["models"]["flawed"]["split"]["routes"]
    assert in_force(running) == route["weight"]
    return route["weight"]


def drift(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/fleet").json()["fleet"]["routing"]["drift"]


def test_edit_on_one_host_is_in_force_on_all(pair: Pair) -> None:
    for percent, by, other in ((20, *pair), (50, *pair[::-1])):
        answer = weigh(by, percent).json()
        assert answer["fleet"] == {"hosts": 2, "applied": 2, "missing": [], "problem": None}
        assert weight(by) == weight(other) == percent
        decision = httpx.get(f"{other.control_url}/api/decisions").json()[0]
        assert (decision["action"], decision["reason"]) == ("weight", "a test")
        assert decision["evidence"]["fleet_host"] == ("a" if by is pair[0] else "b")


def test_two_edits_at_once_come_into_force_one_after_the_other_or_are_refused(pair: Pair) -> None:
    for turn in range(3):
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(weigh, pair, (10 + turn, 30 + turn)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes in ([200, 200], [200, 409]), [answer.text for answer in answers]
        until(lambda: in_force(pair[0]) == in_force(pair[1]), "both have the same")
        assert weight(pair[0]) == weight(pair[1])
        assert weight(pair[0]) in [10 + turn, 30 + turn]
    assert weigh(pair[0], 50).json()["fleet"]["applied"] == 2


def test_file_edited_by_hand_is_left_and_said(pair: Pair) -> None:
    a, b = pair
    before = routing_of(b).read_text()
    routing_of(b).write_text(before.replace("weight: 50", "weight: 40"))
    until(lambda: in_force(b) == 40, "the edit by hand is in force")
    until(lambda: drift(a) == [{"host": "b", "models": ["flawed"]}], "it is said")
    assert metric(a, "gateway_fleet_routing_drift") == 1
    (missing,) = weigh(a, 20).json()["fleet"]["missing"]
    assert missing["host"] == "b" and "edited by hand" in missing["why"]
    assert (weight(a), weight(b)) == (20, 40)
    assert "edited by hand" in weigh(b, 30).json()["error"]
    assert "b has other entries in its routing file: flawed" in command(a.config, "status").stdout
    routing_of(b).write_text(before)  # as before the edit that it has not made
    until(lambda: in_force(b) == 20, "it catches up")
    until(lambda: not drift(a), "no difference is said")
    assert weigh(b, 50).json()["fleet"]["applied"] == 2


def test_host_that_was_away_makes_the_edits_though_the_store_was_emptied(
    pair: Pair, pair_store: RedisServer, tmp_path: Path
) -> None:
    c = host(tmp_path, pair_store, "c", known=True)
    with c:
        assert weigh(pair[0], 20).json()["fleet"]["applied"] == 3
    assert weigh(pair[0], 30).json()["fleet"] == {"hosts": 2, "applied": 2, "missing": [], "problem": None}
    pair_store.wipe()
    assert weigh(pair[1], 50).json()["fleet"]["applied"] == 2
    with c:
        until(lambda: in_force(c) == 50, "it has caught up")
        assert weight(c) == 50


def test_store_that_does_not_answer_refuses_an_edit(pair: Pair, pair_store: RedisServer) -> None:
    pair_store.freeze()
    refused = weigh(pair[0], 20)
    assert refused.status_code == 409 and "nothing was changed" in refused.json()["error"]
    pair_store.thaw()
    assert (weight(pair[0]), weight(pair[1])) == (50, 50)
    until(lambda: weigh(pair[1], 20).status_code == 200, "what was refused stands in no one's way")
    assert weigh(pair[0], 50).json()["fleet"]["applied"] == 2


def test_candidates_close_without_the_store_and_a_stop_is_unconfirmed(pair: Pair, pair_store: RedisServer) -> None:
    a, b = pair
    pair_store.freeze()
    time.sleep(LEASE_S + 0.1)
    assert_closed(a, b)
    confirmation = stop(a)
    assert (confirmation["confirmed"], confirmation["outcome"]) == (False, "here only, unconfirmed")
    assert send_command(a, "resume").status_code == 409
    pair_store.thaw()
    until(lambda: release(b)["stopped"], "the stop on the other host")
    until(lambda: not httpx.get(f"{a.control_url}/api/fleet").json()["fleet"]["unconfirmed"], "the confirmation")
    resume(b)
    until_open(a, b)


@pytest.mark.parametrize("loss", ["flushed", "restarted"])
def test_stop_survives_the_loss_of_the_store(pair: Pair, pair_store: RedisServer, loss: str) -> None:
    a, b = pair
    assert stop(a)["confirmed"]
    if loss == "flushed":
        pair_store.wipe()
    else:
        pair_store.kill()
        pair_store.start()
    end_s = time.monotonic() + 3 * LEASE_S
    while time.monotonic() < end_s:
        assert {ask(a), ask(b)} == {"stable"}
    resume(b)
    until_open(a, b)


def test_host_that_was_killed_is_not_waited_for_once_its_lease_has_ended(tmp_path: Path, store: RedisServer) -> None:
    with two(tmp_path, store) as (a, b):
        assert b.process is not None
        b.process.kill()
        b.process.wait()
        began_s = time.monotonic()
        (silent_s,) = (member["silent_s"] for member in members(a) if member["name"] == "b")
        confirmation = stop(a)
        assert confirmation["confirmed"]
        assert time.monotonic() - began_s >= LEASE_S - silent_s
        assert confirmation["ms"] < LEASE_S * 2e3
        until(lambda: len(members(a)) == 1, "the removal of its record")
        b.__enter__()  # its workers went on meanwhile: the new process takes over
        assert_closed(a, b)
        assert release(b)["stopped"]
        until(lambda: shares(a) == shares(b) == (0.5, []), "it has taken its old shares of rate limits over")


def test_host_that_leaves_is_not_waited_for(pair: Pair, pair_store: RedisServer, tmp_path: Path) -> None:
    with host(tmp_path, pair_store, "c") as c:
        until_open(c)
    assert sorted(member["name"] for member in members(pair[0])) == ["a", "b"]
    assert stop(pair[0])["ms"] < LEASE_S * 1e3 / 2


def test_host_that_joins_knows_every_stop_before_it_opens(pair: Pair, pair_store: RedisServer, tmp_path: Path) -> None:
    a, b = pair
    assert stop(a)["confirmed"]
    with host(tmp_path, pair_store, "c") as c:
        end_s = time.monotonic() + 3 * LEASE_S
        while time.monotonic() < end_s:
            assert ask(c) == "stable"
        assert release(c)["stopped"]
        resume(c)
        until_open(a, b, c)


def test_host_that_joins_opens_after_a_lease_of_contact(pair: Pair, pair_store: RedisServer, tmp_path: Path) -> None:
    with host(tmp_path, pair_store, "c") as c:
        began_s = time.monotonic()
        until_open(c)
        assert time.monotonic() - began_s < OPEN_AFTER_S / 2  # as a host of a new fleet it would wait twice as long


def test_new_fleet_opens_after_ten_leases_of_contact(tmp_path: Path, store: RedisServer) -> None:
    began_s = time.monotonic()
    with host(tmp_path, store, "a") as a:
        until_open(a)
        assert time.monotonic() - began_s > OPEN_AFTER_S


def test_stop_made_while_alone_is_brought_to_the_fleet(pair: Pair, pair_store: RedisServer, tmp_path: Path) -> None:
    with gateway(tmp_path / "c", server={"workers": 1}) as alone:
        assert send_command(alone, "stop").json()["fleet"] is None
    with host(tmp_path, pair_store, "c") as c:
        until(
            lambda: release(pair[0])["stopped"] and release(pair[1])["stopped"], "the stop that the third host brings"
        )
        assert_closed(*pair, c)


def test_other_lease_is_refused_with_the_remedy(pair: Pair, pair_store: RedisServer, tmp_path: Path) -> None:
    with host(tmp_path, pair_store, "c", lease="2s") as c:
        time.sleep(3 * LEASE_S)
        assert_closed(c)
        said = httpx.get(f"{c.control_url}/api/fleet").json()["fleet"]["problem"]
        assert said == "fleet.lease is 2s here and 1s in the fleet: set it to that"
        until_open(pair[0])


def test_holding_host_that_does_not_answer_leaves_a_stop_unconfirmed(tmp_path: Path, store: RedisServer) -> None:
    with two(tmp_path, store, when_lost="hold") as (a, b):
        os.kill(b.pid, signal.SIGSTOP)
        try:
            confirmation = stop(a)
            assert (confirmation["confirmed"], confirmation["missing"]) == (False, ["b"])
        finally:
            os.kill(b.pid, signal.SIGCONT)
        until(lambda: release(b)["stopped"], "the stop on the holding host")
        until(lambda: not httpx.get(f"{a.control_url}/api/fleet").json()["fleet"]["unconfirmed"], "the confirmation")
        assert_closed(a, b)


def test_killed_host_keeps_its_shares_and_holds_stops_up_until_it_is_removed(
    tmp_path: Path, store: RedisServer
) -> None:
    with host(tmp_path, store, "a", known=True) as a:
        b = host(tmp_path, store, "b", known=True, when_lost="hold").__enter__()
        try:
            until(lambda: shares(a) == (0.5, []) and shares(b) == (0.5, []), "each has its half")
            until_open(a, b)
        finally:
            for pid in [b.pid, *workers(b)]:
                kill(pid)
            b.stop()
        assert not stop(a)["confirmed"]
        assert shares(a) == (0.5, [("b", 0.5)])
        removed = command(a.config, "fleet", "remove", "b", "--reason", "its machine has burnt")
        assert removed.stdout == "b is removed from the fleet: its shares of the rate limits and its membership\n"
        assert stop(a)["confirmed"]
        until(lambda: shares(a) == (1.0, []), "the other host has all")
        decisions = httpx.get(f"{a.control_url}/api/decisions").json()
        (removal,) = (decision for decision in decisions if decision["action"] == "remove")
        assert (removal["reason"], removal["evidence"]["host"]) == ("its machine has burnt", "b")
        assert "remove" in command(a.config, "history").stdout


def test_stops_are_remembered_across_a_restart_of_all_hosts_and_an_empty_store(
    tmp_path: Path, store: RedisServer
) -> None:
    with two(tmp_path, store) as (a, _):
        assert stop(a)["confirmed"]
    store.wipe()
    with host(tmp_path, store, "a") as a, host(tmp_path, store, "c") as c:
        end_s = time.monotonic() + OPEN_AFTER_S + 2 * LEASE_S
        while time.monotonic() < end_s:
            assert {ask(a), ask(c)} == {"stable"}
        assert release(c)["stopped"]
    kept = json.loads((tmp_path / "a" / "state" / "fleet.json").read_bytes())
    assert kept["words"] == {"flawed/2": [1, 1], "other/1": [1, 0]}
