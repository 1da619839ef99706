"""The traced form of any classifier: what it computes for one shape of images as a graph, arranged for speed.

Networks that were compiled from a spec have a better form (`robnet_zoo.nn.forms.inference`). This one is for all
others: modules of timm, of a user, and ONNX graphs that were rebuilt in torch. What changes:

- batch norms are folded into the convolutions before them, in float64, if nothing else reads these;
- what does not depend on the images is computed once;
- dropout is left out, which does nothing in eval mode;
- networks of convolutions run in channels-last layout (figures: `benchmarks/speed/attacks.py`).

A graph holds what Python did when it was traced, so it is kept only if that cannot change: a classifier that decides by
the values of images, draws random numbers or writes into its buffers has no form. Nor has one whose graph gives other
logits or gradients of random images, as where NumPy computes a part or an `autograd.Function` has a gradient of its own
(`robnet_zoo.nn.forms.parity` says how far they may differ).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from robnet_zoo.errors import ModelError
from robnet_zoo.nn.forms.folding import affine
from robnet_zoo.nn.forms.parity import EXACT, differences, seen

Function: TypeAlias = Callable[[Tensor], Tensor]
# Weights and biases of folded convolutions by eps and the addresses of what they are made of, which is kept, so that no
# other tensor gets its addresses.
Folded: TypeAlias = dict[tuple[float, ...], tuple[Tensor, Tensor, list[Tensor | None]]]
aten = torch.ops.aten
DROPOUTS = (aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default)
OPERATOR_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)
MOST_SHAPES = 16  # that are traced
# The largest difference of the logits from the classifier's, in the size of the largest. On a GPU, TensorFloat-32 may
# be on, and bfloat16 has steps of 1/256.
PARITY, TF32_PARITY, HALF_PARITY = 1e-4, 1e-2, 0.2
SEED = 0x5EED  # of the images that a graph is checked on; not one that a caller's own random images would have


class Traced(nn.Module):
    """The same function as a classifier, by a graph for each shape of images that it is called with.

    A shape for which there is no graph, or one after the first `MOST_SHAPES`, gets the classifier itself, and `why_not`
    says why.

    Args:
        classifier: gives logits (N, K) of images (N, C, H, W). It is in eval mode, its parameters want no gradients,
            and neither is changed from now on.
        dtype: of convolutions and matrix products, but for the last; see `torch.autocast`.
    """

    def __init__(self, classifier: Function, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.classifier, self.dtype = classifier, dtype
        self.why_not = ""
        self.graphs: dict[tuple[torch.Size, torch.dtype, torch.device], fx.GraphModule | None] = {}
        self.folded: Folded = {}  # graphs of several shapes share them
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        key = (images.shape, images.dtype, images.device)
        if key not in self.graphs and len(self.graphs) < MOST_SHAPES:
            try:
                self.graphs[key] = self._traced(images)
            except ModelError as error:
                self.graphs[key], self.why_not = None, str(error)
        graph = self.graphs.get(key)
        return self.classifier(images) if graph is None else self._run(graph, images)

    def _run(self, graph: fx.GraphModule, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = graph(images)
        return logits.to(images.dtype)

    def _traced(self, images: Tensor) -> fx.GraphModule:
        """Return the graph for images of a shape. Raises ModelError if it is not the classifier's function."""
        with torch.inference_mode(False):  # in which nothing has gradients, which the graph may be used for later
            return self._checked(images.clone())

    def _checked(self, images: Tensor) -> fx.GraphModule:
        with torch.no_grad():
            expected = self.classifier(images)  # before it is traced: what is made once, in a first call, is no part
        for (shape, *kind), graph in self.graphs.items():  # one that holds no size of a batch serves others too
            alike = (shape[1:], *kind) == (images.shape[1:], images.dtype, images.device)
            if alike and graph is not None and not self._differs(graph, images, expected):
                return graph
        try:
            with torch.enable_grad():
                graph = make_fx(lambda x: self.classifier(x), pre_dispatch=True)(images.detach().requires_grad_())
        except torch.OutOfMemoryError:
            raise
        except Exception as raised:  # whatever a module of others raises
            error = raised.__cause__ or raised
            raise ModelError(f"it cannot be traced: {_line(error)}") from error
        try:
            _arrange(graph, self.folded, half=self.dtype != torch.float32)
        except ModelError:
            raise
        except OPERATOR_ERRORS as error:
            raise ModelError(f"its graph cannot be computed: {_line(error)}") from error
        if differs := self._differs(graph, images, expected) or self._differs_elsewhere(graph, images):
            raise ModelError(f"its graph {differs}")
        return graph

    def _differs_elsewhere(self, graph: fx.GraphModule, images: Tensor) -> str:
        """Return in words how a graph's logits or gradients of other images are not the classifier's, or nothing.

        It is computed in the images' own dtype, as bfloat16 would hide what was frozen in the graph.
        """
        generator = torch.Generator(images.device).manual_seed(SEED)
        others = torch.rand(images.shape, dtype=images.dtype, device=images.device, generator=generator)
        try:
            own, true = seen(graph, others), seen(self.classifier, others)
        except torch.OutOfMemoryError:
            raise
        except Exception as raised:  # whatever a module of others raises
            return f"cannot be compared with it: {_line(raised.__cause__ or raised)}"
        if not true[0].isfinite().all(1).any():
            return "cannot be compared with it: it gives no finite logits of random images"
        differs = differences(own, true, allowed=(_parity(images), EXACT[1]))
        return differs and f"is of another function for images that it was not traced with: {differs}"

    def _differs(self, graph: fx.GraphModule, images: Tensor, expected: Tensor) -> str:
        """Return in words how a graph's logits of images are not those that are expected, or nothing."""
        try:
            with torch.no_grad():
                logits = self._run(graph, images)
        except torch.OutOfMemoryError:
            raise
        except OPERATOR_ERRORS as error:
            return f"cannot be computed: {_line(error)}"
        return _too_far(logits, expected, _parity(images) if self.dtype == torch.float32 else HALF_PARITY)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _parity(images: Tensor) -> float:
    return PARITY if images.device.type == "cpu" else TF32_PARITY


