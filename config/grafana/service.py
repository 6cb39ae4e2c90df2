"""The dashboard Service."""

from expressions import FAILED, QUANTILES, quantile, rate
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import INSTANCE, Query, columns, lines, number, page, words


def service() -> Dashboard:
    """How the gateway itself fares."""
    here = 'instance=~"$instance"'
    outcomes = rate("gateway_predictions_total", f"{here}, {FAILED}", "outcome")
    batches = rate("gateway_batch_size_count", here, "model")
    return page(
        "Service",
        "canary-gateway-service",
        "Traffic, latency and saturation of the gateway, and its processes.",
        [INSTANCE],
        {
            "Now": [
                number("Requests", "reqps", Query(f"sum({rate('gateway_predictions_total', here, 'model')})")),
                number("p99", "s", Query(quantile(0.99, here, ""))),
                number("In flight", "short", Query(f"sum(gateway_inflight_requests{{{here}}})")),
                number("Workers ready", "short", Query(f'sum(gateway_workers{{{here}, state="ready"}})')),
                words(
                    "Configuration",
                    Query(f"min(gateway_config_last_reload_success{{{here}}})"),
                    {"1": ("in force", "green"), "0": ("BROKEN EDIT", "red")},
                    says="gateway check says what is wrong with the files.",
                ),
                number(
                    "Heartbeat's age",
                    "s",
                    Query(f"max(gateway_control_heartbeat_age_seconds{{{here}}})"),
                    bad="1",
                    says="Beyond control.heartbeat_timeout workers take all traffic from candidates.",
                ),
            ],
            "Traffic": [
                lines(
                    "Requests by model",
                    "reqps",
                    Query(rate("gateway_predictions_total", here, "model"), "{{model}}"),
                    look="stacked",
                ),
                lines("Failures by outcome", "reqps", Query(outcomes, "{{outcome}}"), says="Rescued ones included."),
                lines(
                    "Refused (shed)",
                    "reqps",
                    Query(rate("gateway_shed_total", here, "reason"), "{{reason}}"),
                    says="Answered at once with 503, or 429 where a customer's rate is exceeded.",
                ),
            ],
            "Latency": [
                lines("All models", "s", *(Query(quantile(q, here, ""), f"p{q * 100:g}") for q in QUANTILES)),
                lines("p99 by model", "s", Query(quantile(0.99, here, "model"), "{{model}}")),
                lines(
                    "Waiting for a batch, p99 by model",
                    "s",
                    Query(quantile(0.99, here, "model", "gateway_queue_duration_seconds"), "{{model}}"),
                    says="Grows first when there are too few workers.",
                ),
            ],
            "Saturation": [
                lines("In flight", "short", Query(f"gateway_inflight_requests{{{here}}}", "{{instance}}")),
                lines("Batches", "ops", Query(batches, "{{model}}")),
                lines(
                    "Rows in a batch, mean",
                    "short",
                    Query(f"{rate('gateway_batch_size_sum', here, 'model')} / {batches}", "{{model}}"),
                ),
            ],
            "Processes": [
                lines(
                    "Workers",
                    "short",
                    Query(f"sum by (state) (gateway_workers{{{here}}})", "{{state}}"),
                    look="stacked",
                ),
                lines(
                    "Busy connections, by worker",
                    "short",
                    Query(f'gateway_connections{{{here}, state="busy"}}', "{{instance}} {{worker}}"),
                    says="Those with an answer in the last second. When workers differ for long, some are closed.",
                ),
                lines(
                    "Workers that died, in five minutes",
                    "short",
                    Query(f"increase(gateway_worker_restarts_total{{{here}}}[5m])", "{{instance}}"),
                ),
                lines(
                    "Heartbeat's age",
                    "s",
                    Query(f"gateway_control_heartbeat_age_seconds{{{here}}}", "{{instance}}"),
                ),
                lines(
                    "CPU of the control process",
                    "percentunit",
                    Query(
                        f'rate(process_cpu_seconds_total{{{here}, job="canary-gateway"}}[$__rate_interval])',
                        "{{instance}}",
                    ),
                ),
                lines(
                    "Memory of the control process",
                    "bytes",
                    Query(f'process_resident_memory_bytes{{{here}, job="canary-gateway"}}', "{{instance}}"),
                ),
                columns(
                    "What runs",
                    {},
                    Query(f"max by (instance, version) (gateway_build_info{{{here}}})"),
                    Query(f"max by (instance, revision) (gateway_config_info{{{here}}})"),
                    width=8,
                    height=8,
                ),
            ],
        },
    )
