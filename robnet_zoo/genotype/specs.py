"""The bundled specs, and specs by name or path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import shown
from robnet_zoo.core.files import note_shadowed
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.genotype import Genotype

SPECS = Bundled(
    Genotype, Path(__file__).parents[1] / "specs", "spec", about="provenance.source", others=("genotype.schema",)
)
SCHEMA = SPECS.path("genotype.schema")
spec_names = SPECS.names
LOCAL = "local-dir:"  # timm's prefix of a folder
RUN_OF_TIMM = "model.json"  # what a training run of a model of timm has in place of a spec
SpecLike = str | os.PathLike[str] | Mapping[str, Any] | Genotype


def load_spec(spec: SpecLike) -> Genotype:
    """Load a spec by bundled name, by path or from a mapping; a Genotype is returned as it is. Raises DocumentError.

    A path is that of a JSON file, or of a folder with a `spec.json`, as training and conversions leave it.
    """
    if isinstance(spec, Genotype):
        return spec
    if isinstance(spec, Mapping):
        return Genotype.parse(spec)
    if not isinstance(spec, str | os.PathLike):
        raise DocumentError([f"expected a spec, or its name or path, got {shown(spec)}"])
    inner = Path(spec) / Genotype.file_name
    if not os.fspath(spec) or not os.path.isfile(inner):
        return SPECS.load(spec)
    if not isinstance(spec, str) or spec not in spec_names():
        return SPECS.load(inner)
    note_shadowed(spec, taken="the bundled spec")
    return SPECS.own(spec)
