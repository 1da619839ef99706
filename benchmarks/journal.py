"""What a long run has found so far: a file of JSON lines that only grows, so that kill -9 loses one image at most."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from robnet_zoo.documents import DocumentError


class Journal:
    """Entries, one a line, below a line that says of which run they are.

    path: None keeps the entries in memory alone. A last line that was cut off is dropped. Raises DocumentError if the
    file is another run's.
    """

    def __init__(self, path: Path | None, key: str) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        self._file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0  # bytes of complete lines
        if path.exists():
            for line in _complete_lines(path):
                whole += len(line)
                self._read(json.loads(line), key)
        self._file = open(path, "ab")  # noqa: SIM115 - open as long as the journal is
        self._file.truncate(whole)
        if not whole:
            self._write({"run": key})

    def _read(self, entry: dict[str, Any], key: str) -> None:
        if "run" not in entry:
            self.entries.append(entry)
        elif entry["run"] != key:
            found = "got that of another model, protocol, data or version; finish that one or delete the file"
            raise DocumentError([f"expected the journal of this run, {found}"], source=str(self.path))

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


def _complete_lines(path: Path) -> Iterator[bytes]:
    """The lines up to the first that is cut off or is no JSON."""
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                json.loads(line)
            except ValueError:
                return
            yield line
