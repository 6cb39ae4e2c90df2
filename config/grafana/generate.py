"""Writes the dashboards: `python config/grafana/generate.py [FOLDER]` (pip install -e '.[dashboards]').

Expressions use `$model` if a dashboard is about one model, `$window` if an average needs many requests, and
`$__rate_interval` otherwise.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import data
import release
import service
from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

HERE: Final = Path(__file__).parent


def documents() -> dict[str, dict[str, Any]]:
    """The dashboards by the names of their files."""
    built = {"release": release.release(), "service": service.service(), "data": data.data()}
    return {f"{name}.json": _document(dashboard) for name, dashboard in built.items()}


def _document(dashboard: Dashboard) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(JSONEncoder().encode(dashboard.build()))
    for annotation in document["annotations"].get("list", ()):  # the builder lacks these keys of Prometheus
        annotation |= {"titleFormat": annotation["name"], "textFormat": "{{action}}", "step": "5s"}
    return document


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "dashboards"
    for file, document in documents().items():
        (folder / file).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
