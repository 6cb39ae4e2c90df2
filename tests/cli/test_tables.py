"""The tables that `gateway status` and the log print."""

from typing import Any

from rich.console import Console, RenderableType

from gateway.backends.measurable import Measurable
from gateway.backends.trial import LoadResult, LoadTrial
from gateway.cli.outcome_text import effects_table, known_text
from gateway.cli.tables import MOST_ROWS, check_table, history_text, prediction_lines, release_table, status_text
from gateway.control.release.release_status import ReleaseStatus
from gateway.settings.model import Kind


def version(number: int, variant: str, **more: Any) -> dict[str, Any]:
    return {
        "version": number,
        "variant": variant,
        "outcomes": {"ok": 1234, "timeout": 2, "model_error": 1, "client_error": 0},
        "rescues": {"timeout": 3},
        "latency_p50_ms": 1.5,
        "latency_p99_ms": None,
        "measures": [],
        "classes": [],
        **more,
    }


def measured(label: str, value: float, count: int, form: str = "number") -> dict[str, Any]:
    return {"label": label, "value": value, "count": count, "form": form}


ACCURACY = measured("accuracy", 0.875, 1600, "share")
RELEASE: dict[str, Any] = {
    "model": "digits",
    "stopped": False,
    "stop": None,
    "routes": [{"route": "pilot", "in_force_percent": 100.0}, {"route": "everyone", "in_force_percent": 5.0}],
    "versions": [version(1, "stable", measures=[ACCURACY]), version(2, "candidate")],
    "ramp": {
        "stage": "ramping",
        "weight_percent": 5.0,
        "weights": [5.0, 25.0],
        "blocked_on": "the interval to end, in 9 s",
    },
    "guards": [
        {"name": "errors", "metric": "failures", "verdict": "inconclusive", "log10_e": 0.52, "threshold_log10": 2.3},
        {"name": "slow", "metric": "slow_requests", "verdict": "no-data", "log10_e": None, "threshold_log10": 2.3},
    ],
    "forecast": {"requests_to_detect_doubling": 4321.4},
}


def status_lines(release: dict[str, Any]) -> list[str]:
    return printed(status_text(release))


def printed(what: RenderableType, width: int = 80) -> list[str]:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(what)
    return [line.strip() for line in capture.get().splitlines()]


def test_status_shows_ramp_guards_and_accuracy() -> None:
    lines = status_lines(RELEASE)
    assert lines[0] == "digits: running"
    assert [cell.strip() for cell in lines[4].split("│")[1:-1]] == ["1", "stable", "1,234", "3", "3", "1.5", "-"]
    assert lines[7:-1] == [
        "to the candidate: pilot 100%, everyone 5%",
        "ramp: ramping at 5% of 5, 25; waiting for the interval to end, in 9 s",
        "version 1: accuracy 87.5% (n=1,600)",
        "version 2: no feedback yet",
        "guard errors (failures): inconclusive, evidence 10^0.5, harmful from 10^2.3",
        "guard slow (slow_requests): no data yet",
        "it takes about 4,321 requests to detect twice as many failures",
    ]


def test_status_says_that_sticky_customers_make_it_more() -> None:
    forecast = {"requests_to_detect_doubling": 4321.4, "at_least": True}
    said = "it takes at least 4,321 requests to detect twice as many failures: a sticky customer counts once"
    assert said in " ".join(status_lines({**RELEASE, "forecast": forecast}))


def test_status_names_the_measures_of_each_kind_of_prediction() -> None:
    regression = [measured("MAE", 41.2, 812), measured("RMSE", 50.04, 812), measured("revenue", 12345.6, 40)]
    recalls = [{"name": "cat", "rows": 50, "recall": 0.62}, {"name": "dog", "rows": 9, "recall": 0.1}]
    recalls += [{"name": "cow", "rows": 20, "recall": 1.0}]
    lines = status_lines({**RELEASE, "versions": [version(1, "stable", measures=regression, classes=recalls)]})
    assert "version 1: MAE 41.2, RMSE 50 (n=812); revenue 12,346 (n=40)" in lines
    assert "version 1: lowest recall: cat 62.0% (n=50)" in lines, "of the others there is too little, or nothing wrong"


def test_status_without_feedback_says_so_once() -> None:
    lines = status_lines({**RELEASE, "versions": [version(1, "stable"), version(2, "candidate")]})
    assert [line for line in lines if "feedback" in line] == ["no feedback yet"]


