"""Reads the file of API keys, which says who may do what. It holds only hashes, and others may not read or write it."""

import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from gateway.errors import SettingsError
from gateway.settings.base import Settings
from gateway.settings.load import decode_file, parse
from gateway.settings.units import Text, parse_moment, parse_name, parse_text

KEY_PREFIX: Final = "cgw_"  # of every key, so that people and secret scanners recognise it
MAX_CUSTOMER: Final = 200
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_KEY: Final = re.compile(rf"{KEY_PREFIX}[A-Za-z0-9_-]+")


class Scope(StrEnum):
    """What a key may do. `delegate`: predict, or give feedback, in the name of the customer that the request names."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    OPERATE = "operate"
    READ = "read"
    DELEGATE = "delegate"


def customer_name(value: str) -> str:
    """Return `value` if it is usable as a customer's name in headers, logs and tables; raises ValueError."""
    if not value or value != value.strip() or not value.isprintable() or len(value) > MAX_CUSTOMER:
        raise ValueError(f"a customer is named by 1 to {MAX_CUSTOMER} printable characters without space around them")
    return value


def usable_scopes(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """Return `scopes`; raises ValueError if one of them has no effect without another."""
    if Scope.DELEGATE in scopes and not {Scope.PREDICT, Scope.FEEDBACK}.intersection(scopes):
        raise ValueError("delegate says for whom a key predicts or gives feedback: add predict or feedback")
    return scopes


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):  # the value is not shown: it may be a key itself
        raise ValueError("must be the SHA-256 of a key, 64 hexadecimal digits; `gateway keys add` writes it")
    return value


def _key_id(value: Any) -> str:
    return parse_name(parse_text(value))  # `gateway keys add` may generate an id such as 1234e567


class KeySettings(Settings):
    """One API key. `sha256`: hash of the key, in hexadecimal."""

    id: Annotated[str, BeforeValidator(_key_id)]
    sha256: Annotated[str, BeforeValidator(_digest)]
    customer: Annotated[Text, AfterValidator(customer_name)]
    scopes: Annotated[tuple[Scope, ...], AfterValidator(usable_scopes)] = Field(min_length=1)
    created: Annotated[AwareDatetime, BeforeValidator(parse_moment)]
    expires: Annotated[AwareDatetime | None, BeforeValidator(parse_moment)] = None


class KeysSettings(Settings):
    """The whole file."""

    keys: tuple[KeySettings, ...] = ()

    @model_validator(mode="after")
    def _unique(self) -> "KeysSettings":
        check_unique(self.keys)
        return self


def check_unique(keys: Sequence[KeySettings]) -> None:
    """Raise ValueError if two keys have the same id or hash."""
    for name, values in (("id", [key.id for key in keys]), ("sha256", [key.sha256 for key in keys])):
        if len(set(values)) < len(values):
            twice = sorted(value for value, count in Counter(values).items() if count > 1)
            raise ValueError(f"two keys have the same {name}, {twice[0]}")


def load_keys(path: Path) -> KeysSettings:
    """Read the keys. If the file is missing, invalid or open to others, raises SettingsError, without any key."""
    return parse_keys(keys_text(path), path)


def keys_text(path: Path) -> str:
    """Read the file's text; raises SettingsError if it cannot be read or is open to others."""
    try:
        with path.open("rb") as file:
            exposed = _exposed(os.fstat(file.fileno()))
            content = file.read()
    except FileNotFoundError:
        raise SettingsError(str(path), ["there is no such file; `gateway keys add` creates it"]) from None
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from None
    if exposed:
        raise SettingsError(str(path), [exposed])
    return decode_file(content, str(path))


def parse_keys(text: str, path: Path) -> KeysSettings:
    """Parse the text of the file; raises SettingsError, which never shows a key."""
    try:
        return parse(text, KeysSettings, str(path))
    except SettingsError as error:
        raise SettingsError(str(path), [_KEY.sub(f"{KEY_PREFIX}…", problem) for problem in error.problems]) from None


def _exposed(status: os.stat_result) -> str:
    """Return the problem with the file's mode, or an empty string.

    A file owned by root may be readable by its group (libpq's rule for private keys), because secrets are mounted that
    way into containers whose user is not root.
    """
    mode = stat.S_IMODE(status.st_mode)
    shared = stat.S_IRGRP if status.st_uid == 0 else 0
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~shared:
        return f"its mode is {mode:03o}, so others may read or change who has access; run: chmod 600 (or 400)"
    return ""
