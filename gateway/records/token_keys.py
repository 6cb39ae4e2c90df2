"""Stores and rotates the keys that sign prediction ids, in the state folder. The newest signs; old ones verify."""

import contextlib
import logging
import secrets
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.errors import SettingsError
from gateway.records.token import Signer
from gateway.system.durable_files import replace_durably
from gateway.system.permissions import owner_remedy

KEY_BYTES: Final = 32
ROTATE_AFTER_S: Final = 30 * 86400.0
MAX_CLOCK_ERROR_S: Final = 86400.0  # a key dated further in the future than this was made while the clock was wrong
KEY_NUMBERS: Final = 256
MAX_KEYS: Final = 200  # keys kept: at one a month, no prediction is older than the oldest
log: Final = logging.getLogger("gateway.records")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key. `number`: from 0 to 255, in each prediction id; two hosts may have made keys of the same number.

    `created_s`: seconds since 1970 on the clock of the host that made it.
    """

    number: int
    created_s: float
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """The keys; the last one signs. `made`: this process has just made that one, so nothing is signed with it yet."""

    keys: tuple[TokenKey, ...]
    made: bool = field(default=False, compare=False)

    @property
    def current(self) -> TokenKey:
        """The key that signs."""
        return self.keys[-1]

    def signer(self) -> Signer:
        return Signer(self.pairs())

    def pairs(self) -> Sequence[tuple[int, bytes]]:
        """Numbers and secrets, as Signer takes them."""
        return [(key.number, key.secret) for key in self.keys]


def token_keys(folder: Path) -> TokenKeys:
    """Read the keys in `folder`, and add a new one if the newest is a month old or there is none.

    Gateways outside a fleet that credit feedback on each other's predictions share the file. Raises SettingsError if
    the file cannot be used.
    """
    file = keys_file(folder)
    keys = _read(file)
    newest = keys[-1] if keys else None  # by the order in the file, since clocks may be set back
    now_s = time.time()
    if newest is not None and newest.created_s > now_s + MAX_CLOCK_ERROR_S:
        newest = keys[-1] = TokenKey(newest.number, now_s, newest.secret)  # else no rotation until that date
        with contextlib.suppress(OSError):
            write_keys(file, keys)
    if newest is not None and now_s - newest.created_s <= ROTATE_AFTER_S:
        return TokenKeys(tuple(keys))
    rotated = [*keys[-MAX_KEYS + 1 :], new_key(keys, now_s)]
    try:
        write_keys(file, rotated)
    except OSError as error:
        if newest is None:
            raise SettingsError(str(file), [f"cannot be written: {error.strerror}{owner_remedy(error)}"]) from None
        log.warning("%s cannot be written, so the old key continues to sign prediction ids: %s", file, error.strerror)
        return TokenKeys(tuple(keys))
    return TokenKeys(tuple(rotated), made=True)


def stored_signer(folder: Path) -> Signer | None:
    """A signer with the keys in `folder`, to verify with; None if there are none. Writes nothing.

    Raises SettingsError if the file cannot be used.
    """
    keys = _read(keys_file(folder))
    return TokenKeys(tuple(keys)).signer() if keys else None


def keys_file(folder: Path) -> Path:
    """Where they are, in the state folder."""
    return folder / "token-keys.json"


def new_key(keys: Sequence[TokenKey], now_s: float) -> TokenKey:
    """A random key, whose number is the next one after the last key's that none of the newest has."""
    taken = {key.number for key in keys[-MAX_KEYS:]}
    after = keys[-1].number + 1 if keys else 0
    numbers = (number % KEY_NUMBERS for number in range(after, after + KEY_NUMBERS))
    return TokenKey(next(number for number in numbers if number not in taken), now_s, secrets.token_bytes(KEY_BYTES))


def write_keys(file: Path, keys: Iterable[TokenKey]) -> None:
    """Replace the file, for its owner alone. Raises OSError."""
    replace_durably(file, orjson.dumps(document_of(keys)), file.with_suffix(".new"), 0o600)


def document_of(keys: Iterable[TokenKey]) -> list[dict[str, Any]]:
    """The keys as JSON."""
    return [{"key": key.number, "created_s": key.created_s, "secret": key.secret.hex()} for key in keys]


def keys_of(document: object) -> list[TokenKey]:
    """The keys of a JSON document. Raises ValueError, TypeError, KeyError."""
    if type(document) is not list:  # an empty object would be taken for an empty list, and be overwritten
        raise ValueError(f"it must hold a list, not {type(document).__name__}")
    return [_key(entry["key"], entry["created_s"], entry["secret"]) for entry in document]


def _read(file: Path) -> list[TokenKey]:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(str(file), [f"cannot be read: {error.strerror}{owner_remedy(error)}"]) from None
    if mode & 0o077:
        raise SettingsError(str(file), [f"contains secrets and is open to others (mode {mode:o}); run chmod 600 on it"])
    try:
        return keys_of(orjson.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        problem = f"is damaged ({error}); restore it; or remove it, which makes feedback on earlier predictions invalid"
        raise SettingsError(str(file), [problem]) from None


def _key(number: object, created_s: object, secret: object) -> TokenKey:
    if type(number) is not int or not 0 <= number < KEY_NUMBERS or not isinstance(created_s, int | float):
        raise ValueError(f"a key has no number from 0 to {KEY_NUMBERS - 1}, or no time")
    raw = bytes.fromhex(secret) if isinstance(secret, str) else b""
    if len(raw) != KEY_BYTES:  # an empty key would work, and anyone could forge tokens
        raise ValueError(f"key {number} is not {KEY_BYTES} bytes long")
    return TokenKey(number, float(created_s), raw)
