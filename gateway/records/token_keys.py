"""Stores and rotates the keys that sign prediction ids, in the state folder. The newest signs; old ones verify."""

import contextlib
import logging
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from gateway.errors import SettingsError
from gateway.records.token import Signer
from gateway.system.durable_files import replace_durably

KEY_BYTES: Final = 32
ROTATE_AFTER_S: Final = 30 * 86400.0
MAX_CLOCK_ERROR_S: Final = 86400.0  # a key dated further in the future than this was made while the clock was wrong
KEY_NUMBERS: Final = 256
MAX_KEYS: Final = 200  # keys kept: at one a month, no prediction is older than the oldest
log: Final = logging.getLogger("gateway.records")


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Key numbers (0 to 255) with their secrets; `current` signs."""

    secrets: dict[int, bytes]
    current: int

    def signer(self) -> Signer:
        return Signer(self.secrets, self.current)


def token_keys(folder: Path) -> TokenKeys:
    """Read the keys in `folder`, and add a new one if the newest is a month old or there is none.

    Gateways that credit feedback on each other's predictions share the file. Raises SettingsError if the file cannot
    be used.
    """
    file = folder / "token-keys.json"
    entries = _read(file)
    newest = entries[-1] if entries else None  # by the order in the file, since clocks may be set back
    now_s = time.time()
    if newest is not None and newest[1] > now_s + MAX_CLOCK_ERROR_S:
        newest = entries[-1] = newest[0], now_s, newest[2]  # otherwise there would be no rotation until that date
        with contextlib.suppress(OSError):
            _write(file, entries)
    if newest is None or now_s - newest[1] > ROTATE_AFTER_S:
        number = 0 if newest is None else (newest[0] + 1) % KEY_NUMBERS
        new = number, now_s, secrets.token_bytes(KEY_BYTES)
        rotated = [*[entry for entry in entries if entry[0] != number][-MAX_KEYS + 1 :], new]
        try:
            _write(file, rotated)
        except OSError as error:
            if newest is None:
                raise SettingsError(str(file), [f"cannot be written: {error.strerror}"]) from None
            log.warning(
                "%s cannot be written, so the old key continues to sign prediction ids: %s", file, error.strerror
            )
        else:
            newest, entries = new, rotated
    return TokenKeys({number: secret for number, _, secret in entries}, newest[0])


def _read(file: Path) -> list[tuple[int, float, bytes]]:
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        text = file.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingsError(str(file), [f"cannot be read: {error.strerror}"]) from None
    if mode & 0o077:
        raise SettingsError(str(file), [f"contains secrets and is open to others (mode {mode:o}); run chmod 600 on it"])
    try:
        entries = orjson.loads(text)
        if type(entries) is not list:  # an empty object would be taken for an empty list, and be overwritten
            raise ValueError(f"it must hold a list, not {type(entries).__name__}")
        return [_entry(e["key"], e["created_s"], e["secret"]) for e in entries]
    except (ValueError, TypeError, KeyError) as error:
        problem = f"is damaged ({error}); restore it; or remove it, which makes feedback on earlier predictions invalid"
        raise SettingsError(str(file), [problem]) from None


def _entry(number: object, created_s: object, secret: object) -> tuple[int, float, bytes]:
    if type(number) is not int or not 0 <= number < KEY_NUMBERS or not isinstance(created_s, int | float):
        raise ValueError(f"a key has no number from 0 to {KEY_NUMBERS - 1}, or no time")
    raw = bytes.fromhex(secret) if isinstance(secret, str) else b""
    if len(raw) != KEY_BYTES:  # an empty key would work, and anyone could forge tokens
        raise ValueError(f"key {number} is not {KEY_BYTES} bytes long")
    return number, float(created_s), raw


def _write(file: Path, entries: list[tuple[int, float, bytes]]) -> None:
    document = [{"key": number, "created_s": created, "secret": key.hex()} for number, created, key in entries]
    replace_durably(file, orjson.dumps(document), file.with_suffix(".new"), 0o600)
