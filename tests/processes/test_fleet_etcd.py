"""Two gateways as one fleet over a real etcd of three members, of which one or two fail."""

from collections.abc import Iterator

import pytest

from tests.control.fleet.servers import EtcdCluster, EtcdServer
from tests.processes.flawed import release, until
from tests.processes.test_fleet import Pair, ask, assert_closed, is_open, resume, stop, two, until_open

pytestmark = pytest.mark.slow
Rig = tuple[EtcdCluster, Pair]


@pytest.fixture(scope="module", name="rig")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("cluster")
    with EtcdCluster(folder / "etcd") as cluster, two(folder, cluster) as pair:
        yield cluster, pair


def leader(cluster: EtcdCluster) -> EtcdServer:
    (found,) = [member for member in cluster.members if member.leads()]
    return found


@pytest.mark.parametrize("who, failure", [("leader", "killed"), ("endpoint", "suspended")])
def test_stop_holds_on_both_hosts_though_a_member_fails(rig: Rig, who: str, failure: str) -> None:
    """The one that leads, and the one that the hosts ask first."""
    cluster, pair = rig
    until_open(*pair)
    member = leader(cluster) if who == "leader" else cluster.members[0]
    member.kill() if failure == "killed" else member.freeze()
    try:
        until(lambda: stop(pair[0])["confirmed"], "a stop that both confirm")
        assert_closed(*pair)
        resume(pair[1])
        until_open(*pair)
    finally:
        member.start() if failure == "killed" else member.thaw()
    until_open(*pair)


def test_without_a_quorum_candidates_close_and_a_stop_holds_once_it_is_back(rig: Rig) -> None:
    cluster, pair = rig
    a, b = pair
    until_open(*pair)
    lost = cluster.members[:2]
    for member in lost:
        member.freeze()
    try:
        until(lambda: not is_open(a) and not is_open(b), "the end of both leases")
        assert not stop(a)["confirmed"]
        assert {ask(running) for running in pair for _ in range(20)} == {"stable"}
    finally:
        for member in lost:
            member.thaw()
    until(lambda: bool(release(b)["stopped"]), "the other host learns of the stop")
    assert_closed(*pair)
    resume(b)
    until_open(*pair)
