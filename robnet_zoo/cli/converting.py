"""`robnet-zoo export` and `convert`: a model to ONNX, other projects' formats to ours and back."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from cyclopts import App, Parameter

from robnet_zoo.cli.overrides import merged, partial
from robnet_zoo.cli.parameters import Json, OptionalOutput, Output, Quiet, fail
from robnet_zoo.cli.starting import starting
from robnet_zoo.converters.onnx.options import ExportOptions
from robnet_zoo.converters.table import CONVERTERS, Converter
from robnet_zoo.core.documents import Document
from robnet_zoo.core.files import write_atomically
from robnet_zoo.core.wording import counted
from robnet_zoo.data.names import check_name
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import SpecLike

convert = App(name="convert", help="Convert other projects' formats to ours, or code lists of ours back.")
ExportOverrides = partial(ExportOptions)
OutputText = Annotated[OptionalOutput, Parameter(help="The file to write; by default, standard output.")]
FLAG_TYPES = {SpecLike: str}  # a spec is given by its name or path


def export(
    model: str,
    *,
    output: Output,
    weights: Path | None = None,
    data: str | None = None,
    options: Annotated[ExportOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Export a model to ONNX, check that the file gives torch's logits, and report what was written.

    Args:
        model: A timm name (robnet_micro.cifar10), the folder of a training run or a conversion, or with --weights the
            path of a spec.
        output: The file to write.
        weights: A safetensors file for the model, instead of its bundled weights.
        data: Real images, as for training, by default scikit-learn's digits: the file is compared with torch on them.
            int8 needs them, as the first --calibration of them give the ranges of its activations: take training
            images, and keep those on which the file is measured apart.
    """
    chosen = merged(ExportOptions(), options)
    if output.is_dir():
        fail(f"--output: {output}: expected a file to write, got a folder")
    if data is not None:
        check_name(data, train=True)
    elif chosen.precision == "int8":
        fail("--data: expected real images, as int8 takes the ranges of activations from them, got none")
    with starting(shown=not (quiet or as_json)) as sign:
        from robnet_zoo.zoo.registry import load_model

        network = load_model(model, weights=weights)  # a wrong name is refused before more is imported
        sign.says("loading ONNX Runtime")

        from robnet_zoo.converters.onnx import export as write
        from robnet_zoo.data import load as load_images

        images = None
        if data is not None:
            sign.says(f"reading {data}")
            images = load_images(data, train=True)
    report = write(network, output, chosen, images=images, progress=not (quiet or as_json))
    if as_json:
        print(json.dumps(report.model_dump(mode="json", exclude_none=True), indent=1))
    elif not quiet:
        print(f"{output}: {report}")


def as_command(converter: Converter) -> Callable[..., None]:
    """Return a converter as a command: its parameters become flags, and its result is printed or written."""
    types = get_type_hints(converter, include_extras=True)
    parameters = [
        parameter.replace(annotation=FLAG_TYPES.get(types[name], types[name]))
        for name, parameter in inspect.signature(converter).parameters.items()
    ]
    names = [parameter.name for parameter in parameters]
    writes_itself = "output" in names
    added: list[tuple[str, Any, Any]]  # name, default, type
    if writes_itself:
        at = names.index("output")
        parameters[at] = parameters[at].replace(annotation=Output)
        added = [("quiet", False, Quiet), ("as_json", False, Json)]
    else:
        added = [("output", None, OutputText), ("quiet", False, Quiet)]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, default, kind in added
    ]

    def command(source: Any, **options: Any) -> None:
        quiet = options.pop("quiet", False)
        if writes_itself:
            as_json = options.pop("as_json", False)
            with starting(shown=not (quiet or as_json)):
                report = converter(source, **options)
            if as_json or not quiet:
                print(_as_json(report) if as_json else f"{options['output']}: {report}")
        else:
            output = options.pop("output", None)
            _give(converter(source, **options), output, quiet=quiet)

    command.__name__, command.__doc__ = converter.__name__, converter.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _as_json(report: Document | str) -> str:
    return json.dumps(report.model_dump(mode="json") if isinstance(report, Document) else report, indent=1)


def _give(result: Document | str, output: Path | None, *, quiet: bool) -> None:
    """Print a result, or write it to a file. quiet: whether nothing is said of the file."""
    text = result.dumps() if isinstance(result, Document) else result
    if output is None:
        print(text, end="")
    else:
        write_atomically(output, text.encode())
        if not quiet:
            print(f"{output}: {_size(result)}" if isinstance(result, Genotype) else output)


def _size(spec: Genotype) -> str:
    """Return what a network of a converted cell has got, as a genotype does not say it."""
    from robnet_zoo.genotype.blueprint import multiply_adds, parameters

    network = spec.network
    size = f"{network.channels} channels, {counted(network.depth, 'cell')}, {'x'.join(map(str, network.input_size))}"
    return f"{size}, {parameters(spec):,} parameters, {multiply_adds(spec) / 1e6:,.1f} M multiply-adds"


for name, converter in CONVERTERS.items():
    convert.command(as_command(converter), name=name)
