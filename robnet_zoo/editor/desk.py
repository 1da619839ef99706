"""What an editor was started with: the draft to begin with, the file that it may write, and the models to attack."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from robnet_zoo.core.documents import read_bytes, shown
from robnet_zoo.editor.draft import Draft, blank
from robnet_zoo.editor.published import published
from robnet_zoo.errors import DocumentError, EditorError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import LOCAL, load_spec, spec_names


@dataclass(frozen=True)
class Desk:
    """The settings of one editor.

    start: the draft that a new page shows. file: the only file that is ever written, or None. from_file: whether a page
    rather shows what that file holds when it is opened. models: names of targets, as `benchmark` takes them.
    """

    start: Draft
    file: Path | None = None
    from_file: bool = False
    models: tuple[str, ...] = ()
    lock: Lock = field(default_factory=Lock, repr=False)

    def begin(self) -> tuple[Draft, str | None]:
        """Return the draft that a new page shows, and the sha256 of the file's bytes if it is what they hold."""
        if self.file is not None and self.from_file:
            with suppress(DocumentError):
                data = read_bytes(self.file, limit=Draft.max_bytes)
                return Draft.loads(data, source=str(self.file)), hashlib.sha256(data).hexdigest()
        return self.start, None

    def save(self, draft: Draft, *, seen: str | None) -> dict[str, Any]:
        """Write a draft into the file, unless the file is not what the page last saw of it.

        Args:
            draft: what is written, if it is a genotype.
            seen: the sha256 of the file's bytes as the page knows them, None if there was none.

        Returns: {"saved": whether it was written, "seen": the sha256 of what the file holds now}.
        Raises: EditorError if there is no file to write or writing fails; DocumentError if the draft does not compile.
        """
        if self.file is None:
            raise EditorError("expected a file that was named at the start, got none; download the spec instead")
        spec = draft.spec(source=self.file)
        with self.lock:
            present = digest(self.file)
            if present not in (seen, hashlib.sha256(spec.dumps().encode()).hexdigest()):
                return {"saved": False, "seen": present}
            try:
                spec.save(self.file)
            except OSError as error:
                raise EditorError(f"{self.file}: cannot be written: {error.strerror or error}") from error
            return {"saved": True, "seen": digest(self.file)}


def digest(file: Path) -> str | None:
    """Return the sha256 of a file's bytes, None if there is no such file. Raises EditorError if it cannot be read."""
    try:
        if file.exists() and not file.is_file():  # reading a pipe would wait for somebody to write into it
            raise EditorError(f"{file}: expected a file, got something else")
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise EditorError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def open_desk(spec: str | None, *, output: Path | None = None, models: tuple[str, ...] = ()) -> Desk:
    """Return the desk of an editor.

    Args:
        spec: the name of a published architecture; the path of a spec, which is also the file to write, and need not
            be there yet; the folder of a training run, whose spec stays as it is; or None, for an empty cell.
        output: the file to write instead.
        models: targets to attack, besides a training run's own weights.

    Raises: DocumentError, EditorError.
    """
    if output is not None and output.suffix.lower() != ".json":
        raise EditorError(f"--output: expected a file that ends in .json, got {output.name!r}")
    if spec is None:
        return Desk(blank(_name_for(output)), output, models=models)
    if spec in published():
        chosen = load_spec(spec) if spec in spec_names() else published()[spec]
        return Desk(Draft.of_spec(chosen), output, models=models)
    path = Path(spec.removeprefix(LOCAL))
    if os.path.isfile(path / Genotype.file_name):
        own = (str(path),) if os.path.isfile(path / "model.safetensors") else ()
        return Desk(Draft.of_spec(load_spec(path)), output, models=(*own, *models))
    if path.suffix.lower() == ".onnx":
        raise EditorError(f"{shown(spec)}: expected a spec to edit; to attack an ONNX file, use --target {path}")
    if path.suffix.lower() != ".json":
        load_spec(spec)  # which says what is wrong
    file = path if output is None else output
    if digest(path) is None:
        return Desk(blank(_name_for(path)), file, file == path, models)
    return Desk(Draft.load(path), file, file == path, models)


def _name_for(file: Path | None) -> str:
    """Return the name of an architecture that goes into a file."""
    name = re.sub(r"\W+", "_", "" if file is None else file.stem, flags=re.ASCII)[:100]
    return name if re.match(r"[A-Za-z]", name) else "my_cell"
