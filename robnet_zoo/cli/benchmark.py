"""`robnet-zoo benchmark`, `report` and `robustbench`: measure, show, convert."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from robnet_zoo.cli.parameters import Json, Numbers, OptionalOutput, Output, Quiet, fail, is_first, remark
from robnet_zoo.cli.starting import starting
from robnet_zoo.data.names import check_name
from robnet_zoo.errors import DocumentError

if TYPE_CHECKING:
    from robnet_zoo.benchmarks.exports import ExportsResult
    from robnet_zoo.benchmarks.protocol import Protocol
    from robnet_zoo.benchmarks.result import Result, Shard
    from robnet_zoo.benchmarks.targets.target import Target
    from robnet_zoo.converters.onnx import Precision
    from robnet_zoo.data import Images
    from robnet_zoo.reports.elements import TableCell

benchmark = App(name="benchmark", help="Measure models on real images, clean and attacked.")


@benchmark.default
def measure(
    target: Annotated[list[str] | None, Parameter(negative=())] = None,
    *,
    data: str,
    protocol: str = "quick",
    n: Annotated[int | None, Parameter(name=["-n"])] = None,
    weights: Path | None = None,
    mean: Numbers = None,
    std: Numbers = None,
    source: Annotated[list[str] | None, Parameter(negative=())] = None,
    source_weights: Path | None = None,
    source_mean: Numbers = None,
    source_std: Numbers = None,
    eps: str | None = None,
    seed: int | None = None,
    batch: int | None = None,
    looks: Annotated[list[Literal["straight_through", "twin"]] | None, Parameter(negative=())] = None,
    exports: Annotated[list[Literal["fp32", "fp16", "int8"]] | None, Parameter(negative=())] = None,
    calibrate: str | None = None,
    shard: str | None = None,
    output: OptionalOutput = None,
    keep_images: Annotated[bool, Parameter(negative="")] = False,
    cuda_graphs: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure models on real images, clean and attacked. After an interruption, the same command resumes.

    Args:
        target: A timm name (robnet_micro.cifar10, resnet18), a folder that training left, an .onnx file
            (FILE.onnx:OUTPUT if several of its outputs could be logits), robustbench:NAME, or with --weights the path
            of a spec. Several are measured one after the other, or in a transfer against each other. A torch module of
            your own is measured from Python.
        data: An .npz, a folder of class folders, pictures-64:FOLDER, cifar10-test:FOLDER, or `digits`.
        protocol: A bundled protocol, such as quick, strong, table1 or autoattack, or the path of one. `robnet-zoo
            protocols` lists them.
        n: Measure the first n images; by default as many as the protocol says (quick: 100), or all.
        weights: A safetensors file for the model, instead of its bundled weights.
        mean: What the model subtracts from each channel, if its document does not say so, such as .485 .456 .406; a
            single number is for all channels.
        std: What the model divides each channel by, such as .229 .224 .225.
        source: In a transfer, the model that is attacked, named like a target; by default each of several targets.
        source_weights: A safetensors file for the source, instead of its bundled weights.
        source_mean: What the source subtracts from each channel, if its document does not say so.
        source_std: What the source divides each channel by.
        eps: The radius of the ball in image units, such as 8/255 or 0.03, instead of the protocol's.
        seed: The seed of the random starts, instead of the protocol's.
        batch: The number of images attacked at once, instead of the protocol's.
        looks: How gradient attacks look at a quantised file, instead of the protocol's ways: straight_through, twin, or
            both, in turn, which is the default.
        exports: Export the model, which has to be compiled from a spec, in these forms, such as fp32,fp16,int8, and
            measure each file beside it: size, latency at batch 1 and 64, how far answers and gradients are from
            torch's, and accuracies. All go into --output.
        calibrate: Images that int8 is calibrated on, as for training; by default those of --data behind the first n.
        shard: INDEX/COUNT: measure a part of the images; `benchmark merge` joins the parts. Under torchrun every
            process takes its own part.
        output: Write the results document into this file; several, and exports, go into a folder of this name.
        keep_images: Write the adversarial images beside the document, for `benchmark verify`.
        cuda_graphs: On a GPU, capture the passes of attacks once as CUDA graphs and replay them. The outcomes are the
            same; how much faster it is was not measured yet.
    """
    from robnet_zoo.benchmarks.protocol import load_protocol

    target = target or []
    if not target or len(set(target)) < len(target):
        given_as_sources = f"; {', '.join(source)} behind --source are sources" if source and not target else ""
        fail(f"expected models to measure, each once, got {', '.join(target) or 'none'}{given_as_sources}")
    if len(target) > 1 and (weights or mean or std):
        fail(f"--weights, --mean, --std: expected one model with them, got {len(target)}")
    described = bool(source_weights or source_mean or source_std)
    if described and len(source or ()) != 1:
        fail(f"--source-weights, --source-mean, --source-std: expected one --source with them, got {len(source or ())}")
    chosen = load_protocol(protocol)
    given = {"eps": eps, "seed": seed, "batch": batch, "n": n, "looks": looks}
    chosen = chosen.model_copy(update={key: value for key, value in given.items() if value is not None})
    if chosen.threat == "transfer" and not source and len(target) == 1:
        fail(f"--source: expected the model to attack, as {chosen.name} is a transfer, got none")
    if chosen.threat == "white_box" and source:
        fail(f"--source: expected none, as {chosen.name} is a white box, got {', '.join(source)}")
    if exports:
        _check_exports(target, chosen, shard=shard, output=output)
    elif calibrate is not None:
        fail("--calibrate: expected --exports with int8, got none")
    check_name(data)
    if calibrate is not None:
        check_name(calibrate, train=True)
    if output is not None and output.is_dir() and len(target) == 1 and chosen.threat == "white_box" and not exports:
        fail(f"--output: {output}: expected a file for the results document, got a folder")
    with starting(shown=not (quiet or as_json)) as sign:
        from robnet_zoo.benchmarks.targets.load import load_target
        from robnet_zoo.data import load as load_images

        def loaded(name: str, weights: Path | None, mean: Numbers, std: Numbers) -> Target:
            plain = load_target(name, weights=weights, dtype=chosen.dtype, mean=mean, std=std)
            return plain.with_cuda_graphs() if cuda_graphs else plain

        sign.says("loading the models")
        targets = [loaded(name, weights, mean, std) for name in target]
        sources: list[Target | None] = [None]
        if chosen.threat == "transfer":
            sources = [
                targets[target.index(name)]
                if name in target and not described
                else loaded(name, source_weights, source_mean, source_std)
                for name in source or target
            ]
        sign.says(f"reading {data}")
        images = load_images(data)  # after the names, of which a wrong one is refused at once
        calibration = None if calibrate is None else load_images(calibrate, train=True)
    written = None
    if exports and output is not None:
        written, files = _exported(targets[0], images, chosen, exports, calibration, output, progress=not quiet)
        targets += files
    results = _measured(
        targets,
        sources,
        images,
        chosen,
        shard=shard,
        output=output,
        keep_images=keep_images,
        progress=is_first() and not quiet,
    )
    if not results:  # a process that is not the first
        return
    if as_json:
        documents = [result.model_dump(mode="json", exclude_none=True) for result in results]
        if written is not None:
            print(json.dumps({"exports": written.model_dump(mode="json", exclude_none=True), "results": documents}))
            return
        print(json.dumps(documents[0] if len(targets) * len(sources) == 1 else documents))
        return
    if quiet:
        return
    if written is not None:
        print(_exports_summary(written, results), end="")
    else:
        print(*results, sep="\n")
    if output is not None:
        print(output)


