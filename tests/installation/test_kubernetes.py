"""The manifests are valid for Kubernetes, and agree with the gateway that they run."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import parse
from gateway.settings.routing import RoutingSettings
from gateway.settings.units import parse_bytes
from tests.installation.manifests import KUBERNETES, rendered
from tests.processes.flawed import until

NAMES = ("base", "monitored", "fleet")
VERSIONS = ("1.31", "1.37")
CUSTOM = "ServiceMonitor"  # not Kubernetes's own: its schema comes with the operator


def pod(name: str) -> Any:
    return rendered(name)["StatefulSet", "canary-gateway"]["spec"]["template"]["spec"]


def container(name: str) -> Any:
    (found,) = pod(name)["containers"]
    return found


def gateway_settings(name: str) -> GatewaySettings:
    return parse(rendered(name)["ConfigMap", "canary-gateway"]["data"]["gateway.yaml"], GatewaySettings, "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_manifests_are_valid_for_kubernetes(name: str, version: str) -> None:
    for (kind, _), document in rendered(name).items():
        if kind != CUSTOM:
            kubernetes_validate.validate(document, version, strict=True)


def test_validation_finds_a_misspelt_key() -> None:
    document = rendered("base")["StatefulSet", "canary-gateway"]
    document["spec"]["replcias"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_gateway_accepts_the_files_of_its_config_map(name: str) -> None:
    data = rendered(name)["ConfigMap", "canary-gateway"]["data"]
    settings = gateway_settings(name)
    routing = parse(data["routing.yaml"], RoutingSettings, "")
    assert settings.routing == "/etc/canary-gateway/routing.yaml"
    assert all((KUBERNETES.parents[1] / "models" / model).is_dir() for model in routing.models)


@pytest.mark.parametrize("name", NAMES)
def test_every_path_that_the_gateway_writes_is_on_a_volume(name: str) -> None:
    mounts = {mount["mountPath"]: mount for mount in container(name)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    (claim,) = rendered(name)["StatefulSet", "canary-gateway"]["spec"]["volumeClaimTemplates"]
    assert container(name)["securityContext"]["readOnlyRootFilesystem"] is True
    assert mounts[gateway_settings(name).state]["name"] == claim["metadata"]["name"]
    assert volumes[mounts["/dev/shm"]["name"]]["emptyDir"]["medium"] == "Memory"
    assert {"/tmp"} <= mounts.keys()
    assert all(mount["name"] in volumes or mount["name"] == claim["metadata"]["name"] for mount in mounts.values())


@pytest.mark.parametrize("name", NAMES)
def test_edited_config_map_reaches_the_pod(name: str) -> None:
    """Kubernetes updates a ConfigMap that is mounted as a folder, by the swap of a symlink, and no other."""
    mounts = {mount["mountPath"]: mount for mount in container(name)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    mount = mounts["/etc/canary-gateway"]
    assert "subPath" not in mount
    assert volumes[mount["name"]]["configMap"]["name"] == "canary-gateway"
    kustomization = yaml.safe_load((KUBERNETES / name / "kustomization.yaml").read_text())
    assert kustomization["generatorOptions"]["disableNameSuffixHash"] is True


@pytest.mark.parametrize("name", NAMES)
def test_grace_period_is_longer_than_the_drain(name: str) -> None:
    slept = int(container(name)["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod(name)["terminationGracePeriodSeconds"] > slept + gateway_settings(name).server.drain + 2


@pytest.mark.parametrize("name", NAMES)
def test_resources_fit_the_settings(name: str) -> None:
    settings, asked = gateway_settings(name), container(name)["resources"]
    assert settings.server.workers == int(asked["requests"]["cpu"]), "auto would count the node's cores"
    assert "cpu" not in asked["limits"]
    (claim,) = rendered(name)["StatefulSet", "canary-gateway"]["spec"]["volumeClaimTemplates"]
    assert _bytes(claim["spec"]["resources"]["requests"]["storage"]) > settings.records.retain
    (shm,) = (volume["emptyDir"] for volume in pod(name)["volumes"] if volume["name"] == "shm")
    assert _bytes(shm["sizeLimit"]) > 2 * settings.records.ring * int(asked["requests"]["cpu"])


def _bytes(quantity: str) -> int:
    return parse_bytes(f"{quantity}B")


@pytest.mark.parametrize("name", NAMES)
def test_probes_use_paths_and_ports_that_the_gateway_serves(name: str) -> None:
    found, settings = container(name), gateway_settings(name)
    ports = {port["name"]: port["containerPort"] for port in found["ports"]}
    for probe in ("startupProbe", "readinessProbe"):
        assert found[probe]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    assert ports["http"] == settings.server.port
    assert settings.server.host == "0.0.0.0"
    (*_, code) = found["livenessProbe"]["exec"]["command"]
    assert f"http://127.0.0.1:{settings.control.port}/health" in code


@pytest.mark.parametrize("name", NAMES)
def test_selectors_match_the_labels_of_the_pods(name: str) -> None:
    objects = rendered(name)
    for (kind, called), document in objects.items():
        if kind in ("Service", CUSTOM, "PodDisruptionBudget", "StatefulSet"):
            selected = "canary-gateway-valkey" if "valkey" in called else "canary-gateway"
            labels = objects["StatefulSet", selected]["spec"]["template"]["metadata"]["labels"]
            selector = document["spec"]["selector"]
            assert selector.get("matchLabels", selector) == labels, kind


@pytest.mark.parametrize("name", NAMES)
def test_pod_has_no_privileges(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert pod(name)["automountServiceAccountToken"] is False
    security = container(name)["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}


def test_control_plane_is_exposed_only_with_keys() -> None:
    assert gateway_settings("base").control.host == "127.0.0.1"
    opened = gateway_settings("monitored")
    assert opened.control.host == "0.0.0.0"
    assert opened.auth.keys is not None
    mounts = [mount["mountPath"] for mount in container("monitored")["volumeMounts"]]
    assert opened.auth.keys.rpartition("/")[0] in mounts
    (endpoint,) = rendered("monitored")[CUSTOM, "canary-gateway"]["spec"]["endpoints"]
    ports = {
        port["name"]: port["port"] for port in rendered("monitored")["Service", "canary-gateway-pods"]["spec"]["ports"]
    }
    assert ports[endpoint["port"]] == opened.control.port
    assert "credentials" in endpoint["authorization"]


def test_overlays_differ_only_in_control_and_auth() -> None:
    base, monitored = gateway_settings("base").model_dump(), gateway_settings("monitored").model_dump()
    assert {key for key in base if base[key] != monitored[key]} == {"control", "auth"}
    fleet = gateway_settings("fleet").model_dump()
    assert {key for key in base if base[key] != fleet[key]} == {"fleet"}


def test_fleet_finds_its_store_through_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = gateway_settings("fleet").fleet
    assert fleet is not None
    (variable,) = container("fleet")["env"]
    secret = variable["valueFrom"]["secretKeyRef"]
    text = (KUBERNETES / "fleet" / "kustomization.yaml").read_text()
    (said,) = re.findall(rf"create secret generic {secret['name']} .*\n.*--from-literal={secret['key']}=(\S+)", text)
    monkeypatch.setenv(variable["name"], said.replace("$PASSWORD", "secret"))
    assert fleet.url() == "redis://:secret@canary-gateway-valkey:6379/0"
    service = rendered("fleet")["Service", "canary-gateway-valkey"]
    assert service["spec"]["ports"][0]["port"] == 6379


def test_valkey_of_the_fleet_writes_each_stop_before_it_answers() -> None:
    (valkey,) = rendered("fleet")["StatefulSet", "canary-gateway-valkey"]["spec"]["template"]["spec"]["containers"]
    words = valkey["args"][1:]
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
    (mount,) = (mount for mount in valkey["volumeMounts"] if mount["mountPath"] == options["--dir"])
    claims = rendered("fleet")["StatefulSet", "canary-gateway-valkey"]["spec"]["volumeClaimTemplates"]
    assert [claim["metadata"]["name"] for claim in claims] == [mount["name"]]
    assert options["--requirepass"] == f"$({valkey['env'][0]['name']})"


def test_real_server_accepts_the_options_of_the_fleet_s_valkey(tmp_path: Path) -> None:
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if server is None:
        pytest.skip("needs the Debian package redis-server")
    (valkey,) = rendered("fleet")["StatefulSet", "canary-gateway-valkey"]["spec"]["template"]["spec"]["containers"]
    words = [str(tmp_path) if word == "/data" else word for word in valkey["args"][1:]]
    socket = tmp_path / "socket"
    with subprocess.Popen([server, *words, "--port", "0", "--unixsocket", str(socket)]) as running:
        try:
            until(lambda: socket.exists() or running.poll() is not None, "it listens")
            assert socket.exists()
        finally:
            running.terminate()
    assert (tmp_path / "appendonlydir").is_dir()


def test_autoscaler_alone_sets_the_number_of_pods() -> None:
    scaler = rendered("fleet")["HorizontalPodAutoscaler", "canary-gateway"]["spec"]
    scaled = rendered("fleet")[scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"]]
    assert "replicas" not in scaled["spec"]
    assert scaler["minReplicas"] >= 2
    assert "cpu" in container("fleet")["resources"]["requests"], "utilization is a share of it"


def test_image_has_what_the_fleet_and_data_sets_need() -> None:
    assert "'.[fleet,data]'" in (KUBERNETES.parent / "container" / "Containerfile").read_text()


if shutil.which("kubectl"):  # which Debian has not; where it is, it confirms what the tests above put together

    @pytest.mark.parametrize("name", NAMES)
    def test_kubectl_kustomize_renders_the_same_objects(name: str) -> None:
        line = ["kubectl", "kustomize", str(KUBERNETES / name)]
        built = subprocess.run(line, capture_output=True, text=True, check=True).stdout.replace(":latest", "")
        found = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(built)}
        assert _sorted(found) == _sorted(rendered(name))


def _sorted(value: Any) -> Any:
    """The objects without the order of keys and lists, which kustomize changes as it merges."""
    if isinstance(value, dict):
        return sorted((repr(key), _sorted(inner)) for key, inner in value.items())
    return sorted(map(_sorted, value), key=repr) if isinstance(value, list) else repr(value)