def _too_far(logits: Tensor, expected: Tensor, tolerance: float) -> str:
    """Return in words how logits differ, or nothing. Images whose logits are not finite are passed over."""
    if logits.shape != expected.shape:
        return f"gives logits {tuple(logits.shape)} instead of {tuple(expected.shape)}"
    finite = expected.isfinite().all(1)  # (N,)
    if not bool(finite.any()):
        return ""
    away, size = ((x[finite]).double().abs().max().item() for x in (logits - expected, expected))
    return "" if away <= tolerance * size else f"gives logits that are {away / size:.2g} of the largest away"  # NaN too


def _arrange(graph: fx.GraphModule, folded: Folded, *, half: bool) -> None:
    """Arrange a traced graph for speed, in place.

    Args:
        graph: of aten's operators.
        folded: convolutions that were folded for graphs of other shapes; more are added.
        half: whether it runs under autocast, which its last product is kept out of.

    Raises: ModelError if it draws random numbers, or writes into what is not made in it.
    """
    for kind in DROPOUTS:
        for node in list(_calls(graph, kind)):
            if not node.args[2]:
                _replace(node, node.args[0])
    _check_repeatable(graph)
    _fold_constants(graph)
    norms = [node for node in _calls(graph, aten.batch_norm.default) if _is_folded(graph, node)]
    for node in norms:
        _fold_norm(graph, node, folded)
    if norms or _is_convolutional(graph):
        _put_channels_last(graph)
    if half:
        _widen_head(graph)
    for node in list(graph.graph.nodes):
        if node.op == "get_attr" and not node.users:
            graph.graph.erase_node(node)
    graph.graph.lint()
    graph.recompile()


def _calls(graph: fx.GraphModule, kind: Any) -> Iterator[fx.Node]:
    return (node for node in graph.graph.nodes if node.op == "call_function" and node.target is kind)


