"""The folder of a run: which run it holds, and how another one differs. Read without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robnet_zoo.core.documents import parse_json, read_bytes, shown
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import DocumentError, TrainingError
from robnet_zoo.training.recipe import Recipe

RUN = "run.json"  # what tells the run from others
NAMES = {
    "data": "data",
    "spec": "architecture",
    "paths": "choice of paths",
    "weights": "weights to begin with",
    "strict": "use of the weights to begin with",
}
WRITTEN = (  # by a run, besides its documents and what it calls the same in every folder
    "README.md",
    "checkpoints",
    "chosen.safetensors",
    "config.json",
    "curves.png",
    "history.csv",
    "model.safetensors",
    "training.json",
)


def check_folder(folder: Path, recipe: Recipe) -> None:
    """Raise TrainingError where a run by this recipe cannot be in a folder, whatever is trained on whatever data."""
    blocking = next((path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()), None)
    if blocking is not None:
        raise TrainingError(f"{folder}: expected a folder for the run, got a file at {blocking}")
    known = _known(folder)
    if known is not None:
        _refuse(folder, known, known | {"recipe": recipe.model_dump(mode="json")})


def check_claim(folder: Path, identity: Mapping[str, Any]) -> bool:
    """Return whether a folder holds this run already. Raises TrainingError if it holds another, or a run's files."""
    known = _known(folder)
    if known is not None:
        _refuse(folder, known, identity)
        return True
    foreign = [name for name in WRITTEN if (folder / name).exists()]
    if foreign:
        raise TrainingError(
            f"{folder}: expected a folder of its own for the run, got one that holds another's {', '.join(foreign)}, "
            "which the run would overwrite; take another --output"
        )
    return False


def write_claim(folder: Path, identity: Mapping[str, Any]) -> None:
    """Write down which run a folder holds."""
    write_atomically(folder / RUN, (json.dumps(identity, indent=1) + "\n").encode())


def _known(folder: Path) -> dict[str, Any] | None:
    path = folder / RUN
    if not path.exists():
        return None
    known = parse_json(read_bytes(path), source=str(path))
    return known if isinstance(known, dict) else {}


def _refuse(folder: Path, known: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raise TrainingError if a folder's run is not the one that is asked for."""
    there, asked = _compared(known), _compared(identity)
    if there == asked:
        return
    differing = [name for key, name in NAMES.items() if there.get(key) != asked.get(key)]
    if there.get("recipe") != asked.get("recipe"):
        differing.append(f"recipe ({_fields(there.get('recipe'), asked.get('recipe'))})")
    raise TrainingError(
        f"{folder}: expected the folder of this run, got that of a run with another {' and another '.join(differing)}; "
        "take another --output, or give what that run was begun with to resume it"
    )


def _fields(there: Any, asked: Any) -> str:
    """Return which fields of a recipe differ, with the values there and those asked for."""
    if not (isinstance(there, Mapping) and isinstance(asked, Mapping)):
        return "one that cannot be read"
    before, now = _flat(there), _flat(asked)
    names = [name for name in dict.fromkeys([*now, *before]) if before.get(name) != now.get(name)]
    listed = [f"{name} {shown(before.get(name))} there, {shown(now.get(name))} here" for name in names[:3]]
    return "; ".join([*listed, *([f"and {len(names) - 3} more"] if names[3:] else [])])


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the fields of a document and of its parts, by names such as attack.steps."""
    fields: dict[str, Any] = {}
    for name, value in document.items():
        fields |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return fields


def _compared(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells runs apart: the recipe with all its fields, even newer ones, but without its description."""
    try:
        recipe = Recipe.parse(identity.get("recipe"))
    except DocumentError:
        return dict(identity)
    return {**identity, "recipe": recipe.model_dump(mode="json", exclude={"description"})}
