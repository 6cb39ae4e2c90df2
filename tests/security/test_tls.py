"""TLS on both planes, with certificate files that are renewed while the gateway runs."""

import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.cli.test_main import gateway as command
from tests.processes.flawed import body, gateway, until
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

AUTHORITY = trustme.CA()
INFER = "/v2/models/flawed/infer"


def write(folder: Path, authority: trustme.CA = AUTHORITY) -> dict[str, str]:
    """Write a certificate for this machine, and return what gateway.yaml says of it."""
    folder.mkdir(exist_ok=True)
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
    files = {"certificate": (folder / "chain.pem", chain), "key": (folder / "key.pem", issued.private_key_pem.bytes())}
    for path, content in files.values():
        path.with_suffix(".new").write_bytes(content)
        path.with_suffix(".new").replace(path)
    return {name: str(path) for name, (path, _) in files.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("tls")
    models = gateway(folder).config.parent / "models"
    routing = {
        "models": {
            "flawed": {
                "stable": 1,
                "candidate": 2,
                "split": {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]},
            }
        }
    }
    server = {"workers": 2, "tls": write(folder / "data")}
    with GatewayProcess(folder, models, routing, server=server, control={"tls": write(folder / "control")}) as started:
        yield started
    assert "Traceback" not in started.log


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def serial(running: GatewayProcess) -> str:
    """The serial number of the certificate that a new connection gets."""
    return ssl.get_server_certificate(("127.0.0.1", running.port))


def test_both_planes_serve_clients_that_trust_the_certificate(running: GatewayProcess) -> None:
    with httpx.Client(verify=trusting()) as client:
        assert client.get(f"{running.url}/v2").status_code == 200
        assert client.get(f"{running.control_url}/api/releases").status_code == 200
    for url in (running.url, running.control_url):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(url)


def test_plain_http_is_not_answered(running: GatewayProcess) -> None:
    for url in (running.url, running.control_url):
        with pytest.raises(httpx.TransportError):
            httpx.get(url.replace("https", "http"))


def test_old_tls_versions_are_refused(running: GatewayProcess) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url, verify=context)


def test_answers_of_both_variants_are_complete(running: GatewayProcess) -> None:
    """A candidate's answer is sent at once, bypassing the event loop, but not the encryption."""
    with httpx.Client(base_url=running.url, verify=trusting()) as client:
        answers = [client.post(INFER, content=body(1.0)) for _ in range(60)]
        large = client.post(INFER, content=body(1.0).ljust(200_000))
    assert {answer.status_code for answer in (*answers, large)} == {200}
    assert {answer.headers["x-variant"] for answer in answers} == {"stable", "candidate"}
    assert {answer.json()["outputs"][0]["name"] for answer in answers} == {"y"}


def test_stop_takes_effect_with_tls(running: GatewayProcess) -> None:
    release = f"{running.control_url}/api/releases/flawed"
    with httpx.Client(verify=trusting()) as client:
        assert client.post(f"{release}/stop", json={"reason": "a test"}).status_code == 200
        variants = {client.post(running.url + INFER, content=body(1.0)).headers["x-variant"] for _ in range(30)}
        assert client.post(f"{release}/resume", json={"reason": "a test"}).status_code == 200
    assert variants == {"stable"}


def test_commands_trust_the_gateway_s_own_certificate(running: GatewayProcess) -> None:
    assert "flawed: running" in command("status", "--config", str(running.config)).stdout


def test_commands_trust_no_other_certificate(running: GatewayProcess, tmp_path: Path) -> None:
    other = write(tmp_path / "other")["certificate"]
    control = running.config.parent / "control" / "chain.pem"
    config = tmp_path / "gateway.yaml"
    config.write_text(running.config.read_text().replace(str(control), other))
    assert "CERTIFICATE_VERIFY_FAILED" in command("status", "--config", str(config), code=1).stderr


def test_renewed_certificate_is_served_without_a_restart(running: GatewayProcess) -> None:
    before, kept = serial(running), httpx.Client(base_url=running.url, verify=trusting())
    assert kept.get("/v2").status_code == 200
    write(running.config.parent / "data")
    until(lambda: {serial(running) for _ in range(8)}.isdisjoint({before}), "the new certificate from both workers")
    assert kept.get("/v2").status_code == 200
    kept.close()
    assert httpx.get(f"{running.url}/v2", verify=trusting()).status_code == 200


def test_incomplete_renewal_changes_nothing(running: GatewayProcess, tmp_path: Path) -> None:
    """The certificate has been replaced, but its key not yet."""
    folder = running.config.parent / "data"
    before, new = serial(running), Path(write(tmp_path / "new")["certificate"])
    shutil.copy(new, folder / "chain.pem")
    until(lambda: running.log.count("not loaded, what was read before stays in force") >= 2, "both workers to say so")
    assert {serial(running) for _ in range(8)} == {before}
    shutil.copy(tmp_path / "new" / "key.pem", folder / "key.pem")
    until(lambda: {serial(running) for _ in range(8)} == {new.read_text()}, "the new certificate")


@pytest.mark.parametrize("what", ["absent", "swapped", "nonsense", "with a password"])
def test_unusable_certificate_files_are_refused_at_the_start(tmp_path: Path, what: str) -> None:
    files = write(tmp_path / "files")
    if what == "absent":
        Path(files["key"]).unlink()
    elif what == "swapped":
        Path(files["key"]).write_bytes(AUTHORITY.issue_cert("localhost").private_key_pem.bytes())
    elif what == "nonsense":
        Path(files["certificate"]).write_text("nonsense")
    else:
        _protect(Path(files["key"]))
    for plane in ("server", "control"):
        absent = gateway(tmp_path / plane, control={"tls": files} if plane == "control" else {})
        if plane == "server":
            absent.config.write_text(absent.config.read_text().replace("server:\n", f"server:\n  tls: {files}\n"))
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "serve", "--config", str(absent.config)],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert ended.returncode == 1, ended.stderr
        assert ".pem" in ended.stderr
        assert "Traceback" not in ended.stderr


def _protect(key: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    protection = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.TraditionalOpenSSL
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, protection))
