"""The tables that `gateway status` and the log print."""

from typing import Any

from rich.console import Console, RenderableType

from gateway.backends.trial import LoadResult, LoadTrial
from gateway.cli.tables import MOST_ROWS, check_table, history_text, release_table, status_text
from gateway.control.release.release_status import ReleaseStatus


def version(number: int, variant: str, **more: Any) -> dict[str, Any]:
    return {
        "version": number,
        "variant": variant,
        "outcomes": {"ok": 1234, "timeout": 2, "model_error": 1, "client_error": 0},
        "rescues": {"timeout": 3},
        "latency_p50_ms": 1.5,
        "latency_p99_ms": None,
        "accuracy": None,
        "labelled": 0,
        **more,
    }


RELEASE: dict[str, Any] = {
    "model": "digits",
    "stopped": False,
    "stop": None,
    "routes": [{"route": "pilot", "in_force_percent": 100.0}, {"route": "everyone", "in_force_percent": 5.0}],
    "versions": [version(1, "stable", accuracy=0.875, labelled=1600), version(2, "candidate")],
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


def printed(what: RenderableType) -> list[str]:
    console = Console(width=80)
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
        "version 1: 87.5% correct, of 1,600 with a truth",
        "guard errors (failures): inconclusive, evidence 10^0.5, harmful from 10^2.3",
        "guard slow (slow_requests): no data yet",
        "it takes about 4,321 requests to detect twice as many failures",
    ]


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
        printed(check_table([LoadResult(LoadTrial("digits", 2, 1), "", unbatchable_reason="[rows, 3]")]))
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
