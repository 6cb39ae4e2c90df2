"""Routing files that are valid but cannot be meant get a warning with its path; meaningful ones get none."""

from pathlib import Path

import pytest

from gateway.settings.load import load_routing, parse
from gateway.settings.routing import RoutingSettings
from gateway.settings.warnings import MAX_COMPARED, routing_warnings
from gateway.shm.tally import UNSTRATIFIED
from tests.settings.test_load import WHOLE_ROUTING

ROOT = Path(__file__).parents[2]


def warnings(release: str) -> list[str]:
    return routing_warnings(parse(f"models: {{m: {{{release}}}}}", RoutingSettings, ""))


def of_routes(routes: str, more: str = "") -> list[str]:
    return warnings(f"stable: 1, candidate: 2, split: {{routes: [{routes}]}}{more}")


@pytest.mark.parametrize("file", sorted(ROOT.glob("config/**/routing.yaml")), ids=lambda file: file.parent.name)
def test_shipped_files_have_no_warnings(file: Path) -> None:
    assert routing_warnings(load_routing(file)) == []


def test_complete_routing_file_has_no_warnings() -> None:
    assert routing_warnings(parse(WHOLE_ROUTING, RoutingSettings, "")) == []


ANY = "{name: any, weight: 5}"
ORDER = [  # routes; where the warning stands; what it holds
    (f"{ANY}, {{name: b, match: [{{customer: a}}], weight: 5}}", "routes[0]", "'b'; put 'any' last"),
    (f"{ANY}, {{name: b, weight: 5}}", "routes[0]", "'any' matches every request"),
    ("{name: any, match: [{}], weight: 5}, {name: b, weight: 5}", "routes[0]", "matches every request"),
    ("{name: any, match: [], weight: 1}, {name: b, weight: 5}", "routes[0]", "matches every request"),
    (
        "{name: any, match: [{customer: a}, {customer: {not: a}}], weight: 5}, {name: b, weight: 5}",
        "routes[0]",
        "matches every request",
    ),
    *(
        (
            f"{{name: a, match: [{wide}], weight: 5}}, {{name: b, match: [{narrow}], weight: 5}}",
            "routes[1]",
            "'a' before it",
        )
        for wide, narrow in [
            ("{customer: x}", "{customer: x}"),
            ("{customer: x}", "{customer: x, modality: image}"),
            ("{customer: {in: [x, y]}}", "{customer: x}"),
            ("{customer: {in: [x, y]}}", "{customer: {in: [y, x]}}"),
            ("{customer: {prefix: x}}", "{customer: {in: [x1, x2]}}"),
            ("{customer: {prefix: x}}", "{customer: {prefix: xy}}"),
            ("{customer: {suffix: x}}", "{customer: {suffix: yx}}"),
            ("{customer: {regex: 'x.*'}}", "{customer: xyz}"),
            ("{customer: {regex: 'x.*'}}", "{customer: {regex: 'x.*', suffix: y}}"),
            ("{customer: {not: x}}", "{customer: y}"),
            ("{customer: {not: x}}", "{customer: {not: {in: [x, y]}}}"),
            ("{customer: x}, {customer: y}", "{customer: {in: [x, y]}}"),
            ("{headers: {X-A: 1}}", "{headers: {x-a: 1, x-b: 2}}"),
            ("{parameters: {tier: 1}}", "{parameters: {tier: 1}}"),
        ]
    ),
    (
        "{name: a, match: [{customer: x}], weight: 5}, {name: b, match: [{customer: y}], weight: 5},"
        " {name: c, match: [{customer: {in: [x, y]}}], weight: 5}",
        "routes[2]",
        "'a' and 'b' before it match all",
    ),
    ("{name: a, match: [{customer: {exact: a, not: a}}], weight: 5}", "routes[0].match[0].customer", "no value fits"),
    ("{name: a, match: [{customer: {in: [a], prefix: b}}], weight: 5}", "routes[0].match[0].customer", "no value fits"),
]


