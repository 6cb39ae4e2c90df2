"""Makes API keys, and the hashes by which they are stored and looked up.

A key is 256 random bits, so a fast hash is right for it: slow ones (bcrypt, argon2) protect passwords that can be
guessed, which 256 bits cannot, and every request would pay for them.
"""

import hashlib
import secrets
from typing import Final

from gateway.settings.keys import KEY_PREFIX

KEY_BYTES: Final = 32


def new_key() -> str:
    """A new key, as its holder keeps it: it is shown once and never stored."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: bytes) -> bytes:
    """The SHA-256 of a key, 32 bytes, by which it is looked up."""
    return hashlib.sha256(key).digest()
