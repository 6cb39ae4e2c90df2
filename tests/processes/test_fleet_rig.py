"""A fleet of real gateways in network namespaces: stops in contact, with a host cut off, and over a flush."""

import os
from collections.abc import Callable, Iterator

import pytest

from loadtests.fleet.rig.course import LONGEST_S, MORE_S, Course, Row
from loadtests.fleet.rig.cycles import Cycles
from loadtests.fleet.rig.faults import host_cut_off, store_emptied
from loadtests.fleet.rig.namespaces import why_not
from loadtests.fleet.rig.rig import HOSTS, Rig, fleet

CYCLES = 5
WHY_NOT = why_not("redis-server", "haproxy")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(WHY_NOT) and not os.environ.get("CI"), reason=WHY_NOT or "nothing is missing"),
]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    assert not WHY_NOT, WHY_NOT
    with fleet(tmp_path_factory.mktemp("fleet")) as whole:
        yield whole


def row_of(rig: Rig, fault: Callable[[Course], None], times: int = 1, limit_ms: float = 0.0) -> Row:
    """What was seen of the fault."""
    course = Course(rig, Row("", limit_ms))
    try:
        for _ in range(times):
            course.run(fault)
    finally:
        course.close()
    return course.row


def test_no_host_answers_from_the_candidate_after_a_stop_on_any_of_them(rig: Rig) -> None:
    cycles = Cycles()
    row = row_of(rig, cycles.run, CYCLES)
    assert row.met, row
    assert cycles.hosts == [HOSTS] * CYCLES


def test_stop_waits_for_the_lease_of_a_host_that_is_cut_off(rig: Rig) -> None:
    row = row_of(rig, host_cut_off, limit_ms=(LONGEST_S + MORE_S) * 1e3)
    assert row.met, row


def test_stop_outlives_the_data_of_the_store(rig: Rig) -> None:
    row = row_of(rig, store_emptied)
    assert row.met, row


def test_hosts_log_no_traceback(rig: Rig) -> None:
    assert not [host.name for host in rig.hosts if "Traceback" in host.log]
