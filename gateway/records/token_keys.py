"""The keys that sign prediction ids, in the state folder: the newest signs, old ones still verify."""

import os
import secrets
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from gateway.errors import SettingsError
from gateway.records.token import Signer

KEY_BYTES: Final = 32
ROTATE_AFTER_S: Final = 30 * 86400.0
MOST: Final = 200  # of 256 numbers: at one a month no prediction is that old


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """Key numbers (0 to 255) with their secrets; `current` signs."""

    secrets: dict[int, bytes]
    current: int

    def signer(self) -> Signer:
        return Signer(self.secrets, self.current)


def ephemeral_keys() -> TokenKeys:
    """For a process on its own: its tokens are worth nothing once it has ended."""
    return TokenKeys({0: secrets.token_bytes(KEY_BYTES)}, 0)


def token_keys(folder: Path) -> TokenKeys:
    """The keys in `folder`, with a new one where the newest is a month old or there is none.

    Gateways that are to credit each other's predictions share the file. Raises SettingsError where it cannot be used.
    """
    file = folder / "token-keys.json"
    entries = _read(file)
    newest = max(entries, key=lambda entry: entry[1], default=None)
    if newest is None or time.time() - newest[1] > ROTATE_AFTER_S:
        number = 0 if newest is None else (newest[0] + 1) % 256
        newest = number, time.time(), secrets.token_bytes(KEY_BYTES)
        others = [entry for entry in entries if entry[0] != number]
        entries = [*others[-MOST + 1 :], newest]
        _write(file, entries)
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
        raise SettingsError(str(file), [f"holds secrets and is open to others (mode {mode:o}); chmod 600 it"])
    try:
        return [(int(e["key"]), float(e["created_s"]), bytes.fromhex(e["secret"])) for e in orjson.loads(text)]
    except (ValueError, TypeError, KeyError) as error:
        problem = f"is damaged ({error}); restore it, or remove it: feedback on earlier predictions is then refused"
        raise SettingsError(str(file), [problem]) from None


def _write(file: Path, entries: list[tuple[int, float, bytes]]) -> None:
    document = [{"key": number, "created_s": created, "secret": key.hex()} for number, created, key in entries]
    unfinished = file.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(orjson.dumps(document))
        opened.flush()
        os.fsync(opened.fileno())
    unfinished.replace(file)
