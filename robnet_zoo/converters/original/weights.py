"""Convert checkpoints of the original implementation to our weights.

Weights alone do not determine an architecture (an identity has no weights at stride 1), so a conversion needs the
spec. It checks that the two belong together: keys and shapes must agree in both directions.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from robnet_zoo.converters.original.codes import ORIGINAL_OPERATIONS
from robnet_zoo.core import lazy
from robnet_zoo.core.documents import Document, fspath, shown
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import CheckpointError, OutputExistsError
from robnet_zoo.genotype.blueprint import Blueprint, blueprint
from robnet_zoo.genotype.genotype import Edge, Genotype
from robnet_zoo.genotype.layers import FactorizedConv
from robnet_zoo.genotype.specs import SpecLike, load_spec
from robnet_zoo.zoo.weights import Sha256, state_sha256

if TYPE_CHECKING:
    import torch
else:
    torch = lazy.module("torch")

WRAPPERS = ("module", "_orig_mod")  # what DataParallel and torch.compile call the module that they wrap
NAMED = 8  # names of a file that a message lists
FILES = ("model.safetensors", "config.json", "spec.json", "README.md")  # what `convert_checkpoint` writes


def convert_state_dict(
    state_dict: Mapping[str, torch.Tensor], spec: Genotype, *, slice_head: bool = False
) -> dict[str, torch.Tensor]:
    """Return the state dict of `compile(spec)` with the weights of one of the original, in their own dtypes.

    A missing `num_batches_tracked` counts as 0. Weights that the original stores but the compiled network does not
    use (operations on dead edges, inputs that no edge reads) are dropped.

    Args:
        state_dict: of the original, or of a module that wraps it: `module.`, `_orig_mod.`, `model.`, `net.` and
            the like before its names are left out.
        spec: the architecture that was trained.
        slice_head: keep the first `num_classes` rows of a head that has more.

    Raises:
        CheckpointError: names every key that is missing, left over or of another shape, with its cell, edge and
            operation.
    """
    from robnet_zoo.nn.compiler import compile
    from robnet_zoo.nn.network import Network

    _check_original_has(spec)
    with torch.device("meta"):
        expected = compile(spec).state_dict()
        everything = Network(spec).state_dict()  # with the dead edges, which the original builds too
    plan = blueprint(spec)
    remaining = unwrapped(state_dict)
    if remaining.keys().isdisjoint(originals := [_original_key(key, plan) for key in expected]):
        listed = ", ".join(map(_printable, islice(state_dict, NAMED))) or "none"
        more = f" and {len(state_dict) - NAMED} more" if len(state_dict) > NAMED else ""
        raise CheckpointError([f"expected weights of the original, such as {originals[0]}, got {listed}{more}"])
    converted: dict[str, torch.Tensor] = {}
    problems: list[str] = []
    for key, like in expected.items():
        original = _original_key(key, plan)
        tensor = remaining.pop(original, None)
        if tensor is None and key.endswith(".num_batches_tracked"):
            tensor = torch.zeros((), dtype=torch.int64)
        if tensor is None:
            problems.append(f"{_location(key)}: missing {original}")
            continue
        if key.startswith("classifier.") and slice_head and tensor.dim():
            tensor = tensor[: like.shape[0]]
        if tensor.shape != like.shape or tensor.is_floating_point() != like.is_floating_point():
            problems.append(f"{_location(key)}: {_difference(original, tensor, like)}")
        else:
            converted[key] = tensor.detach().clone(memory_format=torch.contiguous_format)
    unused = {_original_key(key, plan) for key in everything.keys() - expected.keys()}
    problems += [
        f"{_original_location(key, spec)}left over {_printable(key)}"
        for key in remaining
        if key not in unused and not _belongs_to_unread_input(key, plan)
    ]
    if problems:
        raise CheckpointError(problems)
    return converted


def unwrapped(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict with the names that the original's network gives, without those of modules around it.

    DataParallel and torch.compile can wrap parts of the network as well, and the original calls no part so.

    Raises: CheckpointError for several networks, and for two weights of one name.
    """
    names = {key: [part for part in key.split(".") if part not in WRAPPERS] for key in state_dict}
    prefixes = dict.fromkeys(tuple(parts[: parts.index("cells")]) for parts in names.values() if "cells" in parts)
    if len(prefixes) > 1:
        listed = ", ".join(_printable(".".join([*prefix, "cells"])) for prefix in prefixes)
        raise CheckpointError([f"expected one network, got several: {listed}"])
    prefix = next(iter(prefixes), ())
    weights: dict[str, torch.Tensor] = {}
    for key, parts in names.items():
        inside = bool(prefixes) and tuple(parts[: len(prefix)]) == prefix
        name = ".".join(parts[len(prefix) :]) if inside else key
        if name in weights:
            raise CheckpointError([f"expected every weight once, got {_printable(name)} twice"])
        weights[name] = state_dict[key]
    return weights