@pytest.mark.parametrize(("routes", "path", "says"), ORDER)
def test_route_that_never_matches_is_warned_of(routes: str, path: str, says: str) -> None:
    (warning,) = of_routes(routes)
    assert warning.startswith(f"models.m.split.{path}: ")
    assert says in warning


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{customer: x}", "{customer: y}"),
        ("{customer: x}", "{customer: {in: [x, y]}}"),
        ("{customer: x, modality: image}", "{customer: x}"),
        ("{customer: {prefix: xy}}", "{customer: {prefix: x}}"),
        ("{customer: {in: [x]}}", "{customer: {prefix: x}}"),
        ("{customer: {not: x}}", "{customer: x}"),
        ("{customer: {not: {in: [x, y]}}}", "{customer: {not: x}}"),
        ("{headers: {a: x}}", "{headers: {b: x}}"),
        ("{headers: {a: x}}", "{parameters: {a: x}}"),
        ("{customer: 0123}", "{customer: 123}"),
        ("{customer: 1.10}", "{customer: 1.1}"),
        ("{customer: {prefix: ''}}", "{customer: {not: x}}"),
    ],
)
def test_route_that_can_match_is_not_warned_of(first: str, second: str) -> None:
    assert (
        of_routes(f"{{name: a, match: [{first}], weight: 5}}, {{name: b, match: [{second}], weight: 5}}, {ANY}") == []
    )


TRAFFIC = [
    ("stable: 1, candidate: 2", ".candidate: version 2 gets no traffic: there is no route"),
    ("stable: 1, candidate: 2, split: {}", ".candidate: version 2 gets no traffic"),
    ("stable: 1, candidate: 2, split: {routes: []}", ".candidate: version 2 gets no traffic"),
    ("stable: 1, candidate: 2, mirror: {weight: 0}", ".candidate: version 2 gets no traffic"),
    ("stable: 1, candidate: 2, split: {routes: [{name: a, weight: 0}]}", ".candidate: version 2 gets no traffic"),
    ("stable: 1, split: {}", ".split: it has no effect without a candidate"),
    ("stable: 1, candidate: 2, ramp: {}, split: {routes: [{name: a, weight: 5}]}", ".ramp: no route follows it"),
]


@pytest.mark.parametrize(("release", "says"), TRAFFIC)
def test_candidate_without_traffic_and_ramp_without_a_route_are_warned_of(release: str, says: str) -> None:
    (warning,) = warnings(release)
    assert warning.startswith(f"models.m{says}")


def test_candidate_reached_only_by_an_unreachable_route_is_warned_of() -> None:
    late, nothing = of_routes("{name: any, weight: 0}, {name: b, weight: 5}")
    assert "'any' matches every request" in late
    assert "no route that a request can reach has a weight above 0" in nothing


@pytest.mark.parametrize(
    "release",
    [
        "stable: 1",
        "stable: 1, candidate: 2, mirror: {weight: 5}",
        "stable: 1, candidate: 2, mirror: {weight: 5}, split: {}",
        "stable: 1, mirror: {weight: 5}, ramp: {}, guards: {comparisons: [{name: a, metric: failures}]}",
        "stable: 1, candidate: 2, ramp: {}, split: {routes: [{name: a, weight: ramp}]}",
        "stable: 1, candidate: 2, mirror: {weight: 5}, split: {routes: [{name: a, weight: 5, while: [{metric:"
        " candidate.mirror_disagreement, below: 1%}]}]}",
    ],
)
def test_candidate_that_waits_or_is_mirrored_is_not_warned_of(release: str) -> None:
    assert warnings(release) == []


WHILE = "while: [{{metric: {0}}}]"
CONDITIONS = [
    ("candidate.error_rate, below: 1%", "never opens: it stays closed without data"),
    ("candidate.latency_p99_ms, below: 40", "never opens"),
    ("candidate.requests_per_s, above: 1", "never opens"),
    ("stable.error_rate, below: 5", "always holds: stable.error_rate is a share from 0 to 1"),
    ("stable.error_rate, above: 5", "write 5%"),
    ("stable.accuracy, above: 90", "never holds"),
    ("stable.latency_p99_ms, below: 0", "never holds"),
]


@pytest.mark.parametrize(("condition", "says"), CONDITIONS)
def test_condition_that_never_or_always_holds_is_warned_of(condition: str, says: str) -> None:
    (warning,) = of_routes(f"{{name: a, weight: 5, {WHILE.format(condition)}}}")
    assert warning.startswith("models.m.split.routes[0].while")
    assert says in warning


PILOT = "{name: pilot, match: [{customer: x}], weight: 100}"


def test_condition_on_the_candidate_needs_traffic_from_another_route() -> None:
    condition = WHILE.format("candidate.error_rate, below: 1%")
    assert of_routes(f"{PILOT}, {{name: a, weight: 5, {condition}}}") == []
    closed = f"{{name: b, match: [{{customer: y}}], weight: 5, {condition}}}"
    assert len(of_routes(f"{closed}, {{name: a, weight: 5, {condition}}}")) == 2
    assert len(of_routes(f"{{name: a, weight: 5, {condition}}}", ", mirror: {weight: 50}")) == 1
    assert of_routes(f"{{name: a, weight: 5, {WHILE.format('candidate.requests_per_s, below: 9')}}}") == []


