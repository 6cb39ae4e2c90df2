"""The file of API keys: who may do what. It holds hashes only, and no one else may read or change it."""

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
from gateway.settings.load import decoded, parse
from gateway.settings.units import Text, parse_moment, parse_name, parse_text

KEY_PREFIX: Final = "cgw_"  # of every key, so that a person or a scanner of leaked secrets knows one when it sees it
MAX_CUSTOMER: Final = 200
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_KEY: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]+")


class Scope(StrEnum):
    """What a key may do."""

    PREDICT = "predict"
    FEEDBACK = "feedback"
    OPERATE = "operate"
    READ = "read"


def customer_name(value: str) -> str:
    """`value`, where it can name a customer in headers, logs and tables; raises ValueError."""
    if not value or value != value.strip() or not value.isprintable() or len(value) > MAX_CUSTOMER:
        raise ValueError(f"a customer is named by 1 to {MAX_CUSTOMER} printable characters without space around them")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):  # the value is not shown: it may be a key itself
        raise ValueError("must be the SHA-256 of a key, 64 hexadecimal digits; `gateway keys add` writes it")
    return value


def _key_id(value: Any) -> str:
    return parse_name(parse_text(value))  # 1234e567 is one that `gateway keys add` may have made


class KeySettings(Settings):
    """One key. `sha256`: of the key, in hexadecimal."""

    id: Annotated[str, BeforeValidator(_key_id)]
    sha256: Annotated[str, BeforeValidator(_digest)]
    customer: Annotated[Text, AfterValidator(customer_name)]
    scopes: tuple[Scope, ...] = Field(min_length=1)
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
    """Raises ValueError where two keys have the same id or hash."""
    for name, values in (("id", [key.id for key in keys]), ("sha256", [key.sha256 for key in keys])):
        if len(set(values)) < len(values):
            twice = sorted(value for value, count in Counter(values).items() if count > 1)
            raise ValueError(f"two keys have the same {name}, {twice[0]}")


def load_keys(path: Path) -> KeysSettings:
    """The keys; raises SettingsError, which never shows a key, where the file is missing, wrong, or open to others."""
    return parse_keys(keys_text(path), path)


def keys_text(path: Path) -> str:
    """The file's text; raises SettingsError."""
    try:
        with path.open("rb") as file:
            exposed = _exposed(os.fstat(file.fileno()))
            content = file.read()
    except FileNotFoundError:
        raise SettingsError(str(path), ["there is no such file; `gateway keys add` begins one"]) from None
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from None
    if exposed:
        raise SettingsError(str(path), [exposed])
    return decoded(content, str(path))


def parse_keys(text: str, path: Path) -> KeysSettings:
    """What the text of the file says; raises SettingsError, which never shows a key."""
    try:
        return parse(text, KeysSettings, str(path))
    except SettingsError as error:
        raise SettingsError(str(path), [_KEY.sub(f"{KEY_PREFIX}…", problem) for problem in error.problems]) from None


def _exposed(status: os.stat_result) -> str:
    """What is wrong with the file's mode; empty where nothing is.

    A file of root's may be read by its group (as libpq has it for private keys): so do secrets reach a container whose
    user is not root.
    """
    mode = stat.S_IMODE(status.st_mode)
    shared = stat.S_IRGRP if status.st_uid == 0 else 0
    if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~shared:
        return f"its mode is {mode:03o}, so others may read or change who has access; run: chmod 600 (or 400)"
    return ""
