"""Read back what torch's two exporters make of timm's architectures: `python -m tools.corpus --help`.

Every architecture has random weights and small images. Its file is rebuilt in torch; logits are compared with those
that ONNX Runtime gives, and input gradients with those of the module that was exported. `tools.docs` makes the table
of docs/onnx.md from the document, which is saved behind each file: a run that was interrupted goes on with the next.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal, get_args

import timm
import torch
from torch import Tensor, nn

from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.converters.onnx.verify import ROUNDING, open_session, run_session
from robnet_zoo.core.documents import Document, Tuple, exactly, nearest
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.progress import bar
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import DocumentError, UnsupportedError
from tools import committed

Exporter = Literal["scripting", "dynamo"]
LOGITS, GRADIENTS = 1e-5, 1e-4  # the largest differences, each relative to the largest number of the image
MOST = 0.05  # a difference above it is none of rounding, or says nothing of a module that rounds so
SPREAD = 0.2  # of what is added to parameters that are all alike, such as the zeros of a bias
CLASSES, TRACED, MEASURED = 10, 2, 8  # images that an exporter sees, and that are compared
NUDGED = 3  # copies of a module whose weights are rounded otherwise
SECONDS, WAIT, BYTES = 400, 2400, 10 * 2**30  # the most that a file may take: of the processor, in all, of memory
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of a message that is meant for a terminal
DOCUMENT = committed.CORPUS / "timm.json"

# Height and width of the images of each architecture: 64, or the least above it that it takes.
ARCHITECTURES: Mapping[str, int] = MappingProxyType(
    {
        "resnet18": 64,
        "resnetv2_18": 64,
        "seresnet18": 64,
        "nf_resnet26": 64,
        "test_nfnet": 64,
        "densenet121": 64,
        "vgg11_bn": 224,
        "inception_v3": 96,
        "inception_v4": 96,
        "dpn48b": 64,
        "hrnet_w18_small": 64,
        "res2net50_48w_2s": 64,
        "skresnet18": 64,
        "resnest14d": 64,
        "regnetx_002": 64,
        "regnety_002": 64,
        "regnetz_005": 64,
        "efficientnet_b0": 64,
        "tf_efficientnetv2_b0": 64,
        "mixnet_s": 64,
        "mobilenetv2_035": 64,
        "mobilenetv3_small_050": 64,
        "lcnet_035": 64,
        "mobilenetv4_conv_small_035": 64,
        "mobilenetv4_hybrid_medium_075": 64,
        "mobileone_s0": 64,
        "repvgg_a0": 64,
        "ghostnet_050": 64,
        "ghostnetv2_100": 64,
        "repghostnet_050": 64,
        "convnext_atto": 64,
        "convnextv2_atto": 64,
        "inception_next_atto": 64,
        "fastvit_t8": 64,
        "efficientformer_l1": 224,
        "efficientformerv2_s0": 64,
        "efficientvit_b0": 64,
        "efficientvit_m0": 64,
        "levit_128s": 64,
        "levit_conv_128s": 64,
        "mobilevit_xxs": 64,
        "mobilevitv2_050": 64,
        "edgenext_xx_small": 64,
        "vit_tiny_patch16_224": 64,
        "test_vit_relpos": 64,
        "deit_tiny_distilled_patch16_224": 64,
        "deit3_small_patch16_224": 64,
        "cait_xxs24_224": 64,
        "swin_tiny_patch4_window7_224": 64,
        "swinv2_tiny_window8_256": 64,
        "maxvit_pico_rw_256": 64,
        "coatnet_pico_rw_224": 64,
        "pvt_v2_b0": 64,
        "xcit_nano_12_p16_224": 64,
        "coat_lite_tiny": 64,
        "coat_tiny": 64,
        "poolformer_s12": 64,
        "poolformerv2_s12": 64,
        "caformer_s18": 64,
        "mixer_s32_224": 64,
        "gmlp_ti16_224": 64,
        "gmixer_12_224": 64,
        "resmlp_12_224": 64,
        "davit_tiny": 64,
        "focalnet_tiny_srf": 64,
        "gcvit_xxtiny": 64,
        "hiera_tiny_224": 64,
        "botnet26t_256": 64,
        "halonet26t": 256,
        "lambda_resnet26t": 64,
        "convit_tiny": 64,
        "convmixer_768_32": 64,
        "mambaout_femto": 64,
        "repvit_m0_9": 64,
        "rexnet_100": 64,
        "tiny_vit_5m_224": 64,
        "volo_d1_224": 64,
        "eva02_tiny_patch14_224": 64,
        "hgnetv2_b0": 64,
        "ese_vovnet19b_slim_dw": 64,
        "sequencer2d_s": 64,
    }
)


class CorpusFile(Document):
    """A file, and how far it is from what it should be. What is missing was not reached.

    side: height and width of the images. parameters: of the module. nodes: of the file's graph. seconds: of the
    processor, to open the file and to rebuild it. exported: of the logits that ONNX Runtime gives, from the module's.
    logits: of the rebuilt graph's logits, from those that ONNX Runtime gives. gradients: of the rebuilt graph's input
    gradients, from the module's. If these are further away than they should be: nearest_logits, nearest_gradients: of
    the rebuilt graph in float32 or float64, from the module in float32 or float64, whichever are nearest for an image,
    since what rounds to the other side of a kink in one does not in the other; rounded_logits, rounded_gradients: of
    the module in float32, from itself in float64, at most, as it is and with its weights rounded otherwise, `NUDGED`
    times. failed: the step that failed, for the reason that follows.
    """

    architecture: str
    side: int
    exporter: Exporter
    parameters: int | None = None
    nodes: int | None = None
    seconds: float | None = None
    exported: float | None = None
    logits: float | None = None
    gradients: float | None = None
    nearest_logits: float | None = None
    nearest_gradients: float | None = None
    rounded_logits: float | None = None
    rounded_gradients: float | None = None
    failed: Literal["export", "operators", "opening", "running"] | None = None
    reason: str | None = None

    @property
    def outcome(self) -> str:
        """Return what came of the file, in words of the table."""
        if self.failed:
            return {"export": "not exported", "operators": "an operator is missing"}.get(self.failed, "not rebuilt")
        if self.logits <= LOGITS and self.gradients <= GRADIENTS:
            return "the same"
        if not _is_rounding(self.logits, self.nearest_logits, self.rounded_logits, LOGITS):
            return "logits differ"
        if not _is_rounding(self.gradients, self.nearest_gradients, self.rounded_gradients, GRADIENTS):
            return "gradients differ"
        return "the same up to rounding"


def _is_rounding(far: float, nearest: float | None, rounded: float | None, limit: float) -> bool:
    """Return whether a difference is within its limit, but for what float32 rounds."""
    return min(far, far if nearest is None else nearest) <= limit or far <= ROUNDING * (rounded or 0) <= MOST


class CorpusResult(Document):
    """The files of the corpus that were measured, and on what."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    device: str
    software: dict[str, str]
    files: Tuple[CorpusFile]