def test_status_says_which_host_follows_the_registry() -> None:
    registry = {
        "registered": "d",
        "champion": 1,
        "challenger": None,
        "note": None,
        "elsewhere": "b follows the registry",
    }
    line = "registry d: champion 1, challenger -"
    assert status_lines({**RELEASE, "registry": registry})[-2] == f"{line}; b follows the registry"
    assert status_lines({**RELEASE, "registry": {**registry, "elsewhere": None}})[-2] == line
    del registry["elsewhere"]  # as the release before answers
    assert status_lines({**RELEASE, "registry": registry})[-2] == line


def effect(label: str, value: float | None, route: str | None = None, **more: Any) -> dict[str, Any]:
    found = {
        "metric": label, "label": label, "form": "number", "route": route, "verdict": "better", "words": "better",
        "effect": value, "low": None, "high": None, "candidate": 9.5, "stable": 8.0, "candidate_units": 1200,
        "stable_units": 1300,
    }  # fmt: skip
    return {**found, **more}


def cells(lines: list[str]) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_status_answers_whether_the_candidate_is_better() -> None:
    accuracy = effect("accuracy", 0.0123, form="share", low=-0.01, high=0.03, words="wait")
    accuracy |= {"stable": 0.8, "candidate": 0.95}
    revenue = effect("revenue", 1.5, low=1.25, high=1.75, candidate=None)
    failures = effect("failures", 0.5, form="ratio", low=-0.25, high=999, candidate=None, stable=None, words="wait")
    shown = cells(printed(status_text({**RELEASE, "effects": [accuracy, revenue, failures]}), 200))
    assert shown[2:] == [
        ["accuracy", "80.0% (n=1,300)", "95.0% (n=1,200)", "+1.23 points", "-1.00 to +3.00 points", "wait"],
        ["revenue", "8 (n=1,300)", "-", "+1.5", "+1.25 to +1.75", "better"],
        ["failures", "n=1,300", "n=1,200", "1.5 ×", "0.75 × to 1,000 × or more", "wait"],
    ]


def test_differences_say_that_they_are_not_those_of_the_means_where_weights_differ() -> None:
    release = {**RELEASE, "effects": [effect("revenue", 1.0)], "candidate": 2}
    for shown in (status_text(release), known_text(release)):
        assert "not the difference of the two means" in " ".join(printed(shown, 300))
    alone: dict[str, Any] = {**release, "routes": RELEASE["routes"][:1]}
    del alone["ramp"]
    for shown in (status_text(alone), known_text(alone)):
        assert "difference of the two means" not in " ".join(printed(shown, 300))


def test_wrapped_lines_of_a_release_are_indented_as_their_first() -> None:
    routes = [{"route": f"region-{number}", "in_force_percent": 5.0} for number in range(30)]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(status_text({**RELEASE, "routes": routes}))
    lines = capture.get().splitlines()
    begin = next(at for at, line in enumerate(lines) if "to the candidate: region-0" in line)
    assert [line[:2].isspace() and not line[2].isspace() for line in lines[begin : begin + 3]] == [True, True, True]


def test_status_shows_routes_only_where_the_difference_is_certain() -> None:
    unsure = effect("revenue", 1.5, "berlin", verdict="not known yet")
    shown = " ".join(status_lines({**RELEASE, "effects": [effect("revenue", 1.0), unsure]}))
    assert "berlin" not in shown
    many = [effect("revenue", 1.5, f"route-{number}") for number in range(30)]
    shown = " ".join(printed(effects_table([effect("revenue", 1.0), *many])))
    assert "route-19" in shown and "route-20" not in shown and "10 more on routes" in shown


def test_what_is_known_before_a_promotion_names_what_is_worse() -> None:
    release = {**RELEASE, "candidate": 2}
    assert "nothing is known of version 2 of digits" in printed(known_text(release))[0]
    worse = effect("MAE", 2.0, verdict="worse", words="worse")
    assert printed(known_text({**release, "effects": [worse]}))[-1] == "version 2 of digits is worse in MAE"


def test_names_of_metrics_and_classes_do_not_steer_the_terminal() -> None:
    hostile = "a\x1b[2J\r\x9b"
    measures, classes = [measured(hostile, 2.0, 40)], [{"name": hostile, "rows": 40, "recall": 0.5}]
    versions = [version(1, "stable", measures=measures, classes=classes)]
    effects = [effect(hostile, 2.0, verdict="worse", words="worse")]
    release = {**RELEASE, "candidate": 2, "versions": versions, "effects": effects}
    shown = "".join([*printed(status_text(release)), *printed(known_text(release))])
    assert shown.isprintable() and shown.count("a\\x1b[2J\\r\\x9b") == 5


