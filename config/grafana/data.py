"""The dashboard Data."""

from typing import Final

from expressions import mean_outcome, rate
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import MODEL, Query, bars, choice, lines, number, page, window

OUTCOME: Final = choice("outcome", 'label_values(gateway_outcomes_total{model="$model"}, outcome)')


def data() -> Dashboard:
    """Build the dashboard Data: feedback, outcomes, drift between both versions' answers, and records."""
    of, over = 'model="$model"', "$window"
    verdicts = rate("gateway_feedback_total", f'{of}, verdict=~"correct|wrong"', "version", over)
    right = rate("gateway_feedback_total", f'{of}, verdict="correct"', "version", over)
    mirrored = rate("gateway_mirror_total", f'{of}, result=~"agree|disagree"', "model", over)
    apart = rate("gateway_mirror_total", f'{of}, result="disagree"', "model", over)
    chosen, both = f'{of}, variant=~"stable|candidate", outcome="$outcome"', "variant, version"
    truths = rate("gateway_class_truths_total", of, "version, class", over)
    recalled = rate("gateway_class_truths_total", f'{of}, verdict="correct"', "version, class", over)
    stable, candidate = _classes("stable"), _classes("candidate")
    # A class that only one version has predicted counts with its full share.
    distance = f"0.5 * sum(abs(({candidate} - on (class) {stable}) or on (class) {candidate} or on (class) {stable}))"
    return page(
        "Data",
        "canary-gateway-data",
        "Feedback, accuracy and other outcomes, drift between both versions' answers, and the records.",
        [MODEL, OUTCOME, window("15m", "1h", "6h", "1d")],
        {
            "Feedback": [
                lines(
                    "Feedback by verdict",
                    "ops",
                    Query(rate("gateway_feedback_total", of, "verdict"), "{{verdict}}"),
                    look="stacked",
                    says="measured: a truth that answers are more or less far from, such as a number. unlabelled: a "
                    "reward or metrics without a truth. unknown: a truth that cannot be compared with the prediction.",
                ),
                lines(
                    "Accuracy of each version",
                    "percentunit",
                    Query(f"{right} / {verdicts}", "version {{version}}"),
                    says="correct / (correct + wrong), over the window chosen above.",
                ),
                lines(
                    "Answered and judged",
                    "percentunit",
                    Query(
                        f"{verdicts} / {rate('gateway_predictions_total', of, 'version', over)}", "version {{version}}"
                    ),
                    says="The share of answers for which feedback gave a truth.",
                ),
            ],
            "Outcomes": [
                lines(
                    "Mean $outcome of each version",
                    "none",
                    Query(mean_outcome(chosen, both, over), "{{variant}} {{version}}"),
                    says="wrong: the share of wrong answers. loss: the absolute error of a number, 1 - NDCG of a "
                    "ranking. squared_error: its root is the RMSE. error: the bias. metrics.NAME: a business metric.",
                ),
                lines(
                    "Mean $outcome of each route",
                    "none",
                    Query(mean_outcome(chosen, f"{both}, route", over), "{{variant}} {{version}}: {{route}}"),
                ),
                lines(
                    "Values of $outcome",
                    "ops",
                    Query(rate("gateway_outcomes_total", chosen, both), "{{variant}} {{version}}"),
                    says="Predictions whose feedback gave this outcome, by the time when it came. If it comes more "
                    "often for one version, ask why before you compare.",
                ),
                lines(
                    "Recall of each class",
                    "percentunit",
                    Query(f"{recalled} / {truths}", "version {{version}}: {{class}}"),
                    says="Of the rows whose true class this is, the share that was predicted as this class.",
                    width=24,
                ),
            ],
            "Drift": [
                bars("Stable predicts", "percentunit", Query(stable, "{{class}}"), color="blue"),
                bars("The candidate predicts", "percentunit", Query(candidate, "{{class}}")),
                number(
                    "Distance",
                    "percentunit",
                    Query(distance),
                    says="Total variation distance between the distributions of predicted classes.",
                ),
                number(
                    "Disagreement",
                    "percentunit",
                    Query(f"{apart} / {mirrored}"),
                    says="The share of mirrored requests, which both versions answered, with different answers.",
                ),
                lines(
                    "Distance between what both predict",
                    "percentunit",
                    Query(distance, "distance"),
                    says="With few requests it is large by chance; the guard on predicted_class allows for that.",
                ),
                lines(
                    "Disagreement on mirrored requests",
                    "percentunit",
                    Query(f"{apart} / {mirrored}", "disagreement"),
                ),
                lines(
                    "Mirrored requests",
                    "ops",
                    Query(rate("gateway_mirror_total", of, "result"), "{{result}}"),
                    look="stacked",
                    says="failed: the candidate raised or timed out. dropped: there was no capacity for the copy.",
                ),
            ],
            "Records, of all models": [
                lines(
                    "Written",
                    "ops",
                    Query(rate("gateway_records_written_total", "", "kind"), "{{kind}}"),
                    width=12,
                ),
                lines(
                    "Lost",
                    "ops",
                    Query(rate("gateway_records_dropped_total", "", "kind, reason"), "{{kind}}: {{reason}}"),
                    says="Predictions are answered nevertheless; data sets will have a gap.",
                    width=12,
                ),
            ],
        },
    )


def _classes(variant: str) -> str:
    """The share of each class among the predictions of the version that is now stable, or the candidate."""
    labels = f'model="$model", variant="{variant}"'
    serving = f"({rate('gateway_predictions_total', labels, 'version', '$window')} > 0)"
    counts = rate("gateway_predicted_class_total", 'model="$model"', "version, class", "$window")
    mine = f"({counts} and on (version) {serving})"
    return f"(sum by (class) {mine} / scalar(sum({mine})))"
