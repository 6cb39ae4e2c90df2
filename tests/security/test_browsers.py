"""Web pages in a local browser: of another site (CSRF), or under a host name that resolves to here (DNS rebinding)."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.errors import Forbidden
from gateway.worker.http.access import Access
from loadtests.free_port import free_port
from tests.cli.test_main import gateway as command
from tests.processes.flawed import gateway, release
from tests.running import GatewayProcess
from tests.security.guarded import Guarded, bearer, guarded

pytestmark = pytest.mark.slow

EVIL = "http://evil.example"
ORDERS = ("stop", "resume", "promote")
FROM_ELSEWHERE: list[dict[str, str]] = [
    {"origin": EVIL},
    {"origin": "null"},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "http://localhost.evil.example"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
]
FORMS = ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "application/jsonp"]


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
def test_order_from_a_page_of_another_site_is_refused(
    local: GatewayProcess, running: Guarded, headers: dict[str, str]
) -> None:
    for order in ORDERS:
        stop = f"{local.control_url}/api/releases/flawed/{order}"
        answer = httpx.post(stop, json={"reason": "evil"}, headers=headers)
        assert (answer.status_code, answer.json().keys()) == (403, {"error"})
        guarded_stop = f"{running.gateway.control_url}/api/releases/flawed/{order}"
        assert running.ask("operator", "POST", guarded_stop, json={}, headers=headers).status_code == 403
    assert not release(local)["stopped"]


@pytest.mark.parametrize("kind", FORMS)
def test_order_sent_by_a_form_is_refused(local: GatewayProcess, kind: str) -> None:
    stop = f"{local.control_url}/api/releases/flawed/stop"
    for content in (b'{"reason": "evil"}', b"reason=evil"):
        answer = httpx.post(stop, content=content, headers={"content-type": kind})
        assert (answer.status_code, "application/json" in answer.json()["error"]) == (415, True)
    chunked = httpx.post(stop, content=iter([b'{"reason": "evil"}']), headers={"content-type": kind})
    assert chunked.status_code == 415
    assert not release(local)["stopped"]


def test_order_from_the_gateway_s_own_page_is_accepted(local: GatewayProcess) -> None:
    own = {"origin": local.control_url, "sec-fetch-site": "same-origin"}
    for order in ("stop", "resume"):
        url = f"{local.control_url}/api/releases/flawed/{order}"
        assert httpx.post(url, json={"reason": "the console"}, headers=own).status_code == 200
    url = f"{local.control_url}/api/releases/flawed/stop"
    assert (
        httpx.post(url, headers={"content-type": "application/json; charset=utf-8"}, content=b"{}").status_code == 200
    )
    assert httpx.post(url.replace("stop", "resume")).status_code == 200, "nothing to say is no form"


POINTED_HERE = [
    "evil.example",
    "evil.example:8002",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost:80.evil.example",
    "0.0.0.0",
    "[::]",
    "[::1].evil.example",
    "127.1",
    "2130706433",
    "localhost@evil.example",
    "evil.example#localhost",
    "",
]
THIS_MACHINE = ["localhost", "LOCALHOST:8002", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:8002"]


@pytest.mark.parametrize("host", POINTED_HERE)
def test_request_under_a_foreign_host_name_is_refused(local: GatewayProcess, host: str) -> None:
    for method, path in (("GET", "/api/releases"), ("GET", "/metrics"), ("POST", "/api/releases/flawed/stop")):
        same = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        answer = httpx.request(method, local.control_url + path, headers=same)
        assert (answer.status_code, "localhost" in answer.json()["error"]) == (400, True)
    assert not release(local)["stopped"]


@pytest.mark.parametrize("host", THIS_MACHINE)
def test_request_under_a_local_host_name_is_served(local: GatewayProcess, host: str) -> None:
    assert httpx.get(f"{local.control_url}/api/releases", headers={"host": host}).status_code == 200


def test_with_keys_any_host_name_is_served_to_a_key_holder(running: Guarded) -> None:
    """A web page has no key, and a proxy or a container has names of its own."""
    url = f"{running.gateway.control_url}/api/releases"
    assert httpx.get(url, headers={"host": "gateway.example"}).status_code == 401
    assert running.ask("reader", "GET", url, headers={"host": "gateway.example"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [*FROM_ELSEWHERE, {"host": "evil.example", "origin": EVIL}, {"sec-fetch-site": "same-origin"}],
    ids=str,
)
def test_load_or_unload_from_a_page_is_refused(local: GatewayProcess, headers: dict[str, str]) -> None:
    for order in ("load", "unload"):
        answer = httpx.post(f"{local.url}/v2/repository/models/flawed/{order}", headers=headers)
        assert (answer.status_code, answer.json().keys()) == (403, {"error"})
    assert httpx.get(f"{local.url}/v2/models/flawed/ready").status_code == 200


@pytest.mark.parametrize(
    ("address", "may"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.7", False), ("::ffff:10.0.0.7", False)],
)
def test_without_keys_only_this_machine_may_load_and_unload(address: str, may: bool) -> None:
    """The data plane of a container listens on all addresses."""
    for order in ("load", "unload"):
        path = f"/v2/repository/models/flawed/{order}"
        scope = {"type": "http", "method": "POST", "path": path, "client": (address, 4711), "query_string": b""}
        with nullcontext() if may else pytest.raises(Forbidden, match=r"auth\.keys"):
            Access().other(scope, {})
    assert Access().other({**scope, "path": "/v2/repository/index"}, {}) is None


def test_feedback_from_a_page_of_another_site_is_refused(local: GatewayProcess) -> None:
    answer = httpx.post(f"{local.url}/v2/feedback", content=b"[]", headers={"origin": EVIL})
    assert answer.status_code == 403


def test_no_answer_has_cors_headers(local: GatewayProcess, running: Guarded) -> None:
    for url in (f"{local.url}/v2", f"{local.control_url}/api/releases", f"{running.gateway.control_url}/health"):
        for method in ("GET", "OPTIONS"):
            headers = {"origin": EVIL, "access-control-request-method": "POST"}
            answer = httpx.request(method, url, headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_control_plane_on_another_address_needs_keys(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"control": {"host": "127.0.0.2", "port": free_port()}}
    absent = gateway(tmp_path / "open", **settings)
    refused = command("serve", "--config", str(absent.config), code=1)
    assert "control.host" in refused.stderr
    assert "auth.keys" in refused.stderr
    with guarded(tmp_path / "guarded", **settings).gateway as started:
        assert started.control_url.startswith("http://127.0.0.2:")
        assert httpx.get(f"{started.control_url}/health").status_code == 200
        assert httpx.get(f"{started.control_url}/metrics").status_code == 401
        assert httpx.get(f"{started.control_url}/metrics", headers=bearer("cgw_none")).status_code == 401


@pytest.mark.parametrize("keys", ["absent.yaml", "open.yaml", "broken.yaml"])
def test_gateway_with_unreadable_keys_does_not_start(tmp_path: Path, keys: str) -> None:
    (tmp_path / "open.yaml").write_text("keys: []")
    (tmp_path / "open.yaml").chmod(0o644)
    (tmp_path / "broken.yaml").write_text("keys: [{}]")
    (tmp_path / "broken.yaml").chmod(0o600)
    absent = gateway(tmp_path / "gateway", auth={"keys": str(tmp_path / keys)})
    refused = command("serve", "--config", str(absent.config), code=1)
    assert (keys in refused.stderr, "Traceback" in refused.stderr) == (True, False)
