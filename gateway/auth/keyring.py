"""The keys in force: from a presented key to who presents it."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.auth.file_watch import FileWatcher
from gateway.auth.key_entries import Entries
from gateway.settings.keys import KeySettings, Scope, load_keys


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `expires_s` in seconds since 1970."""

    key_id: str
    customer: str
    scopes: frozenset[Scope]
    expires_s: float

    def __str__(self) -> str:
        """As decisions and logs name it; nothing of the key is in it."""
        return f"{self.customer} (key {self.key_id})"


def digest_of(key: bytes) -> bytes:
    """What a key is looked up by: its SHA-256, 32 bytes.

    A key is 256 random bits. A fast hash is right for it: slow ones (bcrypt, argon2) make up for passwords that can be
    guessed, and no one guesses 256 bits, while every request would pay for them.
    """
    return hashlib.sha256(key).digest()


class Keyring:
    """The keys of a file, followed as it changes. Raises SettingsError where the file is wrong at the start.

    A key is looked up by its digest. How long that takes may depend on the digest, and whoever measures it still has
    to find a key with such a digest, that is to invert SHA-256: no comparison here needs to take constant time.
    """

    def __init__(self, path: Path) -> None:
        self._identities: Mapping[bytes, Identity] = {}
        self._by_id: Mapping[str, Identity] = {}
        self._path = path
        self._entries = Entries(path, _identified)
        self.watched = FileWatcher([path], self._load, aside=True)

    def identity(self, key: bytes) -> Identity | None:
        """Whose key it is; None where it is unknown or has expired.

        Expiry is a date, and so asks the wall clock: one that is set back by an hour lets a key in for an hour longer,
        one that is set ahead refuses keys until it is right again. To revoke a key asks no clock.
        """
        identity = self._identities.get(digest_of(key))
        return None if identity is None or identity.expires_s <= time.time() else identity

    def holds(self, identity: Identity) -> bool:
        """Whether what was found by a key is still as it was: for what goes on longer than a request."""
        return self._by_id.get(identity.key_id) == identity and identity.expires_s > time.time()

    def _load(self) -> None:
        """On a thread, as a rule: what is in force changes in one step."""
        entries = self._entries.read()
        identities = {digest: identity for digest, identity in entries}  # in steps, which dict() is not
        by_id = {identity.key_id: identity for _, identity in entries}
        if len(entries) > min(len(identities), len(by_id)):
            load_keys(self._path)  # says which are the same
        self._identities, self._by_id = identities, by_id


def _identified(key: KeySettings) -> tuple[bytes, Identity]:
    expires_s = float("inf") if key.expires is None else key.expires.timestamp()
    return bytes.fromhex(key.sha256), Identity(key.id, key.customer, frozenset(key.scopes), expires_s)