def network(name: str, side: int) -> nn.Module:
    """Return an architecture of timm in eval mode, with random weights that leave no part of it without effect.

    Their spread keeps activations at their size from layer to layer, also where timm's would be small, such as those
    of queries; zeros, ones and other constants are spread. The statistics of batch norms are spread about the size of
    what they normalise: otherwise activations grow from layer to layer until rounding decides the gradients.
    """
    torch.manual_seed(0)
    config = timm.get_pretrained_cfg(name)
    size = {"img_size": side} if config.fixed_input_size and side != config.input_size[1] else {}
    model = timm.create_model(name, num_classes=CLASSES, **size)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                gain = 1 if isinstance(module, nn.Linear) else 2
                module.weight.normal_(std=(gain / module.weight[0].numel()) ** 0.5)
        for parameter in model.parameters():
            if parameter.aminmax()[0] == parameter.aminmax()[1]:
                parameter += SPREAD * torch.randn_like(parameter)
        model.eval()
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        hooks = [norm.register_forward_pre_hook(_spread_statistics) for norm in norms]
        model(torch.rand(TRACED, 3, side, side))
        for hook in hooks:
            hook.remove()
    return model.requires_grad_(False)


def _spread_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Give a batch norm random statistics of the size of its input."""
    square = inputs[0].square().mean()
    norm.running_mean.normal_(std=SPREAD).mul_(square.sqrt())
    norm.running_var.uniform_(0.5, 1.5).mul_(square)


def export(model: nn.Module, images: Tensor, path: Path, exporter: Exporter) -> int | None:
    """Write a file by one of torch's exporters, with its defaults, and return the batch that the file is limited to.

    Args:
        model: in eval mode.
        images: (N, 3, H, W).
        path: of the file.
        exporter: the one of the times of TorchScript, which leaves the batch open, or the one that follows
            `torch.export`, which takes twice as long if it shall.
    """
    names = {"input_names": ["images"], "output_names": ["logits"]}
    if exporter == "dynamo":
        torch.onnx.export(model, (images,), path, dynamo=True, external_data=False, verbose=False, **names)
        return len(images)
    axes = {"images": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(model, (images,), path, dynamo=False, dynamic_axes=axes, **names)
    return None


def nudged(model: nn.Module, seed: int) -> nn.Module:
    """Return a copy of a float32 module whose parameters are each a step of float32 larger, smaller or as they are."""
    copied, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for parameter in copied.parameters():
        sign = torch.randint(-1, 2, parameter.shape, generator=generator)
        parameter.data = torch.nextafter(parameter, parameter + sign)
    return copied


def with_gradients(model: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits, (N, K), and the gradients of a fixed random sum of them by the images, (N, C, H, W)."""
    x = images.clone().requires_grad_()
    logits = model(x)
    weights = torch.randn(logits.shape[1], generator=torch.Generator().manual_seed(1))
    (gradients,) = torch.autograd.grad((logits * weights.to(logits)).sum(), x)
    return logits.detach(), gradients


