"""The shipped files for Prometheus and Grafana, checked by themselves with their own tools."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.expressions import CONFIG, DASHBOARDS, FILES, of_alerts, panels
from tests.monitoring.prometheus import promtool

pytestmark = pytest.mark.slow

PROMETHEUS = CONFIG / "prometheus"
ALERTS = [name for name, _ in of_alerts()]


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    checked = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert checked.returncode == 0, checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def test_alert_rules_pass_their_unit_tests() -> None:
    tested = promtool("test", "rules", str(PROMETHEUS / "alerts_test.yml"))
    assert tested.returncode == 0, tested.stderr


@pytest.mark.parametrize("silenced", ALERTS)
def test_alert_unit_tests_fail_for_an_alert_that_never_fires(silenced: str, tmp_path: Path) -> None:
    document = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = "vector(0) > 1" if rule["alert"] == silenced else rule["expr"]
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(document))
    (tmp_path / "alerts_test.yml").write_text((PROMETHEUS / "alerts_test.yml").read_text())
    assert promtool("test", "rules", str(tmp_path / "alerts_test.yml")).returncode != 0


def test_each_alert_has_a_severity_summary_description_and_runbook() -> None:
    document = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}, rule["alert"]


def test_dashboards_are_what_the_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(CONFIG / "grafana" / "generate.py"), str(tmp_path)], check=True, timeout=60)
    assert sorted(path.name for path in DASHBOARDS.iterdir()) == sorted(FILES)
    for name in FILES:
        written = (tmp_path / name).read_text()
        assert (DASHBOARDS / name).read_text() == written, "run: python config/grafana/generate.py"


@pytest.mark.parametrize("name", FILES)
def test_dashboard_survives_a_round_trip_through_grafana_s_models(name: str) -> None:
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    document = json.loads((DASHBOARDS / name).read_text())
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(document)))
    for annotation in document["annotations"].get("list", ()):
        for key in ("titleFormat", "textFormat", "step"):  # Prometheus's own, which the models do not hold
            annotation.pop(key, None)
    assert again == document


@pytest.mark.parametrize("name", FILES)
def test_dashboard_ids_variables_and_layout_are_consistent(name: str) -> None:
    document = json.loads((DASHBOARDS / name).read_text())
    text = json.dumps(document)
    numbers = [panel["id"] for panel in panels(name)]
    assert len(numbers) == len(set(numbers))
    variables = {variable["name"] for variable in document["templating"]["list"]}
    assert "datasource" in variables
    for variable in variables:
        assert f"${variable}" in text or f"${{{variable}}}" in text, f"nothing uses {variable}"
    for panel in (panel for panel in panels(name) if panel["type"] != "row"):
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24, panel["title"]
    _nothing_overlaps([panel["gridPos"] for panel in panels(name)])


def _nothing_overlaps(places: list[dict[str, Any]]) -> None:
    taken: set[tuple[int, int]] = set()
    for place in places:
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, place
        taken |= cells


def test_provisioning_names_existing_files_and_settings() -> None:
    folder = CONFIG / "grafana" / "provisioning"
    (source,) = yaml.safe_load((folder / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((folder / "dashboards" / "canary-gateway.yml").read_text())["providers"]
    scraped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert (source["type"], source["jsonData"]["timeInterval"]) == ("prometheus", scraped)
    assert (provider["type"], provider["options"]["path"]) == ("file", "$GATEWAY_DASHBOARDS")
