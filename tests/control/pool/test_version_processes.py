"""Which processes versions need, by model.yaml as it was last understood."""

from pathlib import Path

from gateway.backends.repository import Repository
from gateway.control.pool.version_processes import VersionProcesses
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import RoutingSettings
from tests.backends.onnx_models import doubling, place

CANDIDATE = RoutingSettings.model_validate({"models": {"m": {"stable": 1, "candidate": 2}}})


def test_a_mistake_in_model_yaml_leaves_what_was_said_before(tmp_path: Path) -> None:
    for version in (1, 2):
        place(tmp_path, "m", version, doubling)
    file = tmp_path / "m" / "model.yaml"
    file.write_text("memory: 1GiB\nfeedback: {metrics: {visits: [0, 9]}}\n")
    processes = VersionProcesses(Repository(tmp_path), "test", GatewaySettings(), lambda process, why: None)
    (spec,) = processes.specs(CANDIDATE)
    file.write_text("memory: [")
    (amid_edit,) = processes.specs(CANDIDATE)
    assert amid_edit.memory_limit_bytes == spec.memory_limit_bytes == 2**30
    assert processes.declared == {"m": {"metrics.visits"}}
    file.unlink()
    processes.specs(CANDIDATE)
    assert processes.declared == {"m": set()}
