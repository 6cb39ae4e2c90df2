"""The dashboard Release."""

from expressions import COUNTED, FAILED, QUANTILES, quantile, rate
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import MODEL, Query, bars, columns, lines, marks, number, page, words


def release() -> Dashboard:
    """Build the dashboard Release: both versions of one model, and the decisions about them."""
    of, by = 'model="$model"', "variant, version"
    split = f'{of}, variant=~"stable|candidate"'
    both = "{{variant}} {{version}}"
    requests = rate("gateway_predictions_total", split, by)
    answerable = rate("gateway_predictions_total", f"{split}, {COUNTED}", by)
    failures = f"{rate('gateway_predictions_total', f'{split}, {FAILED}', by)} / {answerable}"
    candidate = rate("gateway_predictions_total", f'{of}, variant="candidate"', "model")
    all_of_them = rate("gateway_predictions_total", split, "model")
    counted = f"sum by (action) (gateway_decisions_total{{{of}}})"
    built = page(
        "Release",
        "canary-gateway-release",
        "One model's release: the split in force, the evidence against the candidate, both versions side by side.",
        [MODEL],
        {
            "In force": [
                words("Stage", Query(f"max by (stage) (gateway_release_stage{{{of}}}) == 1", "{{stage}}"), {}),
                words(
                    "Candidate",
                    Query(f"max(gateway_candidate_stopped{{{of}}})"),
                    {"0": ("in traffic", "green"), "1": ("STOPPED", "red")},
                    says="If stopped, stable answers every request until gateway resume.",
                ),
                number(
                    "Answered by the candidate",
                    "percentunit",
                    Query(f"({candidate} or 0 * {all_of_them}) / {all_of_them}"),
                    says="The measured share of requests; the bars beside it show the weights in force.",
                ),
                bars(
                    "Split in force, by route",
                    "percentunit",
                    Query(f"max by (route) (gateway_route_weight_ratio{{{of}}})", "{{route}}"),
                    says="The share of a route's customers who get the candidate; 0 while it is stopped.",
                    width=12,
                ),
            ],
            "Both versions now": [
                columns(
                    "Side by side",
                    {"requests/s": "reqps", "failures": "percentunit", "p50": "s", "p95": "s", "p99": "s"},
                    Query(requests, label="requests/s"),
                    Query(failures, label="failures"),
                    *(Query(quantile(q, split, by), label=f"p{q * 100:g}") for q in QUANTILES),
                ),
            ],
            "Evidence": [
                lines(
                    "Evidence against the candidate, and the line at which a guard acts",
                    "none",
                    Query(f"max by (guard) (gateway_guard_evidence_log10{{{of}}})", "{{guard}}"),
                    Query(f"max(gateway_guard_threshold_log10{{{of}}})", "line"),
                    says="log10 of each guard's e-value times its share of alpha; the sum over all guards decides. At "
                    "alpha = 1% the line starts at 2: the probability that a harmless candidate ever reaches it is at "
                    "most 1%, although the guards are evaluated continuously.",
                    width=16,
                ),
                lines(
                    "Weight of each route",
                    "percentunit",
                    Query(f"max by (route) (gateway_route_weight_ratio{{{of}}})", "{{route}}"),
                    look="stepped",
                ),
            ],
            "Both versions": [
                lines("Requests", "reqps", Query(requests, both)),
                lines("Failures", "percentunit", Query(failures, both), says="Client errors do not count as failures."),
                lines(
                    "Rescued by stable",
                    "reqps",
                    Query(rate("gateway_rescues_total", of, "reason"), "{{reason}}"),
                    says="Requests that stable answered because the candidate failed or was stopped meanwhile. "
                    "excused: stable failed as well, or the candidate had less time than stable takes.",
                ),
                *(lines(f"Latency p{q * 100:g}", "s", Query(quantile(q, split, by), both)) for q in QUANTILES),
            ],
        },
    )
    # `unless` includes counters without an earlier sample: a model's first stop creates its counter.
    before = f"sum by (action) (gateway_decisions_total{{{of}}} offset 15s)"
    fresh = f"({counted} unless {before}) or ({counted} - {before})"
    built.annotation(marks("Decisions", f"({fresh}) > 0", "red"))
    loaded = "changes(gateway_config_last_reload_timestamp_seconds[15s]) > 0"
    return built.annotation(marks("Configuration loaded", loaded, "blue"))
