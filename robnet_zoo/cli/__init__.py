"""The `robnet-zoo` command: a thin layer over the API, whose documents become flags.

Whatever a user got wrong is one line on stderr and exit code 2; `--json` prints what a program can read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter
from pydantic import ValidationError

from robnet_zoo.cli.benchmark import benchmark, report, robustbench
from robnet_zoo.cli.parameters import Json, Output, fail, is_first, merged, partial, show_bundled
from robnet_zoo.cli.reproduce import reproduce
from robnet_zoo.cli.search import search
from robnet_zoo.converters.onnx.options import ExportOptions
from robnet_zoo.core.documents import nearest, sentences
from robnet_zoo.errors import DocumentError, RobnetZooError
from robnet_zoo.genotype.genotype import Denoise, Genotype
from robnet_zoo.training.checkpoints import Keeping
from robnet_zoo.training.recipe import DEFAULT, Recipe, load_recipe
from robnet_zoo.version import __version__

if TYPE_CHECKING:
    from robnet_zoo.data import Images
    from robnet_zoo.zoo.architecture import Architecture

app = App(
    name="robnet-zoo", help=__doc__, version=__version__, help_format="plaintext", suppress_keyboard_interrupt=False
)
convert = App(name="convert", help="Outside formats to ours and back.")
app.command(convert)
app.command(benchmark)
app.command(report)
app.command(robustbench)
app.command(search)
app.command(reproduce)


RecipeOverrides, ExportOverrides = partial(Recipe), partial(ExportOptions)


@app.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """The bundled architectures and their trained weights."""
    from robnet_zoo.genotype.blueprint import multiply_adds, parameters
    from robnet_zoo.zoo import weights
    from robnet_zoo.zoo.registry import load_spec, spec_names

    entries = weights.manifest().entries
    rows: list[dict[str, Any]] = []
    for name in spec_names():
        spec = load_spec(name)
        rows.append(
            {
                "name": name,
                "parameters": parameters(spec),
                "multiply_adds": multiply_adds(spec),
                "weights": [f"{name}.{entry.tag}" for entry in entries if entry.model == name],
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'name':24} {'parameters':>12} {'multiply-adds':>14}  weights")
    for row in rows:
        tags = ", ".join(row["weights"]) or "-"
        print(f"{row['name']:24} {row['parameters']:>12,} {row['multiply_adds'] / 1e6:>12.1f} M  {tags}")


@app.command
def show(spec: str, *, draw: Path | None = None, cell: str | None = None, as_json: Json = False) -> None:
    """Summarise an architecture, and draw a cell of it.

    Parameters
    ----------
    spec
        A bundled name or the path of a spec.
    draw
        Write a picture of a cell into this .svg or .png file.
    cell
        Which cell to draw; by default the first of the layout.
    """
    from robnet_zoo.genotype.draw import draw_cell
    from robnet_zoo.zoo.registry import load_spec

    genotype = load_spec(spec)
    summary = _summary(genotype)
    if draw is not None:
        name = genotype.layout[0] if cell is None else cell
        if name not in genotype.cells:
            fail(f"--cell: unknown cell {name!r}{nearest(name, genotype.cells)}")
        if draw.suffix not in (".svg", ".png"):
            fail(f"--draw: expected a file that ends in .svg or .png, got {draw.name!r}")
        draw_cell(genotype, name, draw)
    if as_json:
        print(json.dumps(summary, indent=1))
        return
    for key, value in summary.items():
        text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if isinstance(value, float) else str(value)
        print(f"{key.replace('_', ' '):18} {text}")


def _summary(spec: Genotype) -> dict[str, Any]:
    from robnet_zoo.genotype.blueprint import multiply_adds, parameters

    network = spec.network
    return {
        "name": spec.name,
        "hash": spec.hash,
        "operations": ", ".join(spec.operations),
        "cells": f"{len(spec.cells)} different, {network.depth} in all",
        "layout": _runs(spec.layout),
        "reductions": ", ".join(map(str, network.reductions)),
        "stem": network.stem,
        **({"denoise": _denoise(network.denoise)} if network.denoise else {}),
        "channels": network.channels,
        "input_size": "x".join(map(str, network.input_size)),
        "classes": network.num_classes,
        "density": spec.density,
        "direct_convs": spec.direct_convs,
        "skip_convs": spec.skip_convs,
        "budget": spec.budget,
        "parameters": parameters(spec),
        "multiply_adds": multiply_adds(spec),
    }


def _denoise(denoise: Denoise) -> str:
    return f"{denoise.form} after {', '.join(map(str, denoise.after))}"


def _runs(names: tuple[str, ...]) -> str:
    """`a a a b` as `3 a, b`."""
    runs: list[tuple[str, int]] = []
    for name in names:
        if runs and runs[-1][0] == name:
            runs[-1] = (name, runs[-1][1] + 1)
        else:
            runs.append((name, 1))
    return ", ".join(name if count == 1 else f"{count} {name}" for name, count in runs)


@app.command
def validate(*specs: Path, as_json: Json = False) -> None:
    """Check spec files; exit code 2 if one is wrong.

    Parameters
    ----------
    specs
        JSON files.
    """
    if not specs:
        fail("validate: expected one or more files, got none")
    verdicts: list[dict[str, Any]] = []
    for path in specs:
        try:
            verdicts.append({"file": str(path), "hash": Genotype.load(path).hash, "problems": []})
        except DocumentError as error:
            verdicts.append({"file": str(path), "hash": None, "problems": list(error.problems)})
    if as_json:
        print(json.dumps(verdicts, indent=1))
    for verdict in verdicts:
        for problem in verdict["problems"]:
            print(f"{verdict['file']}: {problem}", file=sys.stderr)
        if not verdict["problems"] and not as_json:
            print(f"{verdict['file']}: valid, hash {verdict['hash'][:12]}")
    if any(verdict["problems"] for verdict in verdicts):
        sys.exit(2)


@app.command
def schema() -> None:
    """Print the JSON Schema of a spec."""
    print(json.dumps(Genotype.model_json_schema(), indent=2))


@app.command
def train(
    architecture: str,
    *,
    data: str,
    output: Output,
    recipe: str = DEFAULT,
    weights: str | None = None,
    checkpoint_seconds: float = Keeping.seconds,
    checkpoint_updates: int | None = Keeping.updates,
    checkpoints: int = Keeping.count,
    resume: Annotated[bool, Parameter(negative=())] = False,
    overrides: Annotated[RecipeOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Train an architecture adversarially; run it again to go on after an interruption.

    It is trained for as many classes as the data has, and for images of their size, whatever it was published for.

    Parameters
    ----------
    architecture
        A bundled name or the path of a spec, or a model of timm, such as resnet18_cifar.
    data
        Training images: an .npz, a folder of class folders, pictures-64:FOLDER, cifar10-train:FOLDER, or `digits`.
    output
        A folder for checkpoints, history and weights.
    recipe
        A bundled recipe or the path of one; the flags of a recipe's fields override them.
    weights
        What to begin with instead of a random initialisation: a safetensors file of this architecture, or bundled
        weights by name, such as robnet_micro.cifar10.
    checkpoint_seconds
        Write a checkpoint when the last one is so old; after every epoch in any case.
    checkpoint_updates
        Write one also every so many updates.
    checkpoints
        Keep so many.
    resume
        Expect a run to go on with in the folder; without it one begins where there is none.
    """
    from robnet_zoo import training

    chosen, images = _fitted(architecture, data)
    chosen_recipe = merged(load_recipe(recipe), overrides)
    keeping = Keeping(seconds=checkpoint_seconds, updates=checkpoint_updates, count=checkpoints)
    training.train(chosen, images, chosen_recipe, output, weights=weights, keeping=keeping, resume=resume)
    if is_first():
        print(output / "model.safetensors")


