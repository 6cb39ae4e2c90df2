"""An API key, and the hash by which it is known.

A key is 256 random bits. A fast hash is right for it: slow ones (bcrypt, argon2) make up for passwords that can be
guessed, and no one guesses 256 bits, while every request would pay for them.
"""

import hashlib
import secrets
from typing import Final

from gateway.settings.keys import PREFIX

KEY_BYTES: Final = 32


def new_key() -> str:
    """A key as its holder keeps it; it is told once and never stored."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest_of(key: bytes) -> bytes:
    """What a key is looked up by: its SHA-256, 32 bytes."""
    return hashlib.sha256(key).digest()
