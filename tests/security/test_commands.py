"""`gateway keys`, and the commands of a gateway that requires a key."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.cli.control_client import KEY_VARIABLE
from tests.processes.flawed import until
from tests.security.guarded import INFER, Guarded, bearer, document

pytestmark = pytest.mark.slow


def command(config: Path, *words: str, key: str | None = None, code: int = 0) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "gateway", *words, "--config", str(config)]
    environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE} | (
        {KEY_VARIABLE: key} if key else {}
    )
    environment["COLUMNS"] = "200"
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (ended.returncode, "Traceback" in ended.stderr) == (code, False), ended.stderr
    return ended


def infer(running: Guarded, key: str) -> int:
    answer = httpx.post(running.gateway.url + INFER, content=document(), headers=bearer(key), timeout=30)
    return answer.status_code


def test_added_key_works_until_it_is_revoked(running: Guarded) -> None:
    """Both workers and control apply it without a restart."""
    config = running.gateway.config
    made = command(config, "keys", "add", "--customer", "initech", "--scope", "predict", "--scope", "read")
    key = made.stdout.strip()
    assert key not in made.stderr
    key_id = made.stderr.split()[1]
    until(lambda: {infer(running, key) for _ in range(8)} == {200}, "the new key to be known")
    releases = f"{running.gateway.control_url}/api/releases"
    until(lambda: httpx.get(releases, headers=bearer(key)).status_code == 200, "the new key to be known to control")
    assert "flawed" in command(config, "status", key=key).stdout
    listed = command(config, "keys", "list").stdout
    assert [word in listed for word in (key_id, "initech", "predict, read", "never")] == [True] * 4
    assert key.removeprefix("cgw_") not in listed
    (entry,) = [e for e in json.loads(command(config, "keys", "list", "--json").stdout) if e["id"] == key_id]
    assert entry.keys() == {"id", "customer", "scopes", "created", "expires"}
    assert command(config, "keys", "revoke", key_id).stdout == f"key {key_id} of initech is revoked\n"
    until(lambda: {infer(running, key) for _ in range(8)} == {401}, "the key to be worthless")
    assert infer(running, running.keys["predictor"]) == 200, "the others are as they were"
    assert "gateway keys list" in command(config, "keys", "revoke", key_id, code=1).stderr


def test_key_with_an_expiry_date(running: Guarded) -> None:
    added = command(
        running.gateway.config, "keys", "add", "--customer", "a", "--scope", "read", "--expires", "90d", "--json"
    )
    made = json.loads(added.stdout)
    assert made.keys() == {"key", "id", "customer", "scopes", "created", "expires"}
    assert command(running.gateway.config, "keys", "revoke", made["id"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--customer", "a"), "--scope"),
        (("--customer", "a", "--scope", "root"), "predict"),
        (("--scope", "read"), "--customer"),
        (("--customer", "a\nb", "--scope", "read"), "printable"),
        (("--customer", "", "--scope", "read"), "printable"),
        (("--customer", "a", "--scope", "read", "--expires", "soon"), "20s"),
    ],
)
def test_wrong_usage_of_keys_add_makes_no_key(running: Guarded, words: tuple[str, ...], says: str) -> None:
    before = running.file.read_text()
    assert says in command(running.gateway.config, "keys", "add", *words, code=2).stderr
    assert running.file.read_text() == before


def test_commands_take_their_key_from_the_environment(running: Guarded) -> None:
    config = running.gateway.config
    assert "API key" in command(config, "status", code=1).stderr
    assert "scope" in command(config, "stop", "flawed", key=running.keys["reader"], code=1).stderr
    assert "flawed: running" in command(config, "status", key=running.keys["reader"]).stdout
    command(config, "stop", "flawed", "--reason", "a test", key=running.keys["operator"])
    told = command(config, "status", key=running.keys["operator"]).stdout
    assert "stopped by ops (key " in told
    command(config, "resume", "flawed", key=running.keys["operator"])


def test_commands_never_use_a_proxy(running: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the port where nothing listens
    command(running.gateway.config, "status", key=running.keys["reader"])


def test_first_key_creates_the_file(tmp_path: Path) -> None:
    config, file = tmp_path / "gateway.yaml", tmp_path / "secret" / "keys.yaml"
    config.write_text(f"auth: {{keys: {file}}}")
    assert "gateway keys add" in command(config, "keys", "list", code=1).stderr
    command(config, "keys", "add", "--customer", "acme", "--scope", "predict")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    assert "chmod 600" in command(config, "keys", "list", code=1).stderr
    config.write_text("")
    assert "auth.keys" in command(config, "keys", "list", code=1).stderr


def test_check_reads_the_keys_and_certificate_files(tmp_path: Path) -> None:
    config, file = tmp_path / "gateway.yaml", tmp_path / "keys.yaml"
    (tmp_path / "models").mkdir()
    (tmp_path / "routing.yaml").write_text("")
    common = f"models: {{path: {tmp_path / 'models'}}}\nrouting: {tmp_path / 'routing.yaml'}\n"
    config.write_text(f"{common}auth: {{keys: {file}}}")
    assert "no such file" in command(config, "check", code=1).stderr
    command(config, "keys", "add", "--customer", "acme", "--scope", "predict")
    command(config, "check")
    config.write_text(f"{common}control: {{tls: {{certificate: {file}, key: {file}}}}}")
    assert "cannot be used as a certificate" in command(config, "check", code=1).stderr
