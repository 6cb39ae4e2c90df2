"""The gateway that the pipelines' pages start."""

import yaml

from gateway.settings.load import load_gateway
from tests.pipelines.circle import ROOT


def test_shipped_gateway_serves_version_1_of_digits_and_has_no_candidate() -> None:
    settings = load_gateway(ROOT / "config" / "pipelines" / "gateway.yaml")
    routing = yaml.safe_load((ROOT / settings.routing).read_text())["models"]
    assert routing == {"digits": {"stable": 1}, "tickets": {"stable": 2}, "tumor": {"stable": 2}}
    assert (settings.server.port, settings.control.port, settings.models.path) == (8000, 8002, "models")
