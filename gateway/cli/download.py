"""Downloads a version from an http(s) address, which is not trusted: limited in size, redirects and time."""

import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from gateway.cli.refusal import CommandError
from gateway.cli.unpacking import Unpacker
from gateway.errors import RequestError
from gateway.system.printable import printable

AUTHORIZATION_VARIABLE: Final = "GATEWAY_DOWNLOAD_AUTHORIZATION"  # the header's value, such as `Bearer …`
MAX_REDIRECTS: Final = 5
OVERHEAD_BYTES: Final = 8 << 20  # of an archive beyond its files
TIMEOUT_S: Final = 60.0  # to connect, and between two pieces
SLOWEST_BYTES: Final = 64 << 10  # that must arrive in that time
SHA256: Final = re.compile(r"[0-9a-f]{64}")
Progress = Callable[[int, int | None], None]  # bytes so far, and in all if they are known


def download(address: str, folder: Path, *, max_bytes: int, sha256: str | None, progress: Progress) -> Path:
    """Download the version into `folder`, which is there and empty; returns the path of its folder or file.

    `max_bytes`: of its files together; `sha256`: what the download's hash must be, in hexadecimal. The certificate is
    checked by the system's trust. Raises CommandError.
    """
    shown = shown_address(address)
    unpacker, seen, total = Unpacker(folder, max_bytes), hashlib.sha256(), 0
    try:
        with _opened(address) as response:
            length = response.headers.get("content-length", "")
            size = int(length) if length.isdigit() and len(length) < 18 else None
            _check_size(size or 0, max_bytes, shown)
            for piece in _in_time(response.iter_raw(), shown):
                total += len(piece)
                _check_size(total, max_bytes, shown)
                seen.update(piece)
                unpacker.write(piece)
                progress(total, size)
        if sha256 is not None and seen.hexdigest() != sha256:
            raise CommandError(f"{shown} has the SHA-256 {seen.hexdigest()}, not {sha256}: it is another file")
        return unpacker.finish()
    except RequestError as error:
        raise CommandError(f"{shown}: {error}") from None
    except httpx.HTTPError as error:
        raise CommandError(f"{shown} cannot be fetched: {printable(str(error)) or type(error).__name__}") from None
    except OSError as error:
        raise CommandError(f"{shown} cannot be kept in {folder}: {error}") from None
    finally:
        unpacker.close()


def shown_address(address: str) -> str:
    """The address as it may be printed and recorded: a query may hold a signature, which is as good as a key."""
    return printable(address.partition("#")[0].partition("?")[0])[:300]


@contextmanager
def _opened(address: str) -> Iterator[httpx.Response]:
    """The answer with status 200, after redirects; its body is not read yet. Raises CommandError, httpx.HTTPError."""
    headers = {"accept-encoding": "identity", "user-agent": "canary-gateway"}
    with httpx.Client(verify=ssl.create_default_context(), timeout=TIMEOUT_S, headers=headers) as client:
        first = url = _checked(address, None)
        for _ in range(MAX_REDIRECTS + 1):
            secret = _authorization(first) if _same_server(url, first) else {}
            with client.stream("GET", url, headers=secret) as response:
                if not response.has_redirect_location:
                    _check_status(response, shown_address(address))
                    yield response
                    return
                url = _checked(response.headers["location"], url)
    raise CommandError(f"{shown_address(address)} redirects more than {MAX_REDIRECTS} times")


def _checked(address: str, before: httpx.URL | None) -> httpx.URL:
    """The address to be asked. `before`: the one that redirects to it, perhaps relatively."""
    try:
        url = httpx.URL(address) if before is None else before.join(address)
    except (httpx.InvalidURL, ValueError):
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise CommandError(f"{shown_address(address)!r} is no http or https address")
    if url.userinfo:
        raise CommandError(
            "the address holds a password, which others on this machine can read; leave it out, and put the header's"
            f" value, such as 'Basic …' or 'Bearer …', into ${AUTHORIZATION_VARIABLE}"
        )
    if before is not None and before.scheme == "https" and url.scheme == "http":
        raise CommandError(f"{shown_address(str(before))} redirects to http, where the content is not protected")
    return url


def _authorization(url: httpx.URL) -> dict[str, str]:
    if not (secret := os.environ.get(AUTHORIZATION_VARIABLE)):
        return {}
    if url.scheme != "https":
        raise CommandError(f"${AUTHORIZATION_VARIABLE} is set, and is sent to https addresses only; unset it for http")
    if not (secret.isascii() and secret.isprintable()):
        raise CommandError(f"${AUTHORIZATION_VARIABLE} holds characters that a header cannot have")
    return {"authorization": secret.strip()}


def _same_server(url: httpx.URL, first: httpx.URL) -> bool:
    return (url.scheme, url.host, url.port) == (first.scheme, first.host, first.port)


def _check_status(response: httpx.Response, shown: str) -> None:
    status = response.status_code
    if status in (401, 403):
        raise CommandError(f"{shown} answers {status}; its Authorization header is read from ${AUTHORIZATION_VARIABLE}")
    if status != 200:
        raise CommandError(f"{shown} answers {status}")


def _check_size(size: int, max_bytes: int, shown: str) -> None:
    if size > max_bytes + OVERHEAD_BYTES:
        raise CommandError(f"{shown} is larger than {max_bytes} bytes, the limit of models.max_proposal")


def _in_time(pieces: Iterator[bytes], shown: str) -> Iterator[bytes]:
    """Yield the pieces; raises CommandError if they come so slowly that the download might never end."""
    since_s, arrived = time.monotonic(), 0
    for piece in pieces:
        now_s, arrived = time.monotonic(), arrived + len(piece)
        if arrived >= SLOWEST_BYTES:
            since_s, arrived = now_s, 0
        elif now_s - since_s > TIMEOUT_S:
            raise CommandError(f"{shown}: less than {SLOWEST_BYTES >> 10} KiB arrived within {TIMEOUT_S:g} s")
        yield piece
