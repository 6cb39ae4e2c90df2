"""Which MLflow server `gateway propose models:/…` asks, and how it signs in."""

from pathlib import Path

import pytest

from gateway.cli.refusal import CommandError
from gateway.cli.registered_version import Registry, fetch_registered, registry_at
from gateway.settings.registry import MlflowSettings

VARIABLES = (
    "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_SERVER_CERT_PATH",
)  # fmt: skip
CONFIGURED = MlflowSettings.model_validate({"url": "http://configured", "token": {"env": "OURS"}, "user": "gateway"})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OURS", "not-a-token")
    return monkeypatch


def test_the_option_goes_before_the_file_and_the_file_before_the_variables(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    assert registry_at(None, None).url == "http://tracking"
    environment.setenv("MLFLOW_REGISTRY_URI", "http://registry")
    assert registry_at(None, None).url == "http://registry"
    assert registry_at(None, CONFIGURED) == Registry("http://configured", "not-a-token", "gateway", None)
    assert registry_at("http://option", CONFIGURED) == Registry("http://option")  # without the other one's token


def test_it_signs_in_as_mlflow_does(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("MLFLOW_TRACKING_TOKEN", "not-a-token-either")
    assert registry_at("https://m", None) == Registry("https://m", "not-a-token-either")
    environment.setenv("MLFLOW_TRACKING_USERNAME", "me")
    environment.setenv("MLFLOW_TRACKING_PASSWORD", "not-a-password")
    environment.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "ca.pem")
    assert registry_at("https://m", None) == Registry("https://m", "not-a-password", "me", "ca.pem")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, r"Name it with --registry or \$MLFLOW_TRACKING_URI"),
        ("sqlite:///mlflow.db", "is not the address of an MLflow server"),
        ("http://me:secret@mlflow", "'mlflow' is not the address"),
    ],
)
def test_what_is_no_server_is_refused(url: str | None, says: str) -> None:
    with pytest.raises(CommandError, match=says) as refused:
        registry_at(url, None)
    assert "secret" not in str(refused.value)


def test_a_missing_token_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("OURS")
    with pytest.raises(CommandError, match="the environment has no variable OURS"):
        registry_at(None, CONFIGURED)


@pytest.mark.parametrize(
    "reference",
    ["models:/digits", "models:/digits/Production", "models:/digits/0", "models:/digits/9999999999", "models:/a/1/b"],
)
def test_a_reference_needs_a_version_or_an_alias(reference: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="write models:/NAME@ALIAS or models:/NAME/VERSION"):
        fetch_registered(reference, Registry("http://m"), tmp_path, max_bytes=1, progress=lambda done, size: None)


def test_a_server_that_is_not_there_is_said(tmp_path: Path) -> None:
    registry, folder = Registry("http://127.0.0.1:9"), tmp_path / "version"
    with pytest.raises(CommandError, match=r"http://127\.0\.0\.1:9/api.* cannot be reached"):
        fetch_registered("models:/digits@champion", registry, folder, max_bytes=1, progress=lambda done, size: None)
