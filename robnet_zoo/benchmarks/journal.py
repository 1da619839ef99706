"""What a long run has found so far: a file of JSON lines that only grows, so that kill -9 loses one image at most."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from robnet_zoo.errors import DocumentError


class Journal:
    """Entries, one a line, below a line that says of which run they are.

    path: None keeps the entries in memory alone. A last line that was cut off is dropped. Raises DocumentError if the
    file is another run's, damaged, or in use by another process.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the journal is
        self._lock()
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
            found = f"got that of another {other}; finish that one or delete the file"
            raise DocumentError([f"expected the journal of this run, {found}"], source=str(path))
        self.entries = entries

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise DocumentError([f"line {number}: expected a JSON object, got something else"], source=str(self.path))
        return entry

    def _lock(self) -> None:
        """Keep other processes out, where the system can."""
        assert self._file is not None
        try:
            import fcntl
        except ImportError:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise DocumentError(["expected no other process at this run, got one"], source=str(self.path)) from error

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append an entry; it is in the file when this returns."""
        self.entries.append(dict(entry))
        self._write(entry)

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(entry).encode() + b"\n")
            self._file.flush()

    def close(self, *, delete: bool) -> None:
        """Close the file, and delete it if all that it says stands elsewhere."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None
        if delete and self.path is not None:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close(delete=False)
