"""The metrics of a model registry: of what one host of a fleet finds for all, only at that host."""

from dataclasses import replace

from gateway.control.metrics.registry_metrics import RegistryModel, RegistryStatus
from tests.control.metrics.registry import registry

STATUS = RegistryStatus("http://mlflow:5000", "", 17.5, 3, {"digits": RegistryModel("digits", problem=True, pending=2)})


def test_the_host_that_asks_shows_all() -> None:
    found = registry(registry=STATUS)
    values = {
        "gateway_registry_leads": 1.0,
        "gateway_registry_followed": 1.0,
        "gateway_registry_up": 1.0,
        "gateway_registry_last_success_timestamp_seconds": 17.5,
        "gateway_registry_errors_total": 3.0,
    }
    assert {name: found.get_sample_value(name) for name in values} == values
    assert found.get_sample_value("gateway_registry_pending", {"model": "digits"}) == 2.0
    assert found.get_sample_value("gateway_registry_problem", {"model": "digits"}) == 1.0


def test_another_host_shows_no_figure_that_may_be_old() -> None:
    found = registry(registry=replace(STATUS, elsewhere="b follows the registry"))
    names = {family.name for family in found.collect() if "registry" in family.name}
    assert names == {
        "gateway_registry_leads", "gateway_registry_followed", "gateway_registry_errors", "gateway_registry_problem"
    }  # fmt: skip
    assert found.get_sample_value("gateway_registry_leads") == 0.0
    assert found.get_sample_value("gateway_registry_followed") == 1.0
    lost = registry(registry=replace(STATUS, elsewhere="no host of the fleet follows the registry yet", followed=False))
    assert lost.get_sample_value("gateway_registry_followed") == 0.0
    assert {family.name for family in registry().collect() if "registry" in family.name} == set()