def _check_original_has(spec: Genotype) -> None:
    """Raise a CheckpointError for a spec that the original cannot express."""
    known = ", ".join(ORIGINAL_OPERATIONS)
    problems = [
        f"cells.{cell}.alpha[{index}]: expected operations of the original ({known}), got {name}"
        for cell in dict.fromkeys(spec.layout)
        for index, row in enumerate(spec.cells[cell].alpha)
        for name, bit in zip(spec.operations, row, strict=True)
        if bit and name not in ORIGINAL_OPERATIONS
    ]
    if spec.network.affine:
        problems.append("network.affine: expected false, as in the original, got true")
    if problems:
        raise CheckpointError(problems, source=spec.name)


def _difference(original: str, tensor: torch.Tensor, like: torch.Tensor) -> str:
    """Describe how a tensor of the original differs from the one that the network needs."""
    expected, got = shown(list(like.shape)), shown(list(tensor.shape))
    if tensor.shape == like.shape:
        expected, got = str(like.dtype).removeprefix("torch."), str(tensor.dtype).removeprefix("torch.")
    text = f"{original}: expected {expected}, got {got}"
    if original.startswith("classifier.") and tensor.shape[:1] > like.shape[:1] and tensor.shape[1:] == like.shape[1:]:
        text += f"; slice_head=True (--slice-head) keeps the first {like.shape[0]} rows"
    return text


def _original_key(key: str, plan: Blueprint) -> str:
    """Return the original's key for one of ours."""
    match key.split("."):
        case ["stem", stage, *rest]:
            return ".".join(["stem" if len(plan.stem) == 1 else f"stem{stage}", *rest])
        case ["cells", depth, "preprocess", source, *rest]:
            block = plan.cells[int(depth)].preprocess[int(source)]
            reduced = any(isinstance(layer, FactorizedConv) for layer in block)
            names = _factorized(rest) if reduced else ["op", *rest]
            return ".".join(["cells", depth, f"preprocess{source}", *names])
        case ["cells", depth, "edges", name, operation, *rest]:
            cell = plan.cells[int(depth)]
            edge = Edge(map(int, name.split("->")))
            index = edge[1] * (edge[1] - 1) // 2 - 1 + edge[0]  # 2 + 3 + ... edges lead to the nodes before the target
            both = len(cell.edges[edge]) == 2
            if operation == "identity":
                names = [*(["res"] if both else []), *_factorized(rest)]
            else:
                names = [*(["conv"] if both else []), "op", *rest]
            return ".".join(["cells", depth, "_ops", str(index), "op", *names])
    return key


def _factorized(rest: list[str]) -> list[str]:
    """Name the layers of a factorized reduction: layer 1 holds two named convolutions, layer 2 is the batch norm."""
    return rest[1:] if rest[0] == "1" else ["bn", *rest[1:]]


def _location(key: str) -> str:
    """Say where in the network one of our weights is: `cell 3, edge 0->2, sep_conv_3x3`."""
    match key.split("."):
        case ["cells", depth, "preprocess", source, *_]:
            return f"cell {depth}, input {source}"
        case ["cells", depth, "edges", edge, operation, *_]:
            return f"cell {depth}, edge {edge}, {operation}"
        case [part, *_]:
            return part
    return key


def _original_location(key: str, spec: Genotype) -> str:
    """Name as much of this as a key of the original reveals, followed by a colon; else return ""."""
    match = re.match(r"cells\.(\d{1,4})\.(?:preprocess([01])|_ops\.(\d{1,4})\.(?:op\.)?(\w+))\.", key)
    if match is None or int(match[1]) >= len(spec.layout):
        return ""
    cell = f"cell {int(match[1])}"
    if match[2] is not None:
        return f"{cell}, input {match[2]}: "
    edges = spec.cells[spec.layout[int(match[1])]].edges
    if int(match[3]) >= len(edges):
        return f"{cell}: "
    operation = "sep_conv_3x3" if match[4] in ("op", "conv") else "identity"
    return f"{cell}, edge {edges[int(match[3])]}, {operation}: "


def _printable(key: object) -> str:
    text = shown(key)
    return text[1:-1] if re.fullmatch(r'"[\w.]*"', text) else text


def _belongs_to_unread_input(key: str, plan: Blueprint) -> bool:
    """Return whether a key of the original is part of the preprocessing of an input that no edge of its cell reads."""
    match = re.fullmatch(r"cells\.(\d{1,4})\.preprocess([01])\.(?:op\.[12]|conv_[12]|bn)\.\w+", key)
    return (
        match is not None
        and int(match[1]) < len(plan.cells)
        and int(match[2]) not in plan.cells[int(match[1])].preprocess
    )


