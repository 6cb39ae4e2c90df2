"""The attributes that a request states: headers and parameters."""

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.errors import InvalidRequest
from gateway.routing.attributes import Attributes
from gateway.web.body import Headers
from gateway.worker.http.attributes import attributes_of


def attributes(headers: Headers, parameters: dict[str, Any] | None = None, media: str | None = None) -> Attributes:
    served: Any = SimpleNamespace(modality="tabular", header_keys=(("x-region", b"x-region"),))
    return attributes_of(served, headers, parameters or {}, media)


@pytest.mark.parametrize("value", [b"eu", b"eu ", b"\teu", b" \t eu\t "])
def test_spaces_around_a_header_value_are_stripped(value: bytes) -> None:
    found = attributes({b"x-customer-id": value, b"x-modality": value, b"x-region": value})
    assert (found.customer, found.modality, found.headers) == ("eu", "eu", {"x-region": "eu"})


def test_spaces_within_a_header_value_are_kept() -> None:
    assert attributes({b"x-customer-id": b" a b "}).customer == "a b"
    assert attributes({b"x-customer-id": b" \xe9 "}).customer == "\xe9"


def test_header_of_only_spaces_is_ignored() -> None:
    found = attributes({b"x-customer-id": b" ", b"x-modality": b"\t"}, {"customer": "acme"})
    assert (found.customer, found.modality) == ("acme", "tabular")


@pytest.mark.parametrize(
    ("headers", "parameters", "media", "expected"),
    [
        ({b"x-modality": b"audio"}, {"modality": "text"}, "image", "text"),
        ({b"x-modality": b"audio"}, {}, "image", "audio"),
        ({}, {}, "image", "image"),
        ({}, {}, None, "tabular"),
    ],
)
def test_first_modality_found_wins(
    headers: Headers, parameters: dict[str, Any], media: str | None, expected: str
) -> None:
    assert attributes(headers, parameters, media).modality == expected


def test_customer_parameter_that_is_no_string_is_refused_briefly() -> None:
    with pytest.raises(InvalidRequest, match="customer must be a string") as refusal:
        attributes({}, {"customer": ["long" * 100] * 100_000})
    assert len(str(refusal.value)) < 200
