"""The expressions of the shipped dashboards and alerts, as Prometheus receives them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[2] / "config"
DASHBOARDS = CONFIG / "grafana" / "dashboards"
FILES = ("data.json", "release.json", "service.json")
VARIABLES = {"$model": "digits", "$outcome": "wrong", "$instance": ".*", "$__rate_interval": "4s", "$window": "8s"}


def panels(name: str) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard, those inside rows too."""
    for panel in json.loads((DASHBOARDS / name).read_text())["panels"]:
        yield panel
        yield from panel.get("panels", ())


def of_dashboard(name: str) -> list[tuple[str, str]]:
    """Each query of a dashboard, with where it stands."""
    document = json.loads((DASHBOARDS / name).read_text())
    marks = [(mark["name"], mark["expr"]) for mark in document["annotations"].get("list", ())]
    shown = [
        (f"{panel['title']} {target['refId']}", target["expr"])
        for panel in panels(name)
        for target in panel.get("targets", ())
    ]
    return [(where, filled_in(expr)) for where, expr in marks + shown]


def of_alerts() -> list[tuple[str, str]]:
    """Each alert's expression, with its name."""
    document = yaml.safe_load((CONFIG / "prometheus" / "alerts.yml").read_text())
    return [(rule["alert"], rule["expr"]) for group in document["groups"] for rule in group["rules"]]


def filled_in(expr: str) -> str:
    """The expression with the dashboard's variables replaced, as Grafana does it."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr
