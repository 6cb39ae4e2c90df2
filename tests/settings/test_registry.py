"""The settings of a model registry."""

import re

import pytest

from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import parse
from gateway.settings.registry import MlflowSettings
from gateway.settings.routing import RoutingSettings
from gateway.settings.warnings import routing_warnings

ROUTING = "models: {digits: {stable: 1, registry: '7'}}"


def mlflow(text: str) -> MlflowSettings:
    registry = parse(f"registry: {{mlflow: {{{text}}}}}", GatewaySettings, "gateway.yaml").registry
    assert registry is not None
    return registry.mlflow


def test_every_key_but_the_address_has_a_default() -> None:
    found = mlflow("url: 'http://mlflow:5000'")
    assert (found.url, found.poll, found.follow, found.weight) == ("http://mlflow:5000", 10.0, "challenger", None)
    assert found.token_value() == ""
    assert parse("", GatewaySettings, "gateway.yaml").registry is None
    assert mlflow("url: 'http://m', weight: ramp").weight == "ramp"
    assert mlflow("url: 'http://m', weight: 0.5").weight == 5000


def test_the_token_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mlflow("url: 'http://m', token: {env: FAKE_TOKEN}, user: gateway")
    monkeypatch.setenv("FAKE_TOKEN", "fake-token")
    assert found.token_value() == "fake-token"
    monkeypatch.setenv("FAKE_TOKEN", "fake\ntoken")
    with pytest.raises(ValueError, match="FAKE_TOKEN holds characters that no header may have"):
        found.token_value()
    monkeypatch.delenv("FAKE_TOKEN")
    with pytest.raises(ValueError, match="has no variable FAKE_TOKEN; set it"):
        found.token_value()


def test_the_webhooks_secret_is_in_the_environment_and_long(monkeypatch: pytest.MonkeyPatch) -> None:
    found = mlflow("url: 'http://m', webhook_secret: {env: FAKE_SECRET}")
    monkeypatch.setenv("FAKE_SECRET", "fake-secret-geheim-größe")
    assert found.webhook_secret_value() == "fake-secret-geheim-größe"
    assert mlflow("url: 'http://m'").webhook_secret_value() == ""
    monkeypatch.setenv("FAKE_SECRET", "fake-secret-123")
    with pytest.raises(ValueError, match="FAKE_SECRET has 15 characters; 16 are needed"):
        found.webhook_secret_value()
    monkeypatch.delenv("FAKE_SECRET")
    with pytest.raises(ValueError, match="webhook_secret: the environment has no variable FAKE_SECRET"):
        found.webhook_secret_value()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poll: 10s", "registry.mlflow: 'url' is missing"),
        ("url: 'http://user:fake@m'", "must not have a user"),
        ("url: mlflow", "not an address"),
        ("url: 'http://m', poll: 500ms", "registry.mlflow.poll"),
        ("url: 'http://m', follow: everything", "registry.mlflow.follow"),
        ("url: 'http://m', user: gateway", "has a user, but no token"),
        ("url: 'http://m', ca: ca.pem", "ca is for https"),
        ("url: 'http://m', token: fake", "registry.mlflow.token"),
        ("url: 'http://m', weight: 101", "registry.mlflow.weight"),
    ],
)
def test_mistakes_are_refused_with_their_path(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        mlflow(text)


def test_a_model_names_its_registered_model_and_is_warned_of_without_a_registry() -> None:
    routing = parse(ROUTING, RoutingSettings, "routing.yaml")
    assert routing.models["digits"].registry == "7"
    assert routing_warnings(routing) == []
    assert routing_warnings(routing, has_registry=False) == [
        "models.digits.registry: it has no effect, since gateway.yaml names no registry; add registry.mlflow.url there"
    ]


def test_two_models_cannot_have_one_name_in_the_registry() -> None:
    text = "models: {a: {stable: 1, registry: r}, c: {stable: 1, registry: s}, d: {stable: 1, registry: r}}"
    with pytest.raises(SettingsError, match=r"models\.d\.registry: 'r' is that of a, too"):
        parse(text, RoutingSettings, "routing.yaml")
    assert parse(text.replace("registry: r}}", "registry: t}}"), RoutingSettings, "routing.yaml").models["d"].registry