@app.command
def estimate(
    architecture: str,
    *,
    data: str,
    recipe: str = DEFAULT,
    updates: int = 3,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    as_json: Json = False,
    overrides: Annotated[RecipeOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """How long `train` would take here, from a few updates at each image size; nothing is trained.

    Under torchrun, of all its processes together.

    Parameters
    ----------
    architecture
        As for `train`.
    data
        As for `train`.
    recipe
        A bundled recipe or the path of one; the flags of a recipe's fields override them.
    updates
        Time so many at each image size.
    output
        A file for the estimate as a document.
    """
    from robnet_zoo import training
    from robnet_zoo.training.duration import table

    if updates < 1:
        fail(f"--updates: expected at least 1, got {updates}")
    chosen, images = _fitted(architecture, data)
    found = training.estimate(chosen, images, merged(load_recipe(recipe), overrides), updates=updates)
    if not is_first():
        return
    if output is not None:
        found.save(output)
    print(found.dumps() if as_json else f"{table(found)}\n", end="")


def _fitted(architecture: str, data: str) -> tuple[Architecture, Images]:
    """An architecture for the classes and the size of some training images, and these."""
    from robnet_zoo.data import load as load_images
    from robnet_zoo.zoo.architecture import fitted, head, load_architecture

    published, images = load_architecture(architecture), load_images(data, train=True)
    num_classes = images.count_classes(at_least=head(published)[1])
    return fitted(published, num_classes=num_classes, input_size=images.shape), images


@app.command
def recipes(name: str | None = None) -> None:
    """The bundled training recipes, or one of them as JSON, to begin a recipe of one's own with.

    Parameters
    ----------
    name
        A bundled recipe or the path of one.
    """
    from robnet_zoo.training.recipe import recipe_names

    show_bundled(name, recipe_names, load_recipe)


@app.command
def export(
    model: str,
    *,
    output: Output,
    weights: Path | None = None,
    data: str | None = None,
    options: Annotated[ExportOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
    as_json: Json = False,
) -> None:
    """Write a model as an ONNX file whose logits are proved equal to torch's, and report what came out.

    Parameters
    ----------
    model
        A timm name (robnet_micro.cifar10), local-dir:FOLDER, or with --weights the path of a spec.
    output
        The file to write.
    weights
        A safetensors file for the model, instead of its bundled weights.
    data
        Real images, as for training: the file is compared with torch on them, and int8 is calibrated on them.
    """
    from robnet_zoo.converters.onnx.export import export as export_onnx
    from robnet_zoo.data import load as load_images
    from robnet_zoo.zoo.registry import load_model

    images = None if data is None else load_images(data, train=True)
    report = export_onnx(load_model(model, weights=weights), output, merged(ExportOptions(), options), images=images)
    print(json.dumps(report.model_dump(mode="json", exclude_none=True), indent=1) if as_json else f"{output}: {report}")


@app.command
def demo(*, output: Output = Path("demo-report")) -> None:
    """Load a bundled model, attack it on handwritten digits, export it to ONNX, and write a small report.

    Parameters
    ----------
    output
        A folder for the report.
    """
    from robnet_zoo.cli.demo import demo as run_demo

    print(run_demo(output))


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
    """A checkpoint of the original code to safetensors, spec and model card. Never runs the file's pickle.

    Parameters
    ----------
    file
        The checkpoint, .pth or .pth.tar.
    spec
        A bundled name or the path of the spec that the checkpoint was trained with.
    output
        A new folder; timm loads it as local-dir:FOLDER.
    slice_head
        Keep the first rows of a head that has more classes than the spec.
    overwrite
        Replace the folder of an earlier conversion.
    """
    from robnet_zoo.converters.original.weights import convert_file
    from robnet_zoo.zoo.registry import load_spec

    report = convert_file(file, load_spec(spec), output, slice_head=slice_head, overwrite=overwrite)
    print(json.dumps(report.model_dump(mode="json"), indent=1) if as_json else f"{output}: {report}")


@convert.command
def codes(
    file: Path, *, name: str | None = None, output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None
) -> None:
    """Code lists of the original ({"codes": ..., "model_param": ...}) to a spec, or a spec to code lists.

    Parameters
    ----------
    file
        A JSON file of either form.
    name
        Which of several architectures in the file.
    output
        The file to write; by default, standard output.
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
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
) -> None:
    """A DARTS-style genotype to the spec of the network that DARTS evaluates with it. Never runs the text.

    Parameters
    ----------
    genotype
        darts_v1, darts_v2, pdarts, pc_darts, pc_darts_imagenet, advrush, racl; a .json or Python file; or the text
        itself, such as "Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))".
    pick
        Which of several genotypes in the file, by name.
    name
        The spec's name.
    channels
        Channels of a node in the first cell.
    depth
        Number of cells.
    num_classes
        Logits.
    stem
        cifar for 32x32 images, imagenet for 224x224.
    output
        The file to write; by default, standard output.
    """
    from robnet_zoo.converters.darts import convert_darts

    spec = convert_darts(
        genotype, pick=pick, name=name, channels=channels, depth=depth, num_classes=num_classes, stem=stem
    )
    _give(spec.dumps(), output)


def _give(text: str, output: Path | None) -> None:
    """Print a text, or write it to a file."""
    if output is None:
        print(text, end="")
    else:
        from robnet_zoo.core.documents import write_atomically

        write_atomically(output, text.encode())


def main(arguments: list[str] | None = None) -> None:
    """Run the command; see `robnet-zoo --help`."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        if isinstance(error.__cause__, ValidationError):  # flags that are no document
            fail(str(DocumentError(f"--{sentence}" for sentence in sentences(error.__cause__))))
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("robnet-zoo: interrupted; what was written down is kept, and the same command goes on", file=sys.stderr)
        sys.exit(130)
    except (RobnetZooError, OSError) as error:
        fail(" ".join(str(error).split()))