def _check_exports(target: list[str], protocol: Protocol, *, shard: str | None, output: Path | None) -> None:
    """Refuse what does not go together with --exports."""
    if len(target) > 1:
        fail(f"--exports: expected one model to export, got {len(target)}")
    if protocol.threat == "transfer":
        fail(f"--exports: expected a white box, got {protocol.name}, which is a transfer")
    if shard is not None or _distributed():
        fail("--exports: expected a single process, got shards; measure the files with shards once they are exported")
    if output is None:
        fail("--output: expected a folder for the exported files and the documents, got none")


def _exported(
    target: Target,
    images: Images,
    protocol: Protocol,
    precisions: list[Precision],
    calibration: Images | None,
    folder: Path,
    *,
    progress: bool,
) -> tuple[ExportsResult, list[Target]]:
    """Write the files of a model, and return the document of them and the files as targets."""
    from robnet_zoo.benchmarks.exports import write_exports

    measured = images[: protocol.n]
    if "int8" in precisions and calibration is None:
        calibration = images[len(measured) :]
        if not len(calibration):
            expected = "expected images to calibrate int8 on, as those of --data are all measured"
            fail(f"--calibrate: {expected}, got none; -n leaves some of them")
    return write_exports(
        target,
        measured,
        folder,
        precisions=list(dict.fromkeys(precisions)),
        calibration=calibration if "int8" in precisions else None,
        progress=progress,
    )


