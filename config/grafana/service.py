"""The dashboard Service."""

from expressions import FAILED, QUANTILES, quantile, rate
from grafana_foundation_sdk.builders.dashboard import Dashboard
from panels import INSTANCE, Query, columns, lines, number, page, words


def service() -> Dashboard:
    """Build the dashboard Service: traffic, latency, saturation and processes of the gateway."""
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
                    says="If an edit is broken, gateway check names the mistakes in the files.",
                ),
                number(
                    "Heartbeat age",
                    "s",
                    Query(f"max(gateway_control_heartbeat_age_seconds{{{here}}})"),
                    bad="1",
                    says="Beyond control.heartbeat_timeout, workers send no traffic to candidates.",
                ),
            ],
            "Traffic": [
                lines(
                    "Requests by model",
                    "reqps",
                    Query(rate("gateway_predictions_total", here, "model"), "{{model}}"),
                    look="stacked",
                ),
                lines(
                    "Failures by outcome",
                    "reqps",
                    Query(outcomes, "{{outcome}}"),
                    says="Includes failures of candidates that stable rescued.",
                ),
                lines(
                    "Refused (shed)",
                    "reqps",
                    Query(rate("gateway_shed_total", here, "reason"), "{{reason}}"),
                    says="Answered immediately with 503, or with 429 if a customer's rate limit is exceeded.",
                ),
            ],
            "Latency": [
                lines("All models", "s", *(Query(quantile(q, here, ""), f"p{q * 100:g}") for q in QUANTILES)),
                lines("p99 by model", "s", Query(quantile(0.99, here, "model"), "{{model}}")),
                lines(
                    "Waiting for a batch, p99 by model",
                    "s",
                    Query(quantile(0.99, here, "model", "gateway_queue_duration_seconds"), "{{model}}"),
                    says="The first latency to grow if there are too few workers.",
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
                    says="Connections with a response in the last second. If workers stay unequal, some are closed.",
                ),
                lines(
                    "Worker deaths in five minutes",
                    "short",
                    Query(f"increase(gateway_worker_restarts_total{{{here}}}[5m])", "{{instance}}"),
                ),
                lines(
                    "Heartbeat age",
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
                    "Versions of gateway and configuration",
                    {},
                    Query(f"max by (instance, version) (gateway_build_info{{{here}}})"),
                    Query(f"max by (instance, revision) (gateway_config_info{{{here}}})"),
                    width=8,
                    height=8,
                ),
            ],
            "Fleet, where there is one": [
                lines(
                    "Hosts, as each of them sees it",
                    "short",
                    Query(f"gateway_fleet_members{{{here}}}", "{{instance}}"),
                    look="stepped",
                ),
                lines(
                    "Candidates may get traffic",
                    "short",
                    Query(f"gateway_fleet_open{{{here}}}", "{{instance}}"),
                    look="stepped",
                    says="0: the host has no contact with the fleet, or not for long enough. Stable is not affected.",
                ),
                lines(
                    "Lease left",
                    "s",
                    Query(f"gateway_fleet_lease_remaining_seconds{{{here}}}", "{{instance}}"),
                    says="Candidates close at 0, unless fleet.when_lost is hold.",
                ),
                lines(
                    "Part of each rate limit",
                    "percentunit",
                    Query(f"gateway_fleet_rate_share_ratio{{{here}}}", "{{instance}}"),
                    Query(f"max(gateway_fleet_rate_kept_ratio{{{here}}})", "kept by hosts out of contact"),
                    says="But for limits whose shares follow the demand. What is kept is free once the host is back or"
                    " removed: gateway fleet remove.",
                ),
                lines(
                    "Leader of each model's release",
                    "short",
                    Query(f"gateway_fleet_leader{{{here}}} == 1", "{{model}}: {{instance}}"),
                    look="stepped",
                    says="The host that runs the ramp and guards. A model without one has no host in contact.",
                ),
                lines(
                    "Stops that are not confirmed",
                    "short",
                    Query(f"gateway_fleet_stops_unconfirmed{{{here}}}", "{{instance}}"),
                    look="stepped",
                    says="Releases whose candidate may still answer on other hosts.",
                ),
                lines(
                    "Stops and resumes in force",
                    "short",
                    Query(f"gateway_fleet_revision_applied{{{here}}}", "{{instance}}"),
                    look="stepped",
                    says="The fleet's revision in force on each host. One that stays below the others lacks some.",
                ),
                lines(
                    "Errors of the store",
                    "ops",
                    Query(rate("gateway_fleet_store_errors_total", here, "instance"), "{{instance}}"),
                ),
            ],
        },
    )