def _replace(node: fx.Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    node.graph.erase_node(node)


def _written(node: fx.Node) -> list[fx.Node]:
    """Return the inputs that an operator writes into."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    arguments = node.target._schema.arguments
    given = [*node.args, *(node.kwargs.get(argument.name) for argument in arguments[len(node.args) :])]
    return [
        value
        for argument, value in zip(arguments, given, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write and isinstance(value, fx.Node)
    ]


def _check_repeatable(graph: fx.GraphModule) -> None:
    kept = _known(graph, lambda node: node.op == "get_attr")
    for node in graph.graph.nodes:
        tags = getattr(node.target, "tags", ())
        if torch.Tag.nondeterministic_seeded in tags and node.target is not aten.scaled_dot_product_attention.default:
            raise ModelError(f"it draws random numbers, by {node.target}")
        if not kept.isdisjoint(_written(node)):
            raise ModelError(f"it changes its own buffers, by {node.target}")


def _known(graph: fx.GraphModule, begins: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """Return the nodes that depend on nothing but nodes that begin, of which each does."""
    known: set[fx.Node] = set()
    for node in graph.graph.nodes:
        inputs = node.all_input_nodes
        if begins(node) or (node.op == "call_function" and inputs and known.issuperset(inputs)):
            known.add(node)
    return known


def _fold_constants(graph: fx.GraphModule) -> None:
    """Compute once what does not depend on the images, unless something is written in place there."""
    made = [node for node in graph.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]
    fresh = {node for node in made if not node.all_input_nodes}
    known = _known(graph, lambda node: node.op == "get_attr" or node in fresh)
    if any(not known.isdisjoint(_written(node)) for node in made):
        return
    values: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in graph.graph.nodes:
            if node in known:
                values[node] = _value(graph, node) if node.op == "get_attr" else _computed(node, values)
    for node in known:
        is_read = not known.issuperset(node.users)
        if node.op != "get_attr" and is_read and isinstance(values[node], Tensor):
            with graph.graph.inserting_before(node):
                node.replace_all_uses_with(_constant(graph, values[node]), lambda user: user not in known)
    for node in reversed(list(graph.graph.nodes)):
        if node in known and not node.users:
            graph.graph.erase_node(node)


def _computed(node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda argument: values[argument])
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _value(graph: fx.GraphModule, node: fx.Node) -> Tensor:
    value: Tensor = getattr(graph, str(node.target))
    return value


def _constant(graph: fx.GraphModule, value: Tensor) -> fx.Node:
    """Return a new node, at the point of insertion, for a constant."""
    name = f"folded_{sum(name.startswith('folded_') for name, _ in graph.named_buffers(remove_duplicate=False))}"
    graph.register_buffer(name, value)
    return graph.graph.get_attr(name)


def _is_folded(graph: fx.GraphModule, norm: fx.Node) -> bool:
    """Return whether a batch norm can be folded: it has statistics, and alone reads a convolution by constants."""
    conv, *numbers, training, _, _, _ = _arguments(norm)
    constants = [*numbers, *_conv_arguments(conv)[1:3]] if _is_conv(conv) else [norm]
    return (
        not training
        and None not in numbers[2:]
        and all(value is None or value.op == "get_attr" for value in constants)
        and len(conv.users) == 1
    )


def _is_conv(node: Any) -> bool:
    """Return whether a node is a convolution of images that is not transposed: input, weight, bias and numbers."""
    if not isinstance(node, fx.Node):
        return False
    if node.target is aten.convolution.default:
        *_, stride, _, _, transposed, _, _ = _arguments(node)
        return len(stride) == 2 and not transposed
    return node.target is aten.conv2d.default


def _conv_arguments(conv: fx.Node) -> list[Any]:
    """Return input, weight and bias, and the others as they are given."""
    return [*conv.args, None][:3] + list(conv.args[3:])


def _arguments(node: fx.Node) -> list[Any]:
    return list(node.args)


def _fold_norm(graph: fx.GraphModule, norm: fx.Node, folded: Folded) -> None:
    """Fold a batch norm into the convolution before it, as new constants."""
    conv, scale, shift, mean, variance, _, _, eps, _ = _arguments(norm)
    x, weight, bias, *rest = _conv_arguments(conv)
    nodes = (weight, bias, scale, shift, mean, variance)
    numbers: list[Any] = [None if node is None else _value(graph, node) for node in nodes]
    key = (eps, *(0 if value is None else value.data_ptr() for value in numbers))
    if key not in folded:
        folded[key] = (*_product(*numbers, eps=eps), numbers)
    with graph.graph.inserting_before(conv):
        conv.args = (x, *(_constant(graph, value) for value in folded[key][:2]), *rest)
    _replace(norm, conv)


@torch.no_grad()
def _product(
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    *,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return weight, (out, in / groups, kH, kW), and bias, (out,), of a convolution with the batch norm behind it."""
    factor, moved = affine(mean, variance, scale, shift, eps=eps)
    total = moved if bias is None else moved + bias.double() * factor
    product = (weight.double() * factor[:, None, None, None]).to(weight)
    return product.contiguous(memory_format=torch.channels_last), total.to(weight)


def _is_convolutional(graph: fx.GraphModule) -> bool:
    """Return whether a graph has several convolutions and no layer norm, as one with attention or of ConvNeXt has."""
    convolutions = [node for node in graph.graph.nodes if _is_conv(node)]
    return len(convolutions) > 1 and not any(_calls(graph, aten.layer_norm.default))


def _put_channels_last(graph: fx.GraphModule) -> None:
    """Put the images and the kernels of convolutions into channels-last layout."""
    (images,) = graph.graph.find_nodes(op="placeholder")
    with graph.graph.inserting_after(images):
        moved = graph.graph.call_function(aten.contiguous.default, (images,))
    images.replace_all_uses_with(moved)
    moved.args, moved.kwargs = (images,), {"memory_format": torch.channels_last}
    for conv in filter(_is_conv, list(graph.graph.nodes)):
        weight = conv.args[1]
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            value = _value(graph, weight).detach().contiguous(memory_format=torch.channels_last)
            with graph.graph.inserting_before(conv):
                conv.args = (conv.args[0], _constant(graph, value), *conv.args[2:])


def _widen_head(graph: fx.GraphModule) -> None:
    """Compute the last linear layer in float32, as its logits are compared with each other."""
    heads = [node for node in graph.graph.nodes if node.target in (aten.linear.default, aten.addmm.default)]
    if heads:
        heads[-1].args = (heads[-1].target, *heads[-1].args)
        heads[-1].target = _in_float32


def _in_float32(function: Callable[..., Tensor], *inputs: Tensor | None, **numbers: float) -> Tensor:
    widened = [None if value is None else value.float() for value in inputs]
    device = next(value.device.type for value in widened if value is not None)
    with torch.autocast(device, enabled=False):
        return function(*widened, **numbers)
