"""Small networks to export, and how far two classifiers are apart."""

import onnx
import torch

from robnet_zoo import data
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile

PRECISIONS = ("fp32", "fp16", "int8")


def narrow(spec: Genotype) -> Genotype:
    """Return a spec with 4 channels and images of at most 64 pixels a side: the same operations in less time."""
    input_size = tuple(min(side, 64) for side in spec.network.input_size)
    return spec.model_copy(
        update={"network": spec.network.model_copy(update={"channels": 4, "input_size": input_size})}
    )


def short(spec: Genotype) -> Genotype:
    """Return a network cut to a cell before, in and behind a reduction.

    The quantiser's time grows with the square of the nodes.
    """
    first = next(depth for depth in spec.network.reductions if depth > 0)
    kept = [0, first, first + 1]
    network = spec.network.model_copy(update={"depth": len(kept), "reductions": (1,)})
    return spec.model_copy(update={"layout": tuple(spec.layout[depth] for depth in kept), "network": network})


def seen(spec: Genotype, **options):
    """Return a network whose batch norms have seen images, in eval mode."""
    network = compile(spec, **options)
    with torch.no_grad():
        network.train()(torch.rand(4, network.in_chans, *spec.network.input_size[1:]))
    return network.eval()


def pictures(spec: Genotype, n: int = 24) -> data.Images:
    """Return images of a spec's size: digits where they fit, noise where they do not."""
    if spec.network.input_size == (3, 32, 32):
        return data.digits()[0][:n]
    pixels = torch.randint(0, 256, (n, *spec.network.input_size), dtype=torch.uint8)
    return data.Images(pixels, torch.zeros(n, dtype=torch.int64), "noise")


def metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@torch.no_grad()
def away(first, second, images):
    """Return the largest difference of logits, as a multiple of the largest logit or 1."""
    expected = first(images)
    return float((second(images) - expected).abs().max() / max(1.0, float(expected.abs().max())))
