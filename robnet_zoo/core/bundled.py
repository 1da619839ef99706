"""The documents that the package brings: specs, recipes, protocols, search configs, plans and scales.

Each kind is a folder of JSON files beside the code that reads them, and a document's name is the stem of its file. The
files spell out every value, so that a change of a default does not change what they mean.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from operator import attrgetter
from pathlib import Path
from typing import Generic, TypeVar

from robnet_zoo.core.documents import Document, nearest, shown
from robnet_zoo.core.files import note_shadowed
from robnet_zoo.errors import DocumentError

D = TypeVar("D", bound=Document)


class Bundled(Generic[D]):
    """The bundled documents of one kind.

    Args:
        document: their class.
        folder: the folder that holds them.
        kind: what messages call such a document.
        about: the field that says in a line what a document is, such as `description`.
        others: the stems of JSON files in the folder that are not documents of this kind.
    """

    def __init__(
        self, document: type[D], folder: Path, kind: str, *, about: str = "description", others: Collection[str] = ()
    ) -> None:
        self.document, self.folder, self.kind, self.about = document, folder, kind, about
        self.others = frozenset(others)

    def names(self) -> list[str]:
        """Return the names of the documents, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json") if path.stem not in self.others)

    def path(self, name: str) -> Path:
        """Return the file of the document with this name, whether or not there is one."""
        return self.folder / f"{name}.json"

    def load(self, name: str | os.PathLike[str]) -> D:
        """Load a document by its bundled name, or by the path of a JSON file.

        Raises: DocumentError if it is neither, or the document is wrong.
        """
        if not isinstance(name, str | os.PathLike):
            raise DocumentError(
                [f"expected the name of a bundled {self.kind} or the path of a file, got {shown(name)}"]
            )
        names = self.names()
        if not os.fspath(name):
            raise DocumentError([f"expected the name or the path of a {self.kind}, got an empty text"])
        if isinstance(name, str) and name in names:
            if os.path.isfile(name):
                note_shadowed(name, taken=f"the bundled {self.kind}")
            return self.own(name)
        file = Path(name)
        if not os.path.exists(file) and file.suffix.lower() != ".json":
            near = nearest(name, names)
            expected = f"neither a bundled {self.kind} nor the path of a JSON file{near}"
            raise DocumentError([expected], source=os.fsdecode(name))
        return self.document.load(file)

    def own(self, name: str) -> D:
        """Load the bundled document of this name, whatever lies here. Raises DocumentError."""
        return self.document.load(self.path(name))

    def summary(self, name: str) -> str:
        """Return the line that says what a document is."""
        text: str | None = attrgetter(self.about)(self.own(name))
        return text or ""