def apart(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Return the largest difference in an image, relative to its largest number, of the worst of all images.

    Args:
        expected: one or several answers for N images; the one that is nearest for an image counts.
        got: likewise.
    """
    pairs = [(right.double().flatten(1), value.double().flatten(1)) for right in expected for value in got]
    far = [(value - right).abs().amax(1) / right.abs().amax(1) for right, value in pairs]  # each (N,)
    return float(torch.stack(far).amin(0).max())


def measure(
    name: str, side: int, exporter: Exporter, folder: Path, tell: Callable[[CorpusFile], None] = lambda _: None
) -> CorpusFile:
    """Export an architecture, rebuild its file, and return how far it is from what it should be.

    Args:
        name: an architecture of timm.
        side: height and width of its images.
        exporter: which writes the file.
        folder: for the file.
        tell: is told what would be returned if the next step did not end.
    """
    path = folder / f"{name}.{exporter}.onnx"
    entry = CorpusFile(architecture=name, side=side, exporter=exporter)

    def at(step: str) -> None:
        tell(entry.model_copy(update={"failed": step}))

    def failure(step: str, error: Exception) -> CorpusFile:
        reason = " ".join(COLOURS.sub("", f"{type(error).__name__}: {error}").split())
        return entry.model_copy(update={"failed": step, "reason": reason[:300]})

    at("export")
    model = network(name, side)
    images = torch.rand(MEASURED, 3, side, side, generator=torch.Generator().manual_seed(2))
    entry = entry.model_copy(update={"parameters": sum(parameter.numel() for parameter in model.parameters())})
    try:
        batch = export(model, images[:TRACED], path, exporter)
        session = open_session(path.read_bytes())
        expected = run_session(session, images, batch=batch or MEASURED)
        logits, gradients = with_gradients(model, images)
        entry = entry.model_copy(update={"exported": apart([logits], [expected])})
    except Exception as error:  # of whatever kind: exporters raise what they meet
        return failure("export", error)
    at("opening")
    try:
        started = processor_seconds()
        classifier = OnnxClassifier(path, provider="cpu", threads=1)
        rebuilt = classifier.module(batch=classifier.batch)
        seconds = round(processor_seconds() - started, 2)
        entry = entry.model_copy(update={"seconds": seconds, "nodes": len(classifier.proto.graph.node)})
    except UnsupportedError as error:
        return failure("operators", error)
    except Exception as error:
        return failure("opening", error)
    at("running")
    try:
        answer = with_gradients(rebuilt, images)
        far = {"logits": apart([expected], [answer[0]]), "gradients": apart([gradients], [answer[1]])}
        entry = entry.model_copy(update=far)
        if entry.outcome != "the same":
            rounded = [(logits, gradients), *(with_gradients(nudged(model, seed), images) for seed in range(NUDGED))]
            right = with_gradients(model.double(), images.double())
            rebuilt.dtype = torch.float64
            double = with_gradients(rebuilt.double(), images.double())
            near = {
                "nearest_logits": apart([logits, right[0]], [answer[0], double[0]]),
                "nearest_gradients": apart([gradients, right[1]], [answer[1], double[1]]),
                "rounded_logits": max(apart([right[0]], [other]) for other, _ in rounded),
                "rounded_gradients": max(apart([right[1]], [other]) for _, other in rounded),
            }
            entry = entry.model_copy(update=near)
    except Exception as error:
        return entry if entry.gradients is not None else failure("running", error)
    return entry


def processor_seconds() -> float:
    """Return the seconds that this process and its ended copies had a processor."""
    return sum(os.times()[:4])


def _begin(connection: Connection, *arguments: object) -> None:
    """Measure a file in a process of its own, within the limit of memory, and print nothing."""
    import resource  # which Windows does not have

    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    connection.send(measure(*arguments, connection.send))


def bounded(name: str, side: int, exporter: Exporter) -> CorpusFile:
    """Return what `measure` does, from a process that may neither take too long nor too much memory."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["timm", "torch._dynamo", "onnxscript", "robnet_zoo.converters.onnx.classifier"])
    ours, theirs = processes.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        process = processes.Process(target=_begin, args=(theirs, name, side, exporter, Path(folder)))
        process.start()
        theirs.close()
        deadline = time.monotonic() + WAIT
        entry, reason = CorpusFile(architecture=name, side=side, exporter=exporter, failed="export"), None
        try:
            while ours.poll(max(0.0, deadline - time.monotonic())):
                entry = ours.recv()
                if entry.failed is None or entry.reason is not None:
                    break
            else:
                reason = f"took more than {WAIT} s"
        except EOFError:
            process.join()
            reason = f"its process ended with exit code {process.exitcode}"
        finally:
            process.kill()
            process.join()
    return entry if reason is None else entry.model_copy(update={"reason": reason})


def summary(result: CorpusResult) -> str:
    """Return a sentence that counts the files, and says on what they were measured."""
    exported = [file for file in result.files if file.failed != "export"]
    count = Counter(file.outcome for file in exported)
    same = count["the same"] + count["the same up to rounding"]
    share = same / max(1, len(exported))
    architectures = {file.architecture for file in result.files}
    versions = ", ".join(f"{name} {result.software[name]}" for name in ("torch", "timm", "onnxruntime-gpu"))
    return (
        f"Of {counted(len(result.files), 'file')} of {counted(len(architectures), 'architecture')}, {len(exported)} "
        f"could be exported, and {same} of these ({share:.1%}) are rebuilt as the same function, "
        f"{count['the same up to rounding']} of them up to float32's rounding. n = {MEASURED} images; {result.device}; "
        f"{versions}."
    )


def table(result: CorpusResult) -> str:
    """Return the files as a Markdown table, below their count."""
    lines = [
        summary(result),
        "",
        "| architecture | pixels | parameters | exporter | nodes | seconds to open | logits | gradients | outcome |",
        "|---|---:|---:|---|---:|---:|---:|---:|---|",
    ]
    for file in result.files:
        parameters, nodes = (f"{count:,}" if count else "–" for count in (file.parameters, file.nodes))
        seconds = "–" if file.seconds is None else f"{file.seconds:.1f}"
        far = " | ".join("–" if value is None else f"{value:.0e}" for value in (file.logits, file.gradients))
        reason = f": {file.reason}" if file.reason else ""
        lines.append(
            f"| `{file.architecture}` | {file.side} | {parameters} | {file.exporter} | {nodes} | {seconds} | {far} "
            f"| {file.outcome}{reason} |"
        )
    measured = {(file.architecture, file.exporter) for file in result.files}
    for exporter in get_args(Exporter):
        if left := [f"`{name}`" for name in ARCHITECTURES if (name, exporter) not in measured]:
            lines += ["", f"Not measured yet, of {exporter}: {', '.join(left)}."]
    return "\n".join(lines)


def main(*names: str, exporter: Exporter | None = None, again: bool = False, output: Path = DOCUMENT) -> None:
    """Measure the files that the document lacks.

    Args:
        names: Architectures of the corpus; by default all.
        exporter: Which; by default both.
        again: Also measure those that the document has.
        output: The document.
    """
    for name in names:
        if name not in ARCHITECTURES:
            raise DocumentError([f"expected an architecture of the corpus, got {name!r}{nearest(name, ARCHITECTURES)}"])
    torch.set_num_threads(1)
    setup = {"device": device(), "software": software()}
    result = CorpusResult.load(output) if output.exists() else CorpusResult(**setup, files=())
    if setup != {"device": result.device, "software": result.software}:
        raise DocumentError([f"expected the device and software of this document, got {setup}"], source=str(output))
    order = [(name, kind) for name in ARCHITECTURES for kind in get_args(Exporter)]
    files = {(file.architecture, file.exporter): file for file in result.files}
    wanted = [(name, kind) for name in names or ARCHITECTURES for kind in get_args(Exporter)]
    wanted = [key for key in wanted if exporter in (None, key[1])]
    todo = [key for key in wanted if again or key not in files]
    output.parent.mkdir(parents=True, exist_ok=True)
    with bar(total=len(wanted), done=len(wanted) - len(todo), unit="files") as progress:
        for name, kind in todo:
            file = files[name, kind] = bounded(name, ARCHITECTURES[name], kind)
            ordered = tuple(files[key] for key in order if key in files)
            result.model_copy(update={"files": ordered}).save(output)
            print(name, kind, file.outcome, file.seconds, file.logits, file.gradients, file.reason or "", flush=True)
            progress.update()


if __name__ == "__main__":
    import cyclopts

    try:
        cyclopts.run(main)
    except DocumentError as problem:
        sys.exit(f"error: {problem}")