class ConversionReport(Document):
    """What `convert_checkpoint` wrote, and from which file."""

    output_dir: str
    source: str  # file name of the checkpoint
    source_sha256: Sha256
    file_sha256: Sha256  # of model.safetensors
    state_sha256: Sha256  # of the state dict in it
    spec: str
    spec_hash: Sha256
    num_classes: int
    parameters: int

    def __str__(self) -> str:
        return f"{self.spec}, {self.parameters:,} parameters, {self.num_classes} classes, from {shown(self.source)}"


def convert_checkpoint(
    file: Path, *, spec: SpecLike, output: Path, slice_head: bool = False, overwrite: bool = False
) -> ConversionReport:
    """Convert a checkpoint of the original code to safetensors, spec and model card. Its pickle is never run.

    The folder is built beside its final path and then renamed, so that it is complete or not there at all. A folder
    that already holds something is refused, unless `overwrite` is given and it holds only an earlier conversion.

    Args:
        file: The checkpoint, .pth or .pth.tar.
        spec: A bundled name or the path of the spec that the checkpoint was trained with.
        output: A new folder; timm loads it as local-dir:FOLDER.
        slice_head: Keep the first rows of a head that has more classes than the spec.
        overwrite: Replace the folder of an earlier conversion.

    Raises:
        CheckpointError: the file cannot be read, or does not fit the spec.
        OutputExistsError: the folder holds something else. It is a FileExistsError.
    """
    from timm.models import save_for_hf

    from robnet_zoo.converters.original.unpickling import read_checkpoint
    from robnet_zoo.zoo.registry import robnet

    target = Path(fspath(output, "the path of a folder to write")).resolve()
    _check_free(target, overwrite=overwrite)
    source, spec = Path(fspath(file, "the path of a checkpoint")), load_spec(spec)
    state_dict = read_checkpoint(source)
    try:
        weights = convert_state_dict(state_dict, spec, slice_head=slice_head)
    except CheckpointError as error:
        raise CheckpointError(error.problems, source=error.source or str(source)) from None
    model = robnet(spec=spec, device="meta")  # no memory, no random numbers
    model.load_state_dict(weights, strict=True, assign=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        arguments = {"spec": spec.model_dump(mode="json", exclude_none=True)}
        save_for_hf(model, str(temporary), model_args=arguments, safe_serialization=True)
        spec.save(temporary / "spec.json")
        report = ConversionReport(
            output_dir=str(target),
            source=source.name,
            source_sha256=file_sha256(source),
            file_sha256=file_sha256(temporary / "model.safetensors"),
            state_sha256=state_sha256(weights),
            spec=spec.name,
            spec_hash=spec.hash,
            num_classes=spec.network.num_classes,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
        )
        (temporary / "README.md").write_text(_model_card(report), encoding="utf-8")
        _publish(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # still there only if something failed
    return report


def _check_free(target: Path, *, overwrite: bool) -> None:
    """Raise an OutputExistsError if writing to a folder would lose something other than an earlier conversion."""
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputExistsError(f"{target}: expected a folder to write, got a file")
    names = sorted(entry.name for entry in target.iterdir())
    if names and not overwrite:
        remedy = "overwrite=True (--overwrite) replaces a conversion"
        raise OutputExistsError(f"{target}: expected no folder or an empty one; {remedy}")
    foreign = [name for name in names if name not in FILES]
    if foreign:
        raise OutputExistsError(
            f"{target}: expected only the files of a conversion to overwrite, got {shown(foreign[0])}"
        )


def _publish(temporary: Path, target: Path) -> None:
    """Rename a finished folder to its final path, which holds the old folder, the new one or nothing at any moment."""
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o777 & ~umask)  # mkdtemp made it private
    for name in FILES:
        (temporary / name).chmod(0o666 & ~umask)  # so did safetensors
        with open(temporary / name, "rb") as file:
            os.fsync(file.fileno())
    if not target.exists():
        temporary.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".old"))
    target.rename(old / target.name)
    try:
        temporary.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _model_card(report: ConversionReport) -> str:
    return f"""---
library_name: timm
tags:
- image-classification
- adversarial-robustness
---
# {report.spec}

Weights converted from a checkpoint of the original implementation of "When NAS Meets Robustness: In Search of Robust
Architectures against Adversarial Attacks" (CVPR 2020, arXiv:1911.10695). Only the format changed. No accuracy and no
robustness is claimed here, because none was measured.

| | |
|---|---|
| architecture | `{report.spec}`, see `spec.json` |
| spec hash | `{report.spec_hash}` |
| parameters | {report.parameters:,} |
| classes | {report.num_classes} |
| converted from | `{shown(report.source).strip('"')}` |
| sha256 of that file | `{report.source_sha256}` |
| file_sha256 of `model.safetensors` | `{report.file_sha256}` |
| state_sha256 of the tensors in it | `{report.state_sha256}` |

Inputs are RGB images in [0, 1], without further normalisation.

```python
import robnet_zoo  # registers the architecture with timm
import timm

model = timm.create_model("local-dir:path/to/this/folder", pretrained=True).eval()
```
"""
