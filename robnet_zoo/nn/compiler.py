"""The network of a spec: `compile`; its fast forms: `for_inference` and `for_training`; a part of it:
`subnetwork`."""

from __future__ import annotations

import torch

from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.passes import COMPILER_PASSES, apply
from robnet_zoo.genotype.specs import SpecLike, load_spec
from robnet_zoo.nn.changes import check_unchanged
from robnet_zoo.nn.forms.inference import InferenceNetwork
from robnet_zoo.nn.forms.training import TrainingForm
from robnet_zoo.nn.network import Network


def compile(
    spec: SpecLike,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    global_pool: str = "avg",
    drop_rate: float = 0.0,
) -> Network:
    """Return the network of a spec, without dead edges, dead nodes or unread inputs, randomly initialised.

    Weight keys name depth, edge and operation (`cells.3.edges.0->2.sep_conv_3x3.1.weight`) and do not depend on what
    else the edge or the cell carries: a sub-network's keys are a subset of its supernet's.

    Args:
        spec: the architecture: a Genotype, a bundled name, the path of a spec, or a mapping.
        num_classes: the number of logits, by default that of the spec; 0 leaves the head out.
        in_chans: the images' channels, by default those of the spec.
        global_pool: timm's name of the pooling before the head, such as 'avg' or 'max'; '' for none.
        drop_rate: the share of pooled features that dropout sets to 0 in training.
    """
    spec = apply(load_spec(spec), COMPILER_PASSES)
    return Network(spec, num_classes=num_classes, in_chans=in_chans, global_pool=global_pool, drop_rate=drop_rate)


def subnetwork(network: Network, spec: Genotype) -> Network:
    """Return the network of a spec as a mask over a larger network, such as a supernet, whose modules it shares.

    Nothing is copied or built: training one trains the other. Weight keys are those of `compile(spec)`, and a
    compiled network that loads the mask's state dict gives the same logits. This takes milliseconds.
    Raises ModelError if the network does not carry what the spec asks for.
    """
    spec = apply(spec, COMPILER_PASSES)
    if spec.network != network.spec.network:
        raise ModelError("expected a spec of the network's own stem, channels, depth and reductions, got another")
    for depth, (inner, outer) in enumerate(zip(spec.layout, network.spec.layout, strict=True)):
        wanted = set(spec.cells[inner].active(spec.operations))
        missing = wanted - set(network.spec.cells[outer].active(network.spec.operations))
        if missing or spec.cells[inner].concat != network.spec.cells[outer].concat:
            what = " ".join(map(str, min(missing))) if missing else f"concat {list(spec.cells[inner].concat)}"
            raise ModelError(f"expected cell {depth} of a sub-network, got one with {what}, which the network lacks")
    return network.masked(spec)


def for_inference(
    model: Network, *, dtype: torch.dtype = torch.float32, channels_last: bool = True
) -> InferenceNetwork:
    """Return a copy of a model in its inference form: norms folded, input gradients intact, no parameter gradients.

    In float64, logits and input gradients equal the model's in eval mode to 1e-9.

    Args:
        model: a compiled network.
        dtype: of the cells' arithmetic; torch.bfloat16 is the fastest where the processor has it.
        channels_last: whether activations are in channels-last layout.

    Raises: ModelError for a model that was not compiled from a spec, or was changed since: by a hook, a forward of its
        own, a parametrised or a replaced module. Any pooling and classifier are copied as they are.
    """
    if not isinstance(model, Network):
        raise ModelError(f"expected a robnet_zoo Network, got {type(model).__name__}")
    check_unchanged(model)
    with torch.no_grad():
        return InferenceNetwork(model, dtype=dtype, channels_last=channels_last)


def for_training(network: Network, *, dtype: torch.dtype = torch.float32) -> TrainingForm:
    """Return a network in its training form: its own parameters and batch norms, arranged for speed.

    dtype: of the cells' arithmetic. Logits, gradients and running statistics are the network's own, in float64 to 1e-9.
    Raises ModelError for a network that was not compiled from a spec, or was changed since; see `for_inference`.
    """
    if not isinstance(network, Network):
        raise ModelError(f"expected a robnet_zoo Network, got {type(network).__name__}")
    check_unchanged(network)
    return TrainingForm(network, dtype=dtype)
