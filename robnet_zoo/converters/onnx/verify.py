"""Verify that an exported file computes what its model does, and measure how they differ and how fast the file is."""

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
from robnet_zoo.converters.onnx.file import session_on_cpu
from robnet_zoo.core.documents import Document
from robnet_zoo.errors import VerificationError
from robnet_zoo.nn.network import Network

BATCHES = (1, 7, 64)
TOLERANCE = 1e-5  # largest difference of a logit from torch's, relative to the largest logit or 1
ROUNDING = 4  # the multiple of torch's own rounding error that is allowed if float32 itself exceeds TOLERANCE
DOUBLE = 7  # images on which that error is measured, in float64
TIMED = (1, 8)  # batches
RUNS = 5
PIECE = 8  # images that torch gets at once: more are slower


class Parity(Document):
    """A file compared with its model in torch on n images.

    difference: the largest difference of a logit. agreement: the share of images that get the same class.
    """

    images: Literal["random", "real"]
    batch: int
    n: int
    difference: float
    agreement: Annotated[float, Field(ge=0, le=1)]


class Latency(Document):
    """The median time of a batch on the CPU, in milliseconds."""

    batch: int
    milliseconds: float
    threads: int


def verify(
    network: Network, serialized: bytes, real: Tensor, *, batch: int | None
) -> tuple[tuple[Parity, ...], float | None]:
    """Return the comparisons of a file in fp32, and torch's own rounding error if it had to be measured.

    Args:
        network: the model in float32 and eval mode.
        serialized: the file's bytes.
        real: real images, (N, C, H, W) in [0, 1].
        batch: the number of images that the file takes, or None if it is free.

    Raises:
        VerificationError: logits differ by more than is allowed.
    """
    comparisons = compare(network, serialized, real, batch=batch)
    difference = max(comparison.difference for comparison in comparisons)
    with torch.no_grad():
        logits = network(real[:DOUBLE])
        scale = max(1.0, float(logits.abs().max()))
        if difference <= TOLERANCE * scale:
            return comparisons, None
        exact = copy.deepcopy(network).double()(real[:DOUBLE].double())
    rounding = float((logits.double() - exact).abs().max())
    allowed = max(TOLERANCE * scale, ROUNDING * rounding)
    if difference <= allowed:
        return comparisons, rounding
    raise VerificationError(f"expected logits within {allowed:.2g} of torch's, got {difference:.2g} away")


@torch.no_grad()
def compare(network: Network, serialized: bytes, real: Tensor, *, batch: int | None) -> tuple[Parity, ...]:
    """Compare a file with its model on random and real images, at batches 1, 7 and 64 or at the only one it takes.

    All real images are compared at the last batch.

    Args:
        network: the model in float32 and eval mode.
        serialized: the file's bytes.
        real: real images, (N, C, H, W) in [0, 1].
        batch: the number of images that the file takes, or None if it is free.

    Raises:
        VerificationError: ONNX Runtime refuses the file, or a logit is not finite.
    """
    session = open_session(serialized)
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(max(BATCHES), *real.shape[1:], generator=generator)
    comparisons = []
    for kind, images in (("random", noise), ("real", real)):
        expected = torch.cat([network(piece) for piece in images.split(PIECE)])
        sizes = BATCHES if batch is None else (batch,)
        for size in sizes:
            compared = images if size == sizes[-1] else images[:size]
            logits = run_session(session, compared, batch=size)
            if not bool(logits.isfinite().all()):
                raise VerificationError(f"expected finite logits, got others on {kind} images")
            comparisons.append(
                Parity(
                    images="real" if kind == "real" else "random",
                    batch=size,
                    n=len(compared),
                    difference=float((logits - expected[: len(compared)]).abs().max()),
                    agreement=float((logits.argmax(1) == expected[: len(compared)].argmax(1)).float().mean()),
                )
            )
    return tuple(comparisons)


def latencies(serialized: bytes, size: Sequence[int], *, batch: int | None) -> tuple[Latency, ...]:
    """Return the median time of a few runs of a file on random images.

    Args:
        serialized: the file's bytes.
        size: (C, H, W) of an image.
        batch: the number of images that the file takes, or None if it is free: then at batches 1 and 8.
    """
    session = open_session(serialized)
    medians = []
    for count in TIMED if batch is None else (batch,):
        images = torch.rand(count, *size, generator=torch.Generator().manual_seed(0)).numpy()
        seconds = []
        for _ in range(RUNS):
            started = time.perf_counter()
            session.run(["logits"], {"images": images})
            seconds.append(time.perf_counter() - started)
        median = round(1000 * statistics.median(seconds), 3)
        medians.append(Latency(batch=count, milliseconds=median, threads=torch.get_num_threads()))
    return tuple(medians)


def open_session(serialized: bytes) -> onnxruntime.InferenceSession:
    """Open a session on the CPU with as many threads as torch has.

    Raises:
        VerificationError: ONNX Runtime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        return session_on_cpu(serialized, options)
    except RUNTIME_ERRORS as error:
        reason = " ".join(str(error).split())
        raise VerificationError(f"expected a graph that ONNX Runtime can run, got: {reason}") from error


def run_session(session: onnxruntime.InferenceSession, images: Tensor, *, batch: int) -> Tensor:
    """Return the logits, (N, K), of images.

    Args:
        session: of ONNX Runtime, with the input `images` and the output `logits`.
        images: (N, C, H, W).
        batch: the number of images at a time.
    """

    def logits(piece: Tensor) -> Tensor:
        (output,) = session.run(["logits"], {"images": piece.numpy()})
        return torch.from_numpy(output)

    return in_pieces(logits, images, batch)
