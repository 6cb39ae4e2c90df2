"""The keys in force: finds the identity of a presented key."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.auth.file_watch import FileWatcher
from gateway.auth.key_entries import KeyEntries
from gateway.settings.keys import KeySettings, Scope, load_keys


@dataclass(frozen=True, slots=True)
class Identity:
    """The holder of a key. `expires_s`: in seconds since 1970. `delegates`: its scopes let it act for other
    customers; each prediction asks, and the hash of an enum is slow.
    """

    key_id: str
    customer: str
    scopes: frozenset[Scope]
    expires_s: float
    delegates: bool = False

    def __str__(self) -> str:
        """The form for decisions and logs, with the id of the key but nothing of the key itself."""
        return f"{self.customer} (key {self.key_id})"


def digest_of(key: bytes) -> bytes:
    """What a key is looked up by: its SHA-256, 32 bytes.

    A key is 256 random bits. A fast hash is right for it: slow ones (bcrypt, argon2) make up for passwords that can be
    guessed, and no one guesses 256 bits, while every request would pay for them.
    """
    return hashlib.sha256(key).digest()


class Keyring:
    """The keys of a file, loaded again when it changes. Raises SettingsError if the file is wrong at the start.

    A key is looked up by its digest. The time may depend on the digest, but an attacker who measures it would still
    have to find a key with such a digest, that is to invert SHA-256: no comparison here needs to take constant time.
    """

    def __init__(self, path: Path) -> None:
        self._identities: Mapping[bytes, Identity] = {}
        self._by_id: Mapping[str, Identity] = {}
        self._path = path
        self._entries = KeyEntries(path, _identified)
        self.watcher = FileWatcher([path], self._load, in_thread=True)

    def identity(self, key: bytes) -> Identity | None:
        """The identity of a key; None if it is unknown or has expired.

        Expiry is a date, so it depends on the wall clock: if that is set back by an hour, a key is valid for an hour
        longer; if it is set ahead, keys are refused until it is right again. Revocation depends on no clock.
        """
        identity = self._identities.get(digest_of(key))
        return None if identity is None or identity.expires_s <= time.time() else identity

    def is_valid(self, identity: Identity) -> bool:
        """Whether what was found by a key is still as it was: for what goes on longer than a request."""
        return self._by_id.get(identity.key_id) == identity and identity.expires_s > time.time()

    def _load(self) -> None:
        """Load the file, usually on a thread. The keys in force are replaced in one step."""
        entries = self._entries.read()
        identities = {digest: identity for digest, identity in entries}  # in steps, which dict() is not
        by_id = {identity.key_id: identity for _, identity in entries}
        if len(entries) > min(len(identities), len(by_id)):
            load_keys(self._path)  # says which are the same
        self._identities, self._by_id = identities, by_id


def _identified(key: KeySettings) -> tuple[bytes, Identity]:
    expires_s = float("inf") if key.expires is None else key.expires.timestamp()
    delegates = Scope.DELEGATE in key.scopes
    return bytes.fromhex(key.sha256), Identity(key.id, key.customer, frozenset(key.scopes), expires_s, delegates)