def test_status_without_a_candidate_shows_only_versions() -> None:
    lines = status_lines({**{key: RELEASE[key] for key in ("model", "stopped", "stop")}, "routes": [], "versions": []})
    assert lines[0] == "digits: running"
    assert not any(":" in line for line in lines[1:])


def test_brackets_in_names_and_reasons_are_not_markup() -> None:
    """Names and reasons come from customers and libraries; as markup they would vanish, or make the command fail."""
    stop = {"by": "[red]acme[/] (key 0a)", "reason": "it [/b] failed"}
    lines = status_lines({**RELEASE, "stopped": True, "stop": stop})
    assert lines[0] == "digits: stopped by [red]acme[/] (key 0a): it [/b] failed"
    assert "[/a]" in "".join(printed(release_table([], {("digits", 2): "no [/a]"})))


def test_release_table_is_shortened_for_a_thousand_models() -> None:
    releases = [
        ReleaseStatus(
            model=f"m{number}",
            stable=1,
            candidate=None,
            weights_ppm={},
            configured_ppm={},
            stopped=False,
            stop=None,
            epoch=0,
            versions=(),
            progress=None,
            ramp_ppm=(),
        )
        for number in range(1000)
    ]
    lines = printed(release_table(releases, {}))
    assert len(lines) < MOST_ROWS + 10
    assert "800 more: gateway status" in " ".join(lines)
    assert "[rows, 3]" in "".join(
        printed(check_table([LoadResult(LoadTrial("digits", 2, 1), "", unbatchable_reason="[rows, 3]")]), 120)
    )


def test_client_errors_are_not_counted_as_failures_of_a_version() -> None:
    bad = version(1, "stable", outcomes={"ok": 2600, "client_error": 35})
    lines = status_lines({**RELEASE, "versions": [bad], "candidate": 2, "guards": []})
    assert [cell.strip() for cell in lines[4].split("│")[1:-1]][:4] == ["1", "stable", "2,600", "0"]
    assert "version 1: 35 invalid requests, which do not count as failures" in lines


def test_guard_without_evidence_says_so_and_drift_is_called_different() -> None:
    quiet = {
        "name": "errors",
        "metric": "failures",
        "verdict": "no-data",
        "summary": "no failures yet",
        "log10_e": None,
    }
    drift = {
        "name": "drift",
        "metric": "predicted_class",
        "verdict": "different",
        "summary": "different",
        "log10_e": 50.3,
    }
    guards = [{**guard, "threshold_log10": 2.0} for guard in (quiet, drift)]
    lines = status_lines({**RELEASE, "guards": guards, "candidate": 2})
    assert "guard errors (failures): no failures yet" in lines
    assert "guard drift (predicted_class): different, evidence 10^50.3, different from" in " ".join(lines)


def test_status_says_when_latencies_are_not_comparable() -> None:
    for alike in (True, False):
        text = " ".join(status_lines({**RELEASE, "latency_compared": alike, "candidate": 2}))
        assert ("stable may run on the event loop" in text) == (not alike)


def test_versions_that_predict_the_same_share_a_line() -> None:
    kinds = {1: "classes: a, b", 2: "classes: a, b", 3: "regression on y"}
    verdicts = [
        LoadResult(LoadTrial("m", version, 1), "", measurable=[Measurable(Kind.NONE, described=described)])
        for version, described in kinds.items()
    ]
    refused = LoadResult(LoadTrial("n", 1, 1), "broken")
    assert prediction_lines([*verdicts, refused]) == [
        "models.m: versions 1 and 2: classes: a, b",
        "models.m: version 3: regression on y",
    ]


def test_history_wraps_reasons_and_never_cuts_them() -> None:
    words = [f"word{number}" for number in range(60)]
    link = "https://tickets.example/" + "a" * 100
    decision: Any = {
        "time_ns": 1_790_000_000 * 10**9, "model": "m" * 90, "candidate": 2, "action": "undo-promote",
        "by": "anna [b] (key 0a1b2c3d)", "reason": " ".join([*words, link]), "evidence": {"from": "127.0.0.1"},
    }  # fmt: skip
    lines = printed(history_text([decision]))
    assert max(map(len, lines)) <= 80
    said = "".join(lines)
    assert all(word in said for word in [*words, link, "m" * 90, "undo-promote"])
    assert "by anna [b] (key 0a1b2c3d) from 127.0.0.1" in " ".join(lines)
    assert printed(history_text([])) == ["no decisions yet"]
