"""The settings of a fleet: which store, where its URL comes from, and what errors say."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings.fleet import FleetSettings

URL = "redis://:not-a-real-password@10.0.0.5:6379/0"


def test_only_the_store_must_be_given() -> None:
    fleet = FleetSettings.model_validate({"store": URL})
    assert (fleet.url(), fleet.name, fleet.lease, fleet.when_lost, fleet.host) == (URL, "gateway", 3.0, "close", None)


def test_url_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = FleetSettings.model_validate({"store": {"env": "FLEET_STORE"}})
    monkeypatch.delenv("FLEET_STORE", raising=False)
    with pytest.raises(ValueError, match=r"fleet\.store: the environment has no variable FLEET_STORE; set it"):
        fleet.url()
    monkeypatch.setenv("FLEET_STORE", URL)
    assert fleet.url() == URL
    monkeypatch.setenv("FLEET_STORE", "mysql://:not-a-real-password@x")
    with pytest.raises(ValueError, match=r"fleet\.store: the variable FLEET_STORE: .*must begin with") as error:
        fleet.url()
    assert "not-a-real-password" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"store": "mysql://x"}, "must begin with one of redis://"),
        ({"store": 7}, "must be a URL"),
        ({"store": {"enviroment": "X"}}, "env"),
        ({"name": "a b"}, "letters, digits, dots"),
        ({"name": ""}, "letters, digits, dots"),
        ({"lease": "10ms"}, "greater than or equal to 1"),
        ({"lease": "2h"}, "less than or equal to 60"),
        ({"when_lost": "open"}, "close"),
    ],
)
def test_error_says_what_is_wrong(more: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        FleetSettings.model_validate({"store": URL, **more})
