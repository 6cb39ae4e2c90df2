"""Where `gateway feedback` sends to, and with which key."""

import pytest

from gateway.cli.data_client import data_client
from gateway.cli.refusal import CommandError
from gateway.settings.gateway import GatewaySettings, ServerSettings


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://127.0.0.1:80"), ("::1", "http://[::1]:80"), ("inner", "http://inner:80")]
)
def test_data_plane_is_that_of_the_settings(host: str, url: str) -> None:
    with data_client(GatewaySettings(server=ServerSettings(host=host, port=80)), None) as client:
        assert str(client.base_url).rstrip("/") == url.removesuffix(":80")
        assert "authorization" not in client.headers


def test_key_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", "not-a-real-key")
    with data_client(None, "http://elsewhere:9") as client:
        assert client.headers["authorization"] == "Bearer not-a-real-key"
        assert client.base_url == "http://elsewhere:9"


@pytest.mark.parametrize("url", ["localhost:8000", "localhost", "ftp://gateway:8000", "http://", "http://user@gateway"])
def test_what_is_no_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(CommandError, match="is not the address of a data plane; write for example https://gateway"):
        data_client(None, url)
