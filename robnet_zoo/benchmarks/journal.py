"""The outcomes of a long run so far: a file of JSON lines that only grows, so that kill -9 loses one image at most."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from filelock import BaseFileLock, FileLock, Timeout

from robnet_zoo.errors import DocumentError


def lock_file(path: Path) -> Path:
    """Return the file that is locked while the journal at `path` is open."""
    return path.with_name(f".{path.name}.lock")


class Journal:
    """Entries, one a line, below a line that names their run.

    A last line that was cut off is dropped. A lock keeps other processes out while the journal is open.

    Args:
        path: the file, or None to keep the entries in memory.
        key: names the run.

    Raises: DocumentError if the file is damaged, belongs to another run, or is in use by another process.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        self._lock: BaseFileLock | None = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(lock_file(path))
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise DocumentError(["expected no other process at this run, got one"], source=str(path)) from error
        try:
            self._open(path, key)
        except BaseException:
            self.close(delete=False)
            raise

    def _open(self, path: Path, key: str) -> None:
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the journal is
        lines = path.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            self._file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        if not lines:
            self._write({"run": key})
            return
        head, *entries = [self._parsed(number, line) for number, line in enumerate(lines, start=1)]
        if head.get("run") != key:
            other = "model, protocol, data, version, device or number of threads"
            got = f"got that of another {other}; finish that one or delete the file"
            raise DocumentError([f"expected the journal of this run, {got}"], source=str(path))
        self.entries = entries

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise DocumentError([f"line {number}: expected a JSON object, got something else"], source=str(self.path))
        return entry

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; it is in the file when this returns."""
        self.entries.append(dict(entry))
        self._write(entry)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()

    def close(self, *, delete: bool) -> None:
        """Close the file, and delete it if its entries are kept elsewhere."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        if delete and self.path is not None:
            self.path.unlink(missing_ok=True)
        if self._lock is not None:
            with suppress(OSError):  # Windows deletes the file itself, when it is released
                os.unlink(self._lock.lock_file)
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(delete=False)
