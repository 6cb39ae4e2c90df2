"""Which version of a registry an origin.json names."""

import pytest

from gateway.registry.origin import Origin

ORIGIN = Origin(registry="mlflow", url="http://mlflow:5000", model="digits", version="7")


@pytest.mark.parametrize(
    ("registry", "model", "version", "same"),
    [
        ("mlflow", "digits", 7, True),
        ("mlflow", "digits", 2, False),  # proposed by hand, under the gateway's next number
        ("mlflow", "letters", 7, False),
        ("other", "digits", 7, False),
    ],
)
def test_an_origin_names_one_version(registry: str, model: str, version: int, same: bool) -> None:
    assert ORIGIN.names(registry, model, version) is same
