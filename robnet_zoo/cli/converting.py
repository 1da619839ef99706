"""`robnet-zoo export` and `convert`: a model to ONNX, other projects' formats to ours and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from robnet_zoo.cli.parameters import Json, OptionalOutput, Output, merged, partial
from robnet_zoo.converters.onnx.options import ExportOptions

convert = App(name="convert", help="Convert other projects' formats to ours, or code lists of ours back.")
ExportOverrides = partial(ExportOptions)


def export(
    model: str,
    *,
    output: Output,
    weights: Path | None = None,
    data: str | None = None,
    options: Annotated[ExportOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
    as_json: Json = False,
) -> None:
    """Export a model to ONNX, check that the file gives torch's logits, and report what was written.

    Args:
        model: A timm name (robnet_micro.cifar10), local-dir:FOLDER, or with --weights the path of a spec.
        output: The file to write.
        weights: A safetensors file for the model, instead of its bundled weights.
        data: Real images, as for training: int8 is calibrated on them, and the file is compared with torch on them.
    """
    from robnet_zoo.converters.onnx.export import export as export_onnx
    from robnet_zoo.data import load as load_images
    from robnet_zoo.zoo.registry import load_model

    images = None if data is None else load_images(data, train=True)
    report = export_onnx(load_model(model, weights=weights), output, merged(ExportOptions(), options), images=images)
    print(json.dumps(report.model_dump(mode="json", exclude_none=True), indent=1) if as_json else f"{output}: {report}")


@convert.command
def original(
    file: Path,
    *,
    spec: str,
    output: Output,
    slice_head: bool = False,
    overwrite: bool = False,
    as_json: Json = False,
) -> None:
    """Convert a checkpoint of the original code to safetensors, a spec and a model card. Its pickle is never run.

    Args:
        file: The checkpoint, .pth or .pth.tar.
        spec: A bundled name or the path of the spec that the checkpoint was trained with.
        output: A new folder; timm loads it as local-dir:FOLDER.
        slice_head: If the head has more classes than the spec, keep its first rows.
        overwrite: Replace the folder if an earlier conversion left it.
    """
    from robnet_zoo.converters.original.weights import convert_file
    from robnet_zoo.zoo.registry import load_spec

    report = convert_file(file, load_spec(spec), output, slice_head=slice_head, overwrite=overwrite)
    print(json.dumps(report.model_dump(mode="json"), indent=1) if as_json else f"{output}: {report}")


@convert.command
def codes(file: Path, *, name: str | None = None, output: OptionalOutput = None) -> None:
    """Convert code lists of the original ({"codes": ..., "model_param": ...}) to a spec, or a spec to code lists.

    Args:
        file: A JSON file of either form.
        name: The architecture to convert, if the file holds several.
        output: The file to write; by default, standard output.
    """
    from robnet_zoo.converters.original.codes import convert_codes

    _give(convert_codes(file, name=name), output)


@convert.command
def darts(
    genotype: str,
    *,
    pick: str | None = None,
    name: str | None = None,
    channels: int = 36,
    depth: int = 20,
    num_classes: int = 10,
    stem: Literal["cifar", "imagenet"] = "cifar",
    output: OptionalOutput = None,
) -> None:
    """Convert a DARTS genotype to the spec of the network that DARTS evaluates. The text is never run.

    Args:
        genotype: darts_v1, darts_v2, pdarts, pc_darts, pc_darts_imagenet, advrush, racl; a .json or Python file; or the
            text itself, such as "Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2,
            6))".
        pick: The name of the genotype to convert, if the file holds several.
        name: The spec's name.
        channels: The channels of a node in the first cell.
        depth: The number of cells.
        num_classes: The number of classes.
        stem: cifar for 32x32 images, imagenet for 224x224.
        output: The file to write; by default, standard output.
    """
    from robnet_zoo.converters.darts import convert_darts

    spec = convert_darts(
        genotype, pick=pick, name=name, channels=channels, depth=depth, num_classes=num_classes, stem=stem
    )
    _give(spec.dumps(), output)


def _give(text: str, output: Path | None) -> None:
    """Print a text, or write it into a file."""
    if output is None:
        print(text, end="")
    else:
        from robnet_zoo.core.files import write_atomically

        write_atomically(output, text.encode())
