"""Files that are written whole or not at all, and their hash."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import shutil
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a crash at any moment leaves the old file or the new one.

    Of a link, what it leads to is written. A file that was there keeps its permissions.
    """
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not target.is_file():  # a device or a pipe, which holds no old file
        target.write_bytes(data)
        return
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{secrets.token_hex(8)}.part"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if target.is_file():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes, as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def note_shadowed(name: str, *, taken: str) -> None:
    """Log that a name was taken for one thing although a file or folder of that name lies here, and how to get that."""
    logging.getLogger(__name__).warning("%s: took %s of this name, not what lies here: ./%s is that", name, taken, name)
