"""The values of dashboard queries on made-up series with known results, computed by promtool."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.expressions import of_dashboard
from tests.monitoring.prometheus import promtool

ONCE_A_SECOND = "0+{}x120"
CLASSES = {"1": {"a": 60, "b": 40}, "2": {"a": 30, "b": 60, "c": 10}}  # predictions a second, by version
CANDIDATE = 'model="digits", version="2", variant="candidate"'
SERIES = {
    'gateway_predictions_total{model="digits", version="1", variant="stable", outcome="ok"}': 90,
    'gateway_predictions_total{model="digits", version="1", variant="stable", outcome="client_error"}': 10,
    'gateway_predictions_total{model="digits", version="2", variant="candidate", outcome="ok"}': 90,
    'gateway_predictions_total{model="digits", version="2", variant="candidate", outcome="timeout"}': 10,
    'gateway_predictions_total{model="digits", version="2", variant="pinned", outcome="ok"}': 1000,
    'gateway_predictions_total{model="another", version="1", variant="stable", outcome="timeout"}': 7,
    'gateway_feedback_total{model="digits", version="1", verdict="correct"}': 9,
    'gateway_feedback_total{model="digits", version="1", verdict="wrong"}': 1,
    'gateway_feedback_total{model="digits", version="1", verdict="unknown"}': 30,
    'gateway_feedback_total{model="digits", version="2", verdict="correct"}': 6,
    'gateway_feedback_total{model="digits", version="2", verdict="wrong"}': 4,
    **{
        f'gateway_{name}{{{CANDIDATE}, route="{route}", outcome="wrong"{sign}}}': value
        for route, values in {"everyone": (10, 4, 2), "staff": (30, 5, 0)}.items()
        for name, sign, value in (
            ("outcomes_total", "", values[0]),
            ("outcome_sum_total", ', sign="positive"', values[1]),
            ("outcome_sum_total", ', sign="negative"', values[2]),
        )
    },
    f'gateway_outcomes_total{{{CANDIDATE}, route="staff", outcome="reward"}}': 70,
    'gateway_class_truths_total{model="digits", version="1", class="a", verdict="correct"}': 3,
    'gateway_class_truths_total{model="digits", version="1", class="a", verdict="wrong"}': 1,
    'gateway_class_truths_total{model="digits", version="1", class="b", verdict="correct"}': 2,
    'gateway_class_truths_total{model="digits", version="1", class="b", verdict="wrong"}': 0,
    'gateway_mirror_total{model="digits", result="agree"}': 30,
    'gateway_mirror_total{model="digits", result="disagree"}': 10,
    'gateway_mirror_total{model="digits", result="dropped"}': 99,
    'gateway_rescues_total{model="digits", reason="timeout"}': 10,
    'gateway_batch_size_sum{model="digits", version="1"}': 30,
    'gateway_batch_size_count{model="digits", version="1"}': 10,
    **{
        f'gateway_predicted_class_total{{model="digits", version="{version}", class="{name}"}}': count
        for version, counts in CLASSES.items()
        for name, count in counts.items()
    },
}
STATES = {
    'gateway_release_stage{model="digits", stage="ramping"}': 1,
    'gateway_release_stage{model="digits", stage="paused"}': 0,
    'gateway_guard_evidence_log10{model="digits", guard="errors"}': 1.5,
    'gateway_guard_threshold_log10{model="digits"}': 2,
}
EXPECTED: list[tuple[str, str, dict[str, float]]] = [
    ("release.json", "Stage A", {'{stage="ramping"}': 1}),
    ("release.json", "Answered by the candidate A", {'{model="digits"}': 0.5}),
    ("release.json", "Side by side B", {'{version="2", variant="candidate"}': 0.1}),
    ("release.json", "Failures A", {'{version="2", variant="candidate"}': 0.1}),
    ("release.json", "Rescued by stable A", {'{reason="timeout"}': 10}),
    (
        "release.json",
        "Evidence against the candidate, and the line at which a guard acts A",
        {'{guard="errors"}': 1.5},
    ),
    ("release.json", "Evidence against the candidate, and the line at which a guard acts B", {"{}": 2}),
    ("service.json", "Requests A", {"{}": 1207}),
    ("service.json", "Failures by outcome A", {'{outcome="timeout"}': 17}),
    ("service.json", "Rows in a batch, mean A", {'{model="digits"}': 3}),
    ("data.json", "Accuracy of each version A", {'{version="1"}': 0.9, '{version="2"}': 0.6}),
    ("data.json", "Answered and judged A", {'{version="1"}': 0.1, '{version="2"}': 10 / 1100}),
    ("data.json", "Mean $outcome of each version A", {'{variant="candidate", version="2"}': 7 / 40}),
    (
        "data.json",
        "Mean $outcome of each route A",
        {
            '{variant="candidate", version="2", route="everyone"}': 0.2,
            '{variant="candidate", version="2", route="staff"}': 5 / 30,
        },
    ),
    ("data.json", "Values of $outcome A", {'{variant="candidate", version="2"}': 40}),
    ("data.json", "Recall of each class A", {'{version="1", class="a"}': 0.75, '{version="1", class="b"}': 1}),
    ("data.json", "Stable predicts A", {'{class="a"}': 0.6, '{class="b"}': 0.4}),
    ("data.json", "The candidate predicts A", {'{class="a"}': 0.3, '{class="b"}': 0.6, '{class="c"}': 0.1}),
    ("data.json", "Distance A", {"{}": 0.3}),
    ("data.json", "Distance between what both predict A", {"{}": 0.3}),
    ("data.json", "Disagreement A", {'{model="digits"}': 0.25}),
]


def judged(tmp_path: Path, expr: str, expected: dict[str, float]) -> Any:
    """promtool's verdict on an expression, after two minutes of the series above. Values to nine places."""
    series = [
        *({"series": name, "values": ONCE_A_SECOND.format(step)} for name, step in SERIES.items()),
        *({"series": name, "values": f"{value}x120"} for name, value in STATES.items()),
    ]
    samples = [{"labels": labels, "value": round(value * 1e9)} for labels, value in expected.items()]
    check = {"expr": f"round(1e9 * ({expr}))", "eval_time": "120s", "exp_samples": samples}
    document = {
        "evaluation_interval": "1s",
        "tests": [{"interval": "1s", "input_series": series, "promql_expr_test": [check]}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    return promtool("test", "rules", str(tmp_path / "test.yml"))


@pytest.mark.parametrize(("file", "where", "expected"), EXPECTED, ids=[where for _, where, _ in EXPECTED])
def test_dashboard_query_gives_the_expected_value(
    file: str, where: str, expected: dict[str, float], tmp_path: Path
) -> None:
    (expr,) = {expr for found, expr in of_dashboard(file) if found == where}
    found = judged(tmp_path, expr, expected)
    assert found.returncode == 0, found.stderr


def test_wrong_expected_value_is_detected(tmp_path: Path) -> None:
    assert judged(tmp_path, dict(of_dashboard("data.json"))["Distance A"], {"{}": 0.31}).returncode != 0
