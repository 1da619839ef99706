"""ONNX files as targets: ONNX Runtime judges, the network or graph rebuilt in torch proposes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from robnet_zoo.attacks import Classifier
from robnet_zoo.benchmarks.result import ModelIdentity
from robnet_zoo.benchmarks.targets.target import Normalisation, Target, inside
from robnet_zoo.converters.onnx.classifier import ImageModule, OnnxClassifier
from robnet_zoo.converters.onnx.folding import TORCH_ERRORS
from robnet_zoo.converters.onnx.loader import rebuild
from robnet_zoo.converters.onnx.parting import where_rebuilt_differs
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import OnnxFileError, TargetError, UnsupportedError, printable
from robnet_zoo.nn.compiler import for_inference
from robnet_zoo.nn.forms.traced import Traced
from robnet_zoo.nn.network import Network

# Largest difference of a rebuilt graph's logits from its file's, in the largest logit's size or 1. A file with float16
# in it rounds at 1e-3 in every step, and its graph is rebuilt in float32.
PARITY, NARROW_PARITY = 1e-5, 0.05
QUANTISED_PARITY = 0.5  # where a tie that is broken otherwise moves all that follows by whole steps
# The same of a file of ours, whose graph and weights are checked as such: the rounding of its own precision.
OUR_PARITY: Mapping[str, float] = MappingProxyType({"fp32": 1e-3, "fp16": 0.05, "int8": 0.5})


def onnx_target(
    path: Path,
    normalisation: Normalisation | None,
    device: torch.device,
    *,
    strict: bool,
    dtype: torch.dtype = torch.float32,
    output: str | None = None,
) -> Target:
    """Return an ONNX file as a target.

    Args:
        normalisation: what the file's inputs are normalised with, or None if it takes images in [0, 1].
        device: where the proposer computes.
        strict: whether ONNX Runtime must judge on that device too; otherwise it judges there if it can.
        dtype: the arithmetic in which a graph proposes.
        output: the name of the output that holds the logits; by default the only one of their shape.

    Raises: TargetError, OnnxFileError.
    """
    file = OnnxClassifier(path, provider="cpu", output=output)
    channels = file.axes[0]
    if normalisation is not None and channels is not None:
        normalisation = normalisation.for_channels(channels)
    if normalisation is not None and channels not in (None, len(normalisation.mean)):
        raise TargetError(
            f"{path}: expected mean and std of {counted(channels, 'channel')}, got {len(normalisation.mean)}"
        )
    network, proposer, why_not = _network_in(file, normalisation)
    twin: nn.Module | None = None
    if proposer is None or file.precision == "int8":
        graph, graphs_why_not = _graph_of(file, normalisation, refused=why_not)
        if graph is not None and graph.graph.quantised:
            twin = file.module(batch=graph.batch, rounds=False) if proposer is None else proposer
        if graph is not None or proposer is None:
            proposer, why_not = graph, graphs_why_not
    quantised = twin is not None or (proposer is None and file.quantised)
    if device.type == "cuda":
        try:
            file.to("cuda")
        except OnnxFileError:
            if strict:
                raise
    attacked = None if proposer is None else inside(proposer.to(device), normalisation, device)
    proposed_in = None
    if attacked is not None and isinstance(proposer, ImageModule):
        if untraced := proposer.graph.why_not_traced:
            why_not = f"it has no fast form: {untraced}"
        else:
            proposed_in = partial(_traced, attacked)
            attacked = proposed_in(dtype)
    return Target(
        identity=ModelIdentity(
            name=printable(str(path) if output is None else f"{path}:{output}"),
            kind="onnx",
            spec_hash=None if file.spec is None else file.spec.hash,
            file_sha256=file.sha256,
            parameters=file.parameters if network is None else sum(value.numel() for value in network.parameters()),
            precision=file.precision if network is not None else None,
            exported_from=file.metadata.get("state_sha256", file.metadata.get("weights_sha256"))
            if network is not None
            else None,
            mean=None if normalisation is None else normalisation.mean,
            std=None if normalisation is None else normalisation.std,
        ),
        judge=inside(file, normalisation, device),
        proposer=attacked,
        num_classes=file.num_classes,
        input_size=file.input_size,
        why_not=why_not,
        device=device,
        twin=None if twin is None else inside(twin.to(device), normalisation, device),
        unoptimised=inside(partial(file.run_otherwise, optimised=False), normalisation, device) if quantised else None,
        exact=inside(partial(file.run_otherwise, exact=True), normalisation, device)
        if quantised and file.opened.wide_weights
        else None,
        proposed_in=proposed_in,
    )


def _traced(classifier: Classifier, dtype: torch.dtype) -> Traced:
    return Traced(classifier, dtype=dtype)


def _network_in(
    file: OnnxClassifier, normalisation: Normalisation | None
) -> tuple[Network | None, nn.Module | None, str]:
    """Return the network in a file of ours and its inference form in float32, or None twice and the reason."""
    if not file.opened.ours:
        return None, None, ""
    try:
        network = rebuild(file.opened)
    except OnnxFileError as error:
        return None, None, str(error)
    proposer = for_inference(network, dtype=torch.float32)
    with torch.no_grad():
        logits = inside(proposer, normalisation, torch.device("cpu"))(file.probe)
    if far := _too_far(logits, _expected(file, normalisation), OUR_PARITY[file.precision or "fp32"]):
        return None, None, f"its network, rebuilt in torch, gives {far}"
    return network, proposer, ""


def _graph_of(
    file: OnnxClassifier, normalisation: Normalisation | None, *, refused: str
) -> tuple[ImageModule | None, str]:
    """Return a file's graph in torch if it gives the file's logits and has their gradients, else None and the reason.

    Graphs with a fixed batch often take other batches too; those that do not run in pieces, as the file does.

    Args:
        refused: why a file that claims to be ours is not taken as such.
    """
    cpu = torch.device("cpu")
    why_not = refused
    for batch in dict.fromkeys((None, file.batch)):
        try:
            module = file.module(batch=batch)
            images = file.probe.clone().requires_grad_()
            logits = inside(module, normalisation, cpu)(images)
        except UnsupportedError as error:
            return None, refused or _told(error)
        except TORCH_ERRORS as error:
            why_not = f"its graph cannot be rebuilt in torch: {_told(error)}"
            continue
        parity = QUANTISED_PARITY if module.graph.quantised else NARROW_PARITY if module.graph.narrow else PARITY
        far = _too_far(logits.detach(), _expected(file, normalisation), parity)
        if far and module.graph.quantised:  # its sums may saturate on this processor, and not in the graph
            with suppress(OnnxFileError):
                exact = inside(partial(file.run_otherwise, exact=True), normalisation, cpu)(file.probe)
                far = _too_far(logits.detach(), exact, parity)
        if far:
            first = where_rebuilt_differs(file, module, file.probe[:1], tolerance=parity)
            why_not = f"its graph, rebuilt in torch, gives {far}" + (f", first in {first}" if first else "")
        elif not logits.requires_grad:
            why_not = "its logits do not depend on the images by operations that have gradients"
            cutting = [f"{node.kind} {node.outputs[0]!r}" for node in module.cutting(file.probe)]
            why_not += f"; {', '.join(cutting)} cut them off" if cutting else ""
        else:
            return module, ""
    return None, why_not


def _told(error: Exception) -> str:
    """Return an error as a line, with the operator in which it was raised."""
    return " ".join(f"{error} {', '.join(getattr(error, '__notes__', ()))}".split())


def _expected(file: OnnxClassifier, normalisation: Normalisation | None) -> Tensor:
    """Return the file's logits of its probe, (N, K)."""
    return inside(file, normalisation, torch.device("cpu"))(file.probe)


def _too_far(logits: Tensor, expected: Tensor, parity: float) -> str:
    """Return in words how logits differ, or nothing if they differ by at most `parity` times the largest or 1."""
    if logits.shape != expected.shape:
        return f"{tuple(logits.shape)} instead of {tuple(expected.shape)}"
    away, allowed = float((logits - expected).abs().max()), parity * max(1.0, float(expected.abs().max()))
    return "" if away <= allowed else f"logits {away:.2g} away, more than {allowed:.2g}"  # NaN too
