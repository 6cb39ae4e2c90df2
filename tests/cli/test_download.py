"""Downloads of versions from a real server, with and without TLS; it is not trusted."""

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
import trustme

from gateway.cli.download import AUTHORIZATION_VARIABLE, OVERHEAD_BYTES, download, shown_address
from gateway.cli.proposed_version import proposed_version
from gateway.cli.refusal import CommandError
from gateway.settings.gateway import GatewaySettings
from tests.control.proposals.test_tar_stream import archive

MODEL = (Path(__file__).parents[2] / "models" / "digits" / "2" / "model.onnx").read_bytes()
MAX_BYTES = 1 << 20
SHA256 = hashlib.sha256(MODEL).hexdigest()
SECRET = "Bearer not-a-key"


class Handler(BaseHTTPRequestHandler):
    """Answers by path; `/to/ADDRESS` redirects there, `/loop` to itself."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("authorization", "")))
        path, _, _ = self.path.partition("?")
        if path.startswith("/to/"):
            return self._answer(302, b"", location=self.path.removeprefix("/to/"))
        if path == "/loop":
            return self._answer(302, b"", location="/loop")
        if path in ("/denied", "/missing", "/broken"):
            return self._answer({"/denied": 401, "/missing": 404, "/broken": 302}[path], b"")
        if path == "/short":
            return self._answer(200, MODEL[:-100], length=len(MODEL))
        if path == "/large":
            return self._answer(200, b"", length=MAX_BYTES + OVERHEAD_BYTES + 1)
        content = {"/v.onnx": MODEL, "/v.tar": archive({"model.onnx": MODEL}), "/page": b"<html>"}[path]
        return self._answer(200, content)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, content: bytes, length: int | None = None, location: str = "") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content) if length is None else length))
        if location:
            self.send_header("location", location)
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """`asked`: the paths, each with its Authorization header."""

    daemon_threads = True

    def __init__(self, authority: trustme.CA | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str]] = []
        self.url = f"http{'s' if authority else ''}://127.0.0.1:{self.server_port}"
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            self.socket = context.wrap_socket(self.socket, server_side=True)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def plain() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Server]:
    with serving(Server(authority)) as server:
        yield server


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    with server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def got(address: str, folder: Path, sha256: str | None = None) -> bytes:
    folder = folder / "made"
    folder.mkdir()
    path = download(address, folder, max_bytes=MAX_BYTES, sha256=sha256, progress=lambda done, size: None)
    return (path / "model.onnx" if path.is_dir() else path).read_bytes()


@pytest.mark.parametrize("path", ["/v.onnx", "/v.tar", "/v.onnx?signature=abc", "/to//v.onnx"])
def test_fetches_a_model_or_an_archive(path: str, plain: Server, tmp_path: Path) -> None:
    assert got(plain.url + path, tmp_path) == MODEL


def test_a_hash_must_fit(plain: Server, tmp_path: Path) -> None:
    assert got(f"{plain.url}/v.onnx", tmp_path, SHA256) == MODEL
    with pytest.raises(CommandError, match=f"v.tar has the SHA-256 [0-9a-f]+, not {SHA256}"):
        got(f"{plain.url}/v.tar", tmp_path / "made", SHA256)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/missing", "/missing answers 404"),
        ("/denied", "/denied answers 401; its Authorization header is read from"),
        ("/broken", "/broken answers 302"),
        ("/page", "is a page, not a model"),
        ("/short?signature=abc", "/short cannot be fetched: "),
        ("/large", "is larger than 1048576 bytes"),
        ("/loop", "/loop redirects more than 5 times"),
        ("/to/ftp://127.0.0.1/v.onnx", "is no http or https address"),
        ("/to/file:///etc/passwd", "is no http or https address"),
        ("/to/http://me:secret@127.0.0.1/v.onnx", "holds a password"),
        ("/to/http://[::bad/", "cannot be fetched"),
    ],
)
def test_says_what_is_wrong_without_secrets(path: str, says: str, plain: Server, tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        got(plain.url + path, tmp_path)
    assert (says in str(refused.value), "abc" in str(refused.value), "secret" in str(refused.value)) == (
        True,
        False,
        False,
    ), refused.value


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"http://127\.0\.0\.1:9/v\.onnx cannot be fetched: "):
        got("http://127.0.0.1:9/v.onnx", tmp_path)


def test_a_certificate_that_is_not_trusted_is_refused(secure: Server, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="certificate verify failed"):
        got(f"{secure.url}/v.onnx", tmp_path)
    assert secure.asked == []


@pytest.mark.usefixtures("trusted")
def test_the_secret_is_sent_to_the_server_that_was_named_only(
    secure: Server, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTHORIZATION_VARIABLE, SECRET)
    with serving(Server(authority)) as other:
        assert got(f"{secure.url}/to/{other.url}/v.onnx", tmp_path) == MODEL
        assert other.asked == [("/v.onnx", "")]
    assert [sent for _, sent in secure.asked] == [SECRET]


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_https_to_http_is_refused(secure: Server, plain: Server, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="redirects to http, where"):
        got(f"{secure.url}/to/{plain.url}/v.onnx", tmp_path)
    assert plain.asked == []


@pytest.mark.parametrize(
    ("secret", "says"), [(SECRET, "is sent to https addresses only"), ("a\nb: c", "is sent to https")]
)
def test_the_secret_is_not_sent_in_the_clear(
    secret: str, says: str, plain: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTHORIZATION_VARIABLE, secret)
    with pytest.raises(CommandError, match=says):
        got(f"{plain.url}/v.onnx", tmp_path)
    assert plain.asked == []


@pytest.mark.usefixtures("trusted")
def test_a_secret_that_is_no_header_is_not_printed(
    secure: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(AUTHORIZATION_VARIABLE, "Bearer\nnot-a-key")
    with pytest.raises(CommandError, match="characters that a header cannot have") as refused:
        got(f"{secure.url}/v.onnx", tmp_path)
    assert "not-a-key" not in str(refused.value)


def test_what_is_shown_of_an_address_has_no_signature() -> None:
    assert shown_address("https://store/v.onnx?X-Amz-Signature=abc#x") == "https://store/v.onnx"
    assert shown_address("https://store/\x1b[2J") == "https://store/\\x1b[2J"


def test_what_was_fetched_is_removed(plain: Server) -> None:
    address, sha256 = f"{plain.url}/v.onnx?key=abc", f"sha256:{SHA256.upper()}"
    with proposed_version(address, GatewaySettings(), sha256=sha256, registry=None) as found:
        assert found.path.read_bytes() == MODEL
        assert found.origin == f"{plain.url}/v.onnx"
    assert not found.path.parent.exists()


@pytest.mark.parametrize(
    ("place", "sha256", "says"),
    [
        (Path(__file__), SHA256, "--sha256 is for http and https"),
        ("http://127.0.0.1:9/", SHA256[1:], "takes 64 hexadecimal digits"),
        ("models:/digits@champion", None, r"--registry or \$MLFLOW_TRACKING_URI"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    place: Path | str, sha256: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    ask = proposed_version(place, GatewaySettings(), sha256=sha256, registry=None)
    with pytest.raises(click.ClickException, match=says), ask:
        pass
