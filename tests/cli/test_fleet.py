"""What `gateway status`, `stop` and `resume` print about a fleet."""

from typing import Any

import pytest

from gateway.cli.fleet import fleet_text, resumed_text, spread_text, stopped_text
from tests.cli.test_tables import printed


def member(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "here": False, "up_to_date": True, "hold": False, "silent_s": 0.2, **more}


FLEET: dict[str, Any] = {
    "name": "production",
    "store": "redis://10.0.0.5:6379/0",
    "open": True,
    "why": "",
    "lease_s": 3.0,
    "members": [member("a:8000", here=True), member("b:8000", up_to_date=False), member("[c]", hold=True, silent_s=61)],
    "unconfirmed": [],
    "leaders": [{"model": "digits", "leader": "b:8000", "here": False, "why": ""}],
}


def rows(fleet: dict[str, Any]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed(fleet_text(fleet)) if "│" in line]


def lines(fleet: dict[str, Any]) -> list[str]:
    return [line for line in printed(fleet_text(fleet))[1:] if line and line[0] not in "┏┃┡│└"]


def decision(**fleet: Any) -> dict[str, Any]:
    return {"candidate": 2, "model": "digits", "evidence": {}, "fleet": fleet or None}


def test_status_lists_the_hosts() -> None:
    assert printed(fleet_text(FLEET))[0] == "Fleet production, redis://10.0.0.5:6379/0"
    assert rows(FLEET) == [
        ["a:8000 (this one)", "all", "close", "now"],
        ["b:8000 (leads digits)", "not all yet", "close", "now"],
        ["[c]", "all", "hold", "silent for 61 s"],
    ]
    assert lines(FLEET) == ["candidates get traffic on this host; its lease is 3 s"]


def test_status_says_why_candidates_are_closed_and_which_stops_are_not_confirmed() -> None:
    closed = {**FLEET, "open": False, "why": "the store does not answer: [Errno 111]", "unconfirmed": ["digits/2"]}
    assert lines({**closed, "members": []}) == [
        "candidates get no traffic on this host: the store does not answer: [Errno 111]",
        "the stop of version 2 of digits is not confirmed on all hosts",
    ]


def test_status_says_which_releases_have_no_leader_and_where_this_host_takes_no_part() -> None:
    leaders = [
        {"model": "digits", "leader": "b:8000", "here": False, "why": "other settings"},
        {"model": "[t]", "leader": None, "here": False, "why": ""},
    ]
    assert lines({**FLEET, "leaders": leaders})[1:] == [
        "digits: other settings",
        "[t]: no host runs its ramp and guards yet",
    ]


def test_status_of_an_open_host_says_what_is_wrong() -> None:
    (line,) = lines({**FLEET, "why": "the store does not answer: no route"})
    assert line == "candidates get traffic on this host, but: the store does not answer: no route"


@pytest.mark.parametrize(
    ("known", "said", "confirmed"),
    [
        ({}, "is stopped", True),
        ({"confirmed": True, "hosts": 3, "ms": 8.3}, "is stopped on 3 hosts, confirmed after 8 ms", True),
        ({"confirmed": True, "hosts": 1, "ms": 1.2}, "is stopped on 1 host, confirmed after 1 ms", True),
        (
            {
                "confirmed": False,
                "hosts": 1,
                "ms": 4000.0,
                "missing": [],
                "reason": "the fleet's store has not taken it",
            },
            "is stopped here only: unconfirmed; the fleet's store has not taken it. "
            "This host goes on trying: see gateway status",
            False,
        ),
        (
            {"confirmed": False, "hosts": 1, "ms": 4000.0, "missing": ["b", "c"], "reason": "b, c have not"},
            "is stopped, but unconfirmed on b, c; b, c have not. This host goes on trying: see gateway status",
            False,
        ),
    ],
)
def test_stop_says_on_how_many_hosts_it_holds(known: dict[str, Any], said: str, confirmed: bool) -> None:
    assert stopped_text(decision(**known)) == (f"version 2 of digits {said}", confirmed)


def test_stop_of_a_gateway_of_the_release_before_is_one_without_a_fleet() -> None:
    before = {key: value for key, value in decision().items() if key != "fleet"}
    assert stopped_text(before) == ("version 2 of digits is stopped", True)


def test_resume_says_that_it_is_one_of_the_fleet() -> None:
    alone = decision()
    assert resumed_text(alone) == "version 2 of digits receives traffic again"
    assert resumed_text({**alone, "evidence": {"fleet_epoch": 2}}).endswith("receives traffic again on all hosts")


def test_status_says_where_routing_files_differ_and_which_edits_are_not_made() -> None:
    drift = [{"host": "[b]", "models": list("abcdefghijk")}]
    routing = {"drift": drift, "waiting": [{"model": "[m]", "why": "edited by hand"}], "problem": "no answer"}
    assert lines({**FLEET, "routing": routing, "keys_problem": "no space"})[1:] == [
        "[b] has other entries in its routing file: a, b, c, d, e, f, g, h, i, j, …",
        "[m]: an edit is not made here: edited by hand",
        "edits are not exchanged with other hosts: no answer",
        "keys of prediction ids are not exchanged with other hosts: no space",
    ]


@pytest.mark.parametrize(
    ("applied", "missing", "problem", "complete", "text"),
    [
        (2, [], None, True, "in force on 2 hosts"),
        (1, [{"host": "b", "why": "edited by hand"}], None, False, "in force on 1 of 2 hosts\n  b: edited by hand"),
        (1, [], "no answer", False,
         "in force here only; the other hosts do not know of it: no answer. This host goes on trying"),
    ],
)  # fmt: skip
def test_edit_says_on_which_hosts_it_is_in_force(
    applied: int, missing: list[dict[str, str]], problem: str | None, complete: bool, text: str
) -> None:
    spread = {"hosts": 2, "applied": applied, "missing": missing, "problem": problem}
    assert spread_text(spread) == (text, complete)