def _exports_summary(written: ExportsResult, results: list[Result]) -> str:
    """Describe exports for a terminal: alarms, then one table."""
    from robnet_zoo.benchmarks.checks.results import kind_of
    from robnet_zoo.reports.robustness.exports import exports
    from robnet_zoo.reports.robustness.labelled import labelled

    lines = [
        f"{kind_of(alarm).severity.word} {alarm.name}: {result.model.name}: {alarm.text}"
        for result in results
        for alarm in result.alarms
    ]
    for table in exports([written], labelled(results)):
        heads = [column.label for column in table.columns]
        rows = [[_cell(cell) for cell in row.cells] for row in table.rows]
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines += ["", table.title]
        for name, *cells in (heads, *rows):
            right = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([f"{name:{widths[0]}}", *right]).rstrip())
        lines += ["", table.note]
    return "\n".join(lines).lstrip("\n") + "\n"


def _measured(
    targets: list[Target],
    sources: list[Target | None],
    images: Images,
    protocol: Protocol,
    *,
    shard: str | None,
    output: Path | None,
    keep_images: bool,
    progress: bool,
) -> list[Result]:
    """Return a document for every pair of source and target; under torchrun, only the first process returns them."""
    from robnet_zoo.benchmarks.evaluation import evaluate, evaluate_transfer
    from robnet_zoo.benchmarks.shards import gather

    part = _shard(shard)
    results: list[Result] = []
    several = len(targets) * len(sources) > 1
    names = [_path(output, target, source, protocol, several=several) for source in sources for target in targets]
    if output is not None and len(set(names)) < len(names):
        fail(f"--output: expected models whose files have different names, got {', '.join(map(str, names))}")
    for source in sources:
        paths = [_path(output, target, source, protocol, several=several) for target in targets]
        mine = [path if path is None or part is None else _part_path(path, part) for path in paths]
        if source is None:
            parts = [
                evaluate(target, images, protocol, output=path, shard=part, keep_images=keep_images, progress=progress)
                for target, path in zip(targets, mine, strict=True)
            ]
        else:
            parts = evaluate_transfer(
                targets,
                source,
                images,
                protocol,
                outputs=mine,
                shard=part,
                keep_images=keep_images,
                progress=progress,
            )
        if _distributed():
            parts = gather(parts, paths)
        results += parts
    return results


def _distributed() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _shard(text: str | None) -> Shard | None:
    from robnet_zoo.benchmarks.result import Shard

    if text is None:
        if not _distributed():
            return None
        return Shard(index=int(os.environ["RANK"]), count=int(os.environ["WORLD_SIZE"]))
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if _distributed():
        fail("--shard: expected none under torchrun, whose processes take their own parts")
    if match is None or not int(match[1]) < int(match[2]):
        fail(f"--shard: expected INDEX/COUNT with INDEX from 0 to COUNT - 1, got {text!r}")
    return Shard(index=int(match[1]), count=int(match[2]))


def _path(
    output: Path | None, target: Target, source: Target | None, protocol: Protocol, *, several: bool
) -> Path | None:
    if output is None or not several:
        return output
    name = f"{target.name}.{protocol.name}" + ("" if source is None else f".from-{source.name}")
    return output / (re.sub(r"[^A-Za-z0-9._-]+", "_", name) + ".json")


