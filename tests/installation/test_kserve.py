"""The manifests are valid for KServe and Kubernetes, and agree with the gateway that they run."""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gateway.control.api.access import METRICS_PATH
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import parse
from gateway.settings.units import parse_bytes
from tests.installation.kserve_schemas import FILE
from tests.installation.manifests import CONFIG
from tests.installation.test_kubernetes import VERSIONS

FOLDER = CONFIG / "kserve"
SCHEMAS: dict[str, Any] = json.loads(FILE.read_text())
RUNTIMES = {"runtime.yaml": "ServingRuntime", "cluster-runtime.yaml": "ClusterServingRuntime"}


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def document(name: str, kind: str) -> Any:
    (found,) = (one for one in documents(name) if one["kind"] == kind)
    return found


def runtime() -> Any:
    return document("runtime.yaml", "ServingRuntime")["spec"]


def container() -> Any:
    (found,) = runtime()["containers"]
    return found


def predictor() -> Any:
    return document("inferenceservice.yaml", "InferenceService")["spec"]["predictor"]


def settings() -> GatewaySettings:
    return parse((FOLDER / "gateway.yaml").read_text(), GatewaySettings, "")


def problems(found: Any) -> Iterator[str]:
    known = SCHEMAS[found["kind"]]
    assert found["apiVersion"] == known["apiVersion"]
    for error in jsonschema.Draft202012Validator(known["schema"]).iter_errors(found):
        yield f"{error.json_path}: {error.message}"


def merged_pod() -> Any:
    """The pod that KServe makes: the runtime's container, into which the model's fields are merged."""
    spec, model, made = runtime(), predictor()["model"], deepcopy(container())
    made["args"] = [*made["args"], *model.get("args", [])]
    mounts = {mount["mountPath"]: mount for mount in [*made["volumeMounts"], *model["volumeMounts"]]}
    read_only = {"name": "kserve-provision-location", "mountPath": "/mnt/models", "readOnly": True}
    made["volumeMounts"] = [*mounts.values(), read_only]
    volumes = [*spec["volumes"], *predictor()["volumes"], {"name": read_only["name"], "emptyDir": {}}]
    pod = {"containers": [made], "volumes": volumes, "securityContext": predictor()["securityContext"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "digits"}, "spec": pod}


@pytest.mark.parametrize("name", [*RUNTIMES, "inferenceservice.yaml"])
def test_manifests_are_valid_for_kserve(name: str) -> None:
    checked = [found for found in documents(name) if found["kind"] in SCHEMAS]
    assert checked
    assert [problem for found in checked for problem in problems(found)] == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("spec", "containers", 0, "volumeMount"), [], "'volumeMount' was unexpected"),
        (("spec", "containers", 0, "ports", 0, "containerPort"), "8080", "is not of type 'integer'"),
        (("spec", "supportedModelFormats", 0, "auto"), True, "'auto' was unexpected"),
        (("spec", "protocol"), "v2", "'protocol' was unexpected"),
        (("spec", "containers"), None, "is not of type 'array'"),
    ],
)
def test_validation_finds_a_mistake(path: tuple[str | int, ...], value: Any, said: str) -> None:
    found = document("runtime.yaml", "ServingRuntime")
    *parents, last = path
    inner = found
    for key in parents:
        inner = inner[key]
    inner[last] = value
    assert said in "\n".join(problems(found))


@pytest.mark.parametrize("version", VERSIONS)
def test_pod_and_claim_are_valid_for_kubernetes(version: str) -> None:
    kubernetes_validate.validate(merged_pod(), version, strict=True)
    kubernetes_validate.validate(document("inferenceservice.yaml", "PersistentVolumeClaim"), version, strict=True)


def test_both_runtimes_are_the_same() -> None:
    found = {name: document(name, kind) for name, kind in RUNTIMES.items()}
    assert found["runtime.yaml"] == found["cluster-runtime.yaml"] | {"kind": "ServingRuntime"}


def test_service_names_the_runtime_and_what_it_supports() -> None:
    model = predictor()["model"]
    assert model["runtime"] == document("runtime.yaml", "ServingRuntime")["metadata"]["name"]
    assert model["modelFormat"] in [
        {key: one[key] for key in ("name", "version")} for one in runtime()["supportedModelFormats"]
    ]
    assert model["protocolVersion"] in runtime()["protocolVersions"]


def test_runtime_is_chosen_by_its_name_alone() -> None:
    """KServe refuses a second runtime that is selected by itself for a format and protocol at the same priority."""
    assert not any("autoSelect" in supported for supported in runtime()["supportedModelFormats"])


def test_canary_is_in_the_gateway_alone() -> None:
    assert "canary" not in document("inferenceservice.yaml", "InferenceService")["spec"]
    assert "canaryTrafficPercent" not in predictor()
    assert (predictor()["minReplicas"], predictor()["maxReplicas"]) == (1, 1)


def test_first_port_is_where_the_gateway_listens() -> None:
    assert container()["name"] == "kserve-container"
    assert container()["ports"][0]["containerPort"] == settings().server.port == 8080
    assert settings().server.host == "0.0.0.0"
    for probe in ("startupProbe", "readinessProbe"):
        assert container()[probe]["httpGet"] == {"path": "/v2/health/ready", "port": settings().server.port}
    (*_, code) = container()["livenessProbe"]["exec"]["command"]
    assert f"http://127.0.0.1:{settings().control.port}/health" in code


def test_container_starts_on_the_file_of_the_image_with_the_service_s_name() -> None:
    command, option, file, name, value = container()["args"]
    assert (command, option, name, value) == ("serve", "--config", "--model-name", "{{.Name}}")
    assert f"COPY config/kserve/gateway.yaml {file}\n" in (CONFIG / "container/Containerfile").read_text()
    assert "<" not in json.dumps(container()), "KServe's template engine escapes HTML"


def test_all_that_the_gateway_writes_is_on_a_volume() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in merged_pod()["spec"]["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in merged_pod()["spec"]["volumes"]}
    assert mounts[settings().state] == "kept"
    assert "persistentVolumeClaim" in volumes["kept"]
    for written in (settings().models.path, settings().routing):
        assert written.startswith(f"{settings().state}/")
    mounted = settings().models.mounted
    assert mounted is not None
    assert mounts[mounted.path] == "kserve-provision-location"
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert {"/tmp"} <= mounts.keys()
    (claim,) = [found for found in documents("inferenceservice.yaml") if found["kind"] == "PersistentVolumeClaim"]
    assert volumes["kept"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert parse_bytes(f"{claim['spec']['resources']['requests']['storage']}B") > settings().records.retain


def test_container_has_no_privileges_and_no_user_of_its_own() -> None:
    security = container()["securityContext"]
    assert security["runAsNonRoot"] is security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security.keys() & {"runAsUser", "runAsGroup"}, "OpenShift gives each namespace its own"


def test_pod_s_grace_is_longer_than_the_drain() -> None:
    slept = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert slept + settings().server.drain + 2 < 30


def test_workers_fit_the_cores_that_are_asked_for() -> None:
    assert settings().server.workers == int(container()["resources"]["requests"]["cpu"])
    assert "cpu" not in container()["resources"]["limits"]


def test_annotations_lead_prometheus_to_the_metrics() -> None:
    annotations = runtime()["annotations"]
    assert annotations["prometheus.kserve.io/port"] == str(settings().control.metrics_port)
    assert annotations["prometheus.kserve.io/path"] == METRICS_PATH
    assert settings().control.host == "127.0.0.1", "the rest of the control plane stays in the pod"
