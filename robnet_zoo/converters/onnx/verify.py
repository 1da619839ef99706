"""Whether an exported file computes what its model does, how often it says the same, and how long it takes."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Sequence
from typing import Annotated, Literal

import onnxruntime
import torch
from pydantic import Field
from torch import Tensor

from robnet_zoo.converters.onnx.classifier import RUNTIME_ERRORS, in_pieces
from robnet_zoo.core.documents import Document
from robnet_zoo.errors import ProofError
from robnet_zoo.nn.network import Network

BATCHES = (1, 7, 64)
PARITY = 1e-5  # largest difference of a logit from torch's, in the size of the largest logit or 1
ROUNDING = 4  # how often torch's own rounding error a file may be away, where float32 itself does not hold PARITY
DOUBLE = 7  # images on which that error is measured, in float64
TIMED = (1, 8)  # batches
RUNS = 5
PIECE = 8  # images that torch gets at once: more are slower


class Comparison(Document):
    """A file beside its model in torch. difference: the largest of a logit. agreement: share of equal classes."""

    images: Literal["random", "real"]
    batch: int
    n: int
    difference: float
    agreement: Annotated[float, Field(ge=0, le=1)]


class Latency(Document):
    """The median time of a batch on the CPU."""

    batch: int
    milliseconds: float
    threads: int


def prove(
    network: Network, serialized: bytes, real: Tensor, *, batch: int | None
) -> tuple[tuple[Comparison, ...], float | None]:
    """The comparisons of a file in fp32, and torch's own rounding error where that had to be measured.

    network: in float32 and eval mode. Raises ProofError if logits differ by more than is allowed.
    """
    comparisons = compare(network, serialized, real, batch=batch)
    difference = max(comparison.difference for comparison in comparisons)
    with torch.no_grad():
        some = real[:DOUBLE]
        logits = network(some)
        size = max(1.0, float(logits.abs().max()))
        if difference <= PARITY * size:
            return comparisons, None
        exact = copy.deepcopy(network).double()(some.double())
    rounding = float((logits.double() - exact).abs().max())
    allowed = max(PARITY * size, ROUNDING * rounding)
    if difference <= allowed:
        return comparisons, rounding
    raise ProofError(f"expected logits within {allowed:.2g} of torch's, got {difference:.2g} away")


@torch.no_grad()
def compare(network: Network, serialized: bytes, real: Tensor, *, batch: int | None) -> tuple[Comparison, ...]:
    """The file beside the model on random and real images, at batches 1, 7 and 64, or at the one that it takes.

    Real images are all compared, at the last batch. Raises ProofError if logits are no numbers.
    """
    session = open_session(serialized)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(max(BATCHES), *real.shape[1:], generator=generator)
    found = []
    for kind, images in (("random", noise), ("real", real)):
        expected = torch.cat([network(piece) for piece in images.split(PIECE)])
        sizes = BATCHES if batch is None else (batch,)
        for size in sizes:
            some = images if size == sizes[-1] else images[:size]
            logits = run(session, some, batch=size)
            if not bool(logits.isfinite().all()):
                raise ProofError(f"expected logits that are numbers, got others on {kind} images")
            found.append(
                Comparison(
                    images="real" if kind == "real" else "random",
                    batch=size,
                    n=len(some),
                    difference=float((logits - expected[: len(some)]).abs().max()),
                    agreement=float((logits.argmax(1) == expected[: len(some)].argmax(1)).float().mean()),
                )
            )
    return tuple(found)


def latencies(serialized: bytes, size: Sequence[int], *, batch: int | None) -> tuple[Latency, ...]:
    """Medians of a few runs on random images of (C, H, W)."""
    session = open_session(serialized)
    found = []
    for count in TIMED if batch is None else (batch,):
        images = torch.rand(count, *size, generator=torch.Generator().manual_seed(0)).numpy()
        seconds = []
        for _ in range(RUNS):
            started = time.perf_counter()
            session.run(["logits"], {"images": images})
            seconds.append(time.perf_counter() - started)
        median = round(1000 * statistics.median(seconds), 3)
        found.append(Latency(batch=count, milliseconds=median, threads=torch.get_num_threads()))
    return tuple(found)


def open_session(serialized: bytes) -> onnxruntime.InferenceSession:
    """A session on the CPU, with as many threads as torch. Raises ProofError where ONNX Runtime refuses the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        raise ProofError(f"expected a graph that ONNX Runtime can run, got: {reason}") from error


def run(session: onnxruntime.InferenceSession, images: Tensor, *, batch: int) -> Tensor:
    """The logits, (N, K), of images (N, C, H, W), `batch` at a time."""

    def logits(piece: Tensor) -> Tensor:
        (found,) = session.run(["logits"], {"images": piece.numpy()})
        return torch.from_numpy(found)

    return in_pieces(logits, images, batch)