def _part_path(path: Path, shard: Shard) -> Path:
    """Return where a process of several writes its part. A shard that the user asked for goes where the user said."""
    return path.with_name(f"{path.stem}.shard-{shard.index}-of-{shard.count}{path.suffix}") if _distributed() else path


def _cell(cell: TableCell) -> str:
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text


@benchmark.command
def merge(*documents: Path, output: Output, quiet: Quiet = False) -> None:
    """Join the documents of shards into the one that a single process would have written.

    Args:
        documents: The documents of all shards.
        output: The file to write.
    """
    if not documents:
        fail("expected the documents of shards, got none")
    with starting(shown=not quiet):
        from robnet_zoo.benchmarks.result import Result
        from robnet_zoo.benchmarks.shards import merge as merge_results

        result = merge_results([Result.load(document) for document in documents])
        result.save(output)
    if not quiet:
        print(result)
        print(output)


@benchmark.command
def verify(
    result: Path,
    *,
    data: str,
    target: str | None = None,
    weights: Path | None = None,
    mean: Numbers = None,
    std: Numbers = None,
    quiet: Quiet = False,
) -> None:
    """Recompute every success that a document claims, from the adversarial images beside it and the model.

    Args:
        result: A results document of a run with --keep-images.
        data: The images that it was measured on, as in `benchmark`.
        target: The model, if the document's name for it is not how it is loaded here.
        weights: A safetensors file for the model, instead of its bundled weights.
        mean: What the model subtracts from each channel, if its document does not say so.
        std: What the model divides each channel by.
    """
    with starting(shown=not quiet):
        from robnet_zoo.benchmarks.kept import verify as verify_result
        from robnet_zoo.benchmarks.result import Result
        from robnet_zoo.benchmarks.targets.load import load_target
        from robnet_zoo.data import load as load_images

        document = Result.load(result)
        name = target or document.model.name
        loaded = load_target(name, weights=weights, dtype=document.protocol.dtype, mean=mean, std=std)
        verified = verify_result(result, loaded, load_images(data))
    width = max(len(outcome.attack) for outcome in verified)
    for outcome in verified if not quiet else ():
        claim = "right without attack" if outcome.attack == "clean" else "fooled"
        print(f"{outcome.attack:{width}}  {outcome.claimed - len(outcome.refuted)} of {outcome.claimed} {claim}")
    refuted = [outcome for outcome in verified if outcome.refuted]
    if refuted:
        first = refuted[0]
        got = f"got {len(first.refuted)} that do not, the first of image {first.refuted[0]}"
        fail(f"{result}: {first.attack}: expected every claim to hold, {got}")


def report(*results: Path, output: Output, comparisons: Path | None = None, quiet: Quiet = False) -> None:
    """Write a report of results documents, with the paper's figures beside ours.

    Args:
        results: Results documents, or folders of them, where other JSON files are passed over. Documents of
            `benchmark --exports`, MODEL.exports.json, add a table of sizes, latencies and accuracies.
        output: The file to write: .html, .md or .csv.
        comparisons: A second file, .html, .md or .csv, for the comparisons of every two models. The report itself
            compares more than ten only with the best of them.
    """
    from robnet_zoo.benchmarks.result import EXPORTS, Result, results_in

    passed_over: set[str] = set()

    def pass_over(error: DocumentError) -> None:
        passed_over.add(error.source)
        remark(f"passed over: {error}")

    files = [file for path in results for file in (results_in(path, pass_over=pass_over) if path.is_dir() else [path])]
    named = [path for path in results if path.name.endswith(EXPORTS)]
    beside = [path for folder in results if folder.is_dir() for path in sorted(folder.glob(f"*{EXPORTS}"))]
    beside = [path for path in beside if str(path) not in passed_over]
    files = [file for file in files if file not in named]
    if not files:
        where = f"{', '.join(map(str, results))}: " if results else ""
        fail(f"{where}expected results documents, got none")
    with starting(shown=not quiet):
        from robnet_zoo.benchmarks.exports import ExportsResult
        from robnet_zoo.reports.robustness import write

        exported = [ExportsResult.load(path) for path in (*named, *beside)]
        write([Result.load(file) for file in files], output, comparisons=comparisons, exported=exported)
    if not quiet:
        print(*[path for path in (output, comparisons) if path is not None], sep="\n")