GUARDS = [
    ("limits: [{name: l, metric: candidate.error_rate, above: 5}]", "limits[0]", "'l' never acts", "write 5%"),
    ("limits: [{name: l, metric: candidate.error_rate, above: 100%}]", "limits[0]", "never acts", "from 0 to 1"),
    ("limits: [{name: l, metric: candidate.accuracy, below: 90}]", "limits[0]", "always acts", "write 90%"),
    ("limits: [{name: l, metric: candidate.latency_p99_ms, below: 0}]", "limits[0]", "never acts", "0 or more"),
    ("limits: [{name: l, metric: candidate.error_rate, above: 5%, action: pause}]", "limits[0]", "only pauses", "stop"),
    ("comparisons: [{name: c, metric: failures, action: pause}]", "comparisons[0]", "only pauses", "stop"),
    ("comparisons: [{name: c, metric: mirror_disagreement}]", "comparisons[0]", "nothing is mirrored", "mirror"),
]


@pytest.mark.parametrize(("guards", "path", "says", "remedy"), GUARDS)
def test_guard_that_never_acts_is_warned_of(guards: str, path: str, says: str, remedy: str) -> None:
    (warning,) = of_routes(ANY, f", guards: {{{guards}}}")
    assert warning.startswith(f"models.m.guards.{path}: ")
    assert says in warning
    assert remedy in warning


@pytest.mark.parametrize("metric", ["failures", "wrong_feedback", "predicted_class", "slow_requests, threshold: 50ms"])
def test_comparison_without_randomised_traffic_is_warned_of(metric: str) -> None:
    guards = f", guards: {{comparisons: [{{name: c, metric: {metric}}}]}}"
    (warning,) = of_routes(f"{PILOT}, {{name: rest, weight: 0}}", guards)
    assert warning.startswith("models.m.guards.comparisons[0]: 'c' has no evidence")
    assert len(of_routes(f"{PILOT}, {{name: rest, weight: ramp}}", f", ramp: {{weights: [100]}}{guards}")) == 1
    assert of_routes(f"{PILOT}, {{name: rest, weight: 1}}", guards) == []
    assert of_routes("{name: rest, weight: ramp}", f", ramp: {{}}{guards}") == []


def test_routes_beyond_the_compared_ones_are_warned_of() -> None:
    assert MAX_COMPARED == UNSTRATIFIED
    routes = [f"{{name: r{number}, match: [{{customer: c{number}}}], weight: 5}}" for number in range(10)]
    guards = ", guards: {comparisons: [{name: drift, metric: predicted_class}]}"
    assert of_routes(", ".join(routes[:8]), guards) == []
    fixed = "{name: all, match: [{customer: d}], weight: 100}"
    assert of_routes(", ".join([*routes[:8], fixed]), guards) == []
    (warning,) = of_routes(", ".join(routes), guards)
    assert warning.startswith("models.m.guards.comparisons[0]: 'drift' does not compare 'r8' and 'r9': ")
    assert "put the routes that should count before" in warning
    assert of_routes(", ".join(routes), guards.replace("predicted_class", "failures")) == []


def test_long_lists_are_checked_quickly_and_reported_briefly() -> None:
    names = ", ".join(f"{{name: r{number}, match: [{{customer: c{number}}}], weight: 5}}" for number in range(60))
    (warning,) = of_routes(f"{ANY}, {names}")
    assert "and 55 more" in warning
    thousands = ", ".join(f"c{number}" for number in range(20_000))
    many = f"{{name: a, match: [{{customer: {{in: [{thousands}]}}}}], weight: 5}}"
    assert len(of_routes(f"{many}, {many.replace('name: a', 'name: b')}")) == 1
    lists = [", ".join(f"c{number}" for number in range(first, first + 50)) for first in range(0, 50_000, 50)]
    thousand = [f"{{name: r{i}, match: [{{customer: {{in: [{names}]}}}}], weight: 5}}" for i, names in enumerate(lists)]
    assert of_routes(", ".join([*thousand, "{name: z, match: [{customer: {in: [c9, c70]}}], weight: 5}"])) == [
        "models.m.split.routes[1000]: 'z' never matches: 'r0' and 'r1' before it match all that it does;"
        " put 'z' first, or remove it"
    ]
