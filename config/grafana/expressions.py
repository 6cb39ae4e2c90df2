"""The expressions that several panels share, in PromQL."""

from typing import Final

FAILED: Final = 'outcome=~"model_error|invalid_output|timeout|overloaded"'  # a client's error is no one's failure
COUNTED: Final = 'outcome!="client_error"'  # what a version was there to answer: the whole that failures are a share of
QUANTILES: Final = (0.5, 0.95, 0.99)


def rate(metric: str, labels: str, by: str, over: str = "$__rate_interval") -> str:
    """What a counter gains a second, added up by labels."""
    return f"sum by ({by}) (rate({metric}{{{labels}}}[{over}]))"


def mean_outcome(labels: str, by: str, over: str) -> str:
    """The mean of an outcome's values. Their sum is two counters, one for each sign."""
    positive, negative = (
        f'rate(gateway_outcome_sum_total{{{labels}, sign="{sign}"}}[{over}])' for sign in ("positive", "negative")
    )
    return f"sum by ({by}) ({positive} or -{negative}) / {rate('gateway_outcomes_total', labels, by, over)}"


def quantile(q: float, labels: str, by: str, metric: str = "gateway_prediction_duration_seconds") -> str:
    """A quantile over the histograms of all workers and instances."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, f'le, {by}' if by else 'le')})"
