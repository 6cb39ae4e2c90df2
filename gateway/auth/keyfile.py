"""Adds keys to the key file, and revokes them. The file is replaced as a whole: nobody reads a half-written one."""

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import yaml

from gateway.auth.keyring import digest_of
from gateway.errors import NotFound, SettingsError
from gateway.settings.keys import KEY_PREFIX, KeySettings, KeysSettings, Scope, load_keys
from gateway.settings.scalars import read
from gateway.system.durable_files import replacing, write_all

KEY_BYTES: Final = 32
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
HEADING: Final = "# API keys of the gateway, by hash only. Written by `gateway keys`; read again within a second.\n"


def add_key(
    path: Path, customer: str, scopes: tuple[Scope, ...], now: datetime, lifetime_s: float | None
) -> tuple[str, KeySettings]:
    """Make a key and add it to the file, or to a new one; returns the key and its entry. Raises SettingsError."""
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    entry = KeySettings(
        id=secrets.token_hex(4),
        sha256=digest_of(key.encode()).hex(),
        customer=customer,
        scopes=scopes,
        created=now,
        expires=None if lifetime_s is None else now + timedelta(seconds=lifetime_s),
    )
    with _alone(path):
        before = load_keys(path).keys if path.exists() else ()
        _write(path, KeysSettings(keys=(*before, entry)))
    return key, entry


def revoke_key(path: Path, key_id: str) -> KeySettings:
    """Remove a key from the file; returns its former entry. Raises NotFound, SettingsError."""
    with _alone(path):
        keys = load_keys(path).keys
        revoked = next((key for key in keys if key.id == key_id), None)
        if revoked is None:
            raise NotFound(f"there is no key '{key_id}' in {path}; `gateway keys list` lists them")
        _write(path, KeysSettings(keys=tuple(key for key in keys if key is not revoked)))
    return revoked


class _Dumper(yaml.SafeDumper):
    """Quotes every string but plain words: some version of YAML might read it as a number, for example."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = _PLAIN.fullmatch(text) is not None and read(text) == text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _quoted)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Allow one change at a time: locks the folder, since the file itself is replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise SettingsError(str(path), [f"its folder cannot be used: {error.strerror}"]) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, keys: KeysSettings) -> None:
    target = path.resolve()  # a link stays a link
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with replacing(target, unfinished, 0o600) as file:
            _belong_as_before(file, target)
            document = keys.model_dump(mode="json", exclude_none=True)
            text = HEADING + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            write_all(file, text.encode())
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be written: {error.strerror}"]) from None


def _belong_as_before(file: int, target: Path) -> None:
    """Keep owner, group and mode of the file: root may change it for a gateway that runs as another user.

    If that gateway could not read it, it would keep what it has read before, and a revoked key would stay valid.
    """
    if target.exists():
        before, new = target.stat(), os.fstat(file)
        if (before.st_uid, before.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(file, before.st_uid, before.st_gid)
        os.fchmod(file, stat.S_IMODE(before.st_mode))
    elif os.geteuid() == 0:
        folder = target.parent.stat()
        os.fchown(file, folder.st_uid, folder.st_gid)