def robustbench(
    result: Path,
    *,
    authors: str,
    output: Output,
    link: str | None = None,
    name: str | None = None,
    venue: str | None = None,
    evaluates: str | None = None,
    dataset: Literal["cifar10", "cifar100", "imagenet"] = "cifar10",
    threat: Literal["Linf", "L2"] = "Linf",
    architecture: str | None = None,
    additional_data: bool = False,
    reported: float | None = None,
    issue: Path | None = None,
    checkpoint: str | None = None,
    images: Path | None = None,
    data: str | None = None,
    quiet: Quiet = False,
) -> None:
    """Convert a result to what RobustBench asks for, of a new model or another evaluation of one of its own.

    Args:
        result: The results document: for a new model one of the protocol autoattack, for an evaluation any white box.
        authors: The authors of the paper, or of the evaluation, separated by commas.
        output: The file to write: the JSON of the entry, model_info, or the text of the issue of an evaluation.
        link: A link to the paper; with --evaluates, to the tensor of --images.
        name: The paper's title.
        venue: Where the paper appeared.
        evaluates: Write the issue of another evaluation of this model of RobustBench's zoo instead of an entry.
        dataset: The data set of the leaderboard.
        threat: The threat model of the leaderboard.
        architecture: The architecture's name; by default taken from the model's.
        additional_data: Training used more than the data set's own images.
        reported: The robust accuracy that the paper reports, as a share; by default this one.
        issue: A second file to write: the text of the issue that asks for a new model.
        checkpoint: A link to weights and code, for the issue; by default that of the paper.
        images: A further file to write, .pt: the adversarial images as a tensor, clean where no attack succeeded. The
            document has to be of a run with --keep-images.
        data: The images that the document was measured on, as in `benchmark`, for --images.
    """
    if (images is None) != (data is None):
        fail("--images, --data: expected both of them or none")
    written = [path for path in (output, issue, images) if path is not None]
    if len({path.resolve() for path in written}) < len(written):
        fail(f"--output, --issue, --images: expected files of their own, got {', '.join(map(str, written))}")
    if folder := next((path for path in written if path.is_dir()), None):
        fail(f"{folder}: expected a file to write, got a folder")
    from robnet_zoo.benchmarks.result import Result
    from robnet_zoo.benchmarks.robustbench import evaluation_text, issue_text, model_info
    from robnet_zoo.core.files import write_atomically

    document = Result.load(result)
    texts: dict[Path, str] = {}
    if evaluates is not None:
        if name or venue or architecture or additional_data or reported is not None or issue or checkpoint:
            fail("--evaluates: expected --authors, --link, --dataset, --threat, --images and --data, got more")
        texts[output] = evaluation_text(
            document, model=evaluates, authors=authors, link=link or "", dataset=dataset, threat=threat
        )
    elif not (link and name and venue):
        fail("--link, --name, --venue: expected all of them for a new model, or --evaluates MODEL")
    else:
        info = model_info(
            document,
            link=link,
            name=name,
            authors=authors,
            venue=venue,
            dataset=dataset,
            threat=threat,
            architecture=architecture,
            additional_data=additional_data,
            reported=reported,
        )
        texts[output] = json.dumps(info, indent=2) + "\n"
        if issue is not None:
            texts[issue] = issue_text(info, document, checkpoint=checkpoint or link, threat=threat)
    tensor = None if data is None else _adversarial_tensor(result, data, quiet=quiet)
    for path, text in texts.items():
        write_atomically(path, text.encode(errors="backslashreplace"))
    if images is not None and tensor is not None:
        write_atomically(images, tensor)
    if not quiet:
        print(*texts, *([] if images is None else [images]), sep="\n")


def _adversarial_tensor(result: Path, data: str, *, quiet: bool) -> bytes:
    """Return a file as torch saves it: a document's adversarial images, (N, C, H, W) in float32."""
    with starting(shown=not quiet):
        import torch

        from robnet_zoo.benchmarks.kept import adversarial
        from robnet_zoo.data import load as load_images

        buffer = io.BytesIO()
        torch.save(adversarial(result, load_images(data)), buffer)
    return buffer.getvalue()
