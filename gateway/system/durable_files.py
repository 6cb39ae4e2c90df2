"""Atomic replacement of files: a crash, a kill or a full disk leaves the old or the new content, never half of one."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def replace_durably(path: Path, content: bytes, unfinished: Path | None = None, mode: int | None = None) -> None:
    """Replace the file with `content`. Raises OSError. Parameters and durability as for `replacing`."""
    with replacing(path, unfinished, mode) as file:
        write_all(file, content)


@contextlib.contextmanager
def replacing(
    path: Path,
    unfinished: Path | None = None,
    mode: int | None = None,
    *,
    exclusive: bool = False,
    before_replace: Callable[[], None] = lambda: None,
) -> Iterator[int]:
    """Give the body an open file to fill; afterwards it is at `path`, and the disk has both it and its name.

    If the body, `before_replace` or the disk raises, `path` is as before and the unfinished file is removed.
    Only if the last step fails, syncing the folder (OSError), is `path` new; a crash of the machine may undo that.

    `unfinished`: the file's path until then, by default PATH.new; it must be in the same folder, and differ between
    writers that may write at the same time. `mode`: its permissions, whatever a killed run left there; None: by the
    umask. `exclusive`: for a folder that other users write to; a file of that name is removed, never written to, and
    the open file can also be read and mapped. `before_replace`: called once the content is on disk; it may still raise.
    """
    unfinished = unfinished or path.with_name(f"{path.name}.new")
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            file = _opened(unfinished, mode, exclusive)
            try:
                yield file
                os.fsync(file)
            finally:
                os.close(file)
            before_replace()
            unfinished.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        sync_folder(folder)
    finally:
        os.close(folder)


def write_all(file: int, content: bytes) -> None:
    """Write all of it to an open file. Raises OSError."""
    with os.fdopen(file, "wb", closefd=False) as opened:
        opened.write(content)


def sync_folder(folder: int) -> None:
    """Sync the names in an open folder, where the file system can. Raises OSError."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot: the new name is all they offer
            raise


def _opened(path: Path, mode: int | None, exclusive: bool) -> int:
    flags = os.O_WRONLY | os.O_TRUNC
    if exclusive:
        path.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_EXCL
    file = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o666 if mode is None else mode)
    if mode is not None:
        os.fchmod(file, mode)
    return file
