"""The conditions of a route: on a request's customer, modality, headers and parameters."""

from typing import Any

import re2
from pydantic import ConfigDict, Field, field_validator, model_validator

from gateway.settings.base import Settings
from gateway.settings.units import Text, parse_text


def text_of(value: Any) -> str:
    """Convert a JSON value of a request to the text to match: true, 1, 1.5. JSON's 1.10 is 1.1, since it is parsed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)


def _given(value: Any) -> Any:
    """Refuse null: it would be read as an absent condition, which matches everyone."""
    if value is None:
        raise ValueError("is empty; give it a value or omit the key")
    return value


def _or_scalar(schema: dict[str, Any]) -> None:
    """Allow a bare scalar as a matcher in the JSON Schema as well."""
    mapping = dict(schema)
    schema.clear()
    schema["anyOf"] = [{"type": ["string", "number"]}, mapping]


class MatcherSettings(Settings):
    """Conditions on one attribute, all of which must hold. A bare scalar means `exact`.

    Values are compared as text, with or without quotes: 0123 does not match 123, nor 1.10 match 1.1.
    """

    model_config = ConfigDict(json_schema_extra=_or_scalar)

    exact: Text | None = None
    """The value equals this."""
    in_: frozenset[Text] | None = Field(default=None, alias="in")
    """The value is one of these."""
    prefix: Text | None = None
    """The value begins with this."""
    suffix: Text | None = None
    """The value ends with this."""
    regex: Text | None = None
    """The whole value matches this RE2 pattern."""
    not_: "MatcherSettings | None" = Field(default=None, alias="not")
    """The value does not match this matcher."""

    @model_validator(mode="before")
    @classmethod
    def _bare_is_exact(cls, value: Any) -> Any:
        if isinstance(value, dict | MatcherSettings):
            if not value:
                raise ValueError("is empty; give one of exact, in, prefix, suffix, regex, not")
            return value
        if isinstance(value, list):
            raise ValueError("is a list; write {in: [...]} for any of several values")
        return {"exact": value}

    @field_validator("exact", "prefix", "suffix", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return parse_text(value)

    @field_validator("in_", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if not isinstance(value, list | set | frozenset | tuple) or not value:
            raise ValueError("must be a list of at least one value")
        return frozenset(parse_text(item) for item in value)

    @field_validator("regex", "not_", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        return _given(value)

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        options = re2.Options()
        options.log_errors = False
        try:
            re2.compile(value, options)
        except re2.error as error:
            raise ValueError(
                f"{value!r} is not an RE2 pattern ({_words(error)}); RE2 has neither look-around nor back-references,"
                " so that no pattern is slow"
            ) from None
        return value


def _words(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


class MatchSettings(Settings):
    """One item of `match`: all its conditions must hold."""

    customer: MatcherSettings | None = None
    """The customer: that of the API key, or, without `auth.keys`, of `x-customer-id` or `parameters.customer`."""
    modality: MatcherSettings | None = None
    """The modality: `parameters.modality`, `x-modality`, a raw body's content type, or the model's own."""
    headers: dict[str, MatcherSettings] = Field(default_factory=dict)
    """Request headers by name; names are case-insensitive."""
    parameters: dict[str, MatcherSettings] = Field(default_factory=dict)
    """The request's `parameters` by name. JSON numbers match as Python prints them: 1.10 as 1.1, 1e3 as 1000.0."""

    @field_validator("customer", "modality", mode="before")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        return _given(value)

    @field_validator("headers")
    @classmethod
    def _lower(cls, value: dict[str, MatcherSettings]) -> dict[str, MatcherSettings]:
        lowered: dict[str, MatcherSettings] = {}
        for name, matcher in value.items():
            if name.lower() in lowered:
                raise ValueError(f"'{name}' is listed twice: upper and lower case make no difference in header names")
            lowered[name.lower()] = matcher
        return lowered
