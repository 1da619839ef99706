"""The module that a spec compiles to."""

import re
import time
from functools import cache
from io import BytesIO

import pytest
import timm
import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robnet_zoo.errors import ModelError
from robnet_zoo.genotype import blueprint
from robnet_zoo.genotype.genotype import Genotype, edges
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.nn.compiler import compile
from robnet_zoo.nn.network import Network, statistics_kept
from tests import small_networks
from tests.small_networks import SEPARABLE, network_of

# Parameters of the published networks with their own head, and with one of 100 classes (paper, tables 1 and 2).
PUBLISHED = {
    "robnet_free": (5_439_790, 5_491_720),
    "robnet_large": (6_842_710, 6_894_640),
    "robnet_large_v2": (33_326_666, 33_418_916),
    "robnet_large_imagenet": (12_756_448, None),
}
SPECS = spec_names()


Carried = dict[str, list[str]]  # operations by edge


def genotype(carried: Carried, *, middle: Carried | None = None, concat: list[int], **network: object) -> Genotype:
    """Return three cells of two nodes on 8x8 images; the second one is a reduction and may differ from the others."""
    cells = {"outer": carried, "middle": carried if middle is None else middle}
    names = sorted({name for cell in cells.values() for operations in cell.values() for name in operations})

    def alpha(cell: Carried) -> list[list[int]]:
        return [[int(name in cell.get(str(edge), [])) for name in names] for edge in edges(2)]

    config = {"stem": "cifar", "channels": 4, "depth": 3, "reductions": [1], "num_classes": 5}
    return Genotype.parse(
        {
            "schema_version": 1,
            "name": "small",
            "operations": names,
            "cells": {name: {"alpha": alpha(cell), "concat": concat} for name, cell in cells.items()},
            "layout": ["outer", "middle", "outer"],
            "network": config | {"input_size": [3, 8, 8], "affine": True} | network,
        }
    )


def every_operation(**network: object) -> Genotype:
    """Return all operations on one edge, at stride 1 and, in the middle cell, 2; and nodes that are used twice."""
    carried = {"0->2": ["identity"], "1->2": list(OPERATIONS), "1->3": ["identity"], "2->3": ["sep_conv_3x3"]}
    return genotype(carried, concat=[2, 3], **network)


def narrow(name: str, **network: object) -> Genotype:
    """Return a bundled spec with few channels: the same structure, quick to run."""
    spec = load_spec(name)
    return spec.model_copy(update={"network": spec.network.model_copy(update={"channels": 4, **network})})


@cache
def narrow_network(name: str) -> Network:
    """Return the network of `narrow`, which tests share and must not change."""
    return compile(narrow(name))


def supernet(spec: Genotype) -> Genotype:
    data = spec.model_dump(mode="json")
    for cell in data["cells"].values():
        cell["alpha"] = [[1] * len(row) for row in cell["alpha"]]
    return Genotype.parse(data)


def shuffle_norms(model: nn.Module, *, seed: int = 0) -> None:
    """Draw running statistics, scales and shifts, as if trained."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):
                if tensor is not None:
                    tensor.data.uniform_(low, high, generator=generator)


def images(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture
def small() -> Network:
    """Return a network with all operations, in eval mode, float64, as if trained."""
    torch.manual_seed(0)
    network = compile(every_operation()).double().eval()
    shuffle_norms(network)
    return network


# What is built


@pytest.mark.parametrize("name", SPECS)
def test_parameters_are_as_many_as_the_blueprint_counts(name: str) -> None:
    counted = sum(parameter.numel() for parameter in narrow_network(name).parameters())
    assert counted == blueprint.parameters(narrow(name))


@pytest.mark.parametrize(("name", "counts"), PUBLISHED.items())
def test_parameters_are_as_many_as_published(name: str, counts: tuple[int, int | None]) -> None:
    for num_classes, expected in zip((None, 100), counts, strict=True):
        if expected is not None:
            with torch.device("meta"):
                network = compile(load_spec(name), num_classes=num_classes)
            assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("name", SPECS)
def test_every_parameter_gets_a_gradient_and_every_module_runs(name: str) -> None:
    network = compile(narrow(name))
    ran: set[nn.Module] = set()
    for module in network.modules():
        module.register_forward_hook(lambda module, *_: ran.add(module))
    network(images(2, network.in_chans, 32, 32, dtype=torch.float32)).sum().backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
    containers = (nn.ModuleList, nn.ModuleDict)
    assert [
        key for key, module in network.named_modules() if type(module) not in containers and module not in ran
    ] == []


def test_dead_edges_nodes_and_inputs_leave_no_module() -> None:
    # Node 3 is dead, and with it edges 0->3 and 2->3; nothing else reads input 0.
    spec = genotype({"1->2": ["identity"], "0->3": ["sep_conv_3x3"], "2->3": ["identity"]}, concat=[2])
    cell = compile(spec).cells[0]
    assert list(cell.edges) == ["1->2"]
    assert list(cell.preprocess) == ["1"]


def test_weight_keys_name_depth_edge_and_operation() -> None:
    with torch.device("meta"):
        keys = compile(load_spec("robnet_large")).state_dict()
    assert "cells.3.edges.0->2.sep_conv_3x3.1.weight" in keys
    assert "cells.19.preprocess.1.1.weight" in keys
    assert {"stem.0.0.weight", "classifier.weight", "classifier.bias"} <= keys.keys()


@pytest.mark.parametrize("name", SPECS)
def test_keys_and_shapes_are_a_subset_of_the_supernets(name: str) -> None:
    keys = {key: value.shape for key, value in narrow_network(name).state_dict().items()}
    with torch.device("meta"):
        super_keys = {key: value.shape for key, value in compile(supernet(narrow(name))).state_dict().items()}
    assert keys.items() <= super_keys.items()


def test_robnet_free_is_built_in_half_a_second() -> None:
    spec, seconds = load_spec("robnet_free"), []
    for _ in range(3):
        started = time.process_time()
        compile(spec)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.5


# What is computed


def normed(x: Tensor) -> Tensor:
    return x / (1 + 1e-5) ** 0.5  # a fresh batch norm in eval mode


def test_network_computes_the_sums_and_concatenations_of_the_paper() -> None:
    torch.manual_seed(0)
    both = ["identity", "max_pool_3x3"]
    spec = genotype({"0->2": both, "1->3": ["identity"], "2->3": ["max_pool_3x3"]}, concat=[2, 3])
    network = compile(spec).double().eval()
    x = images(2, 3, 8, 8)

    def bring(source: int, depth: int, value: Tensor) -> Tensor:
        return network.cells[depth].preprocess[str(source)](value)

    before = last = normed(F.conv2d(x, network.stem[0][0].weight, padding=1))
    for depth, stride in enumerate((1, 2, 1)):
        ops = network.cells[depth].edges
        node_0, node_1 = bring(0, depth, before), bring(1, depth, last)
        skip = ops["0->2"]["identity"](node_0), ops["1->3"]["identity"](node_1)
        two = skip[0] + F.max_pool2d(node_0, 3, stride, 1)
        three = skip[1] + F.max_pool2d(two, 3, 1, 1)
        before, last = last, torch.cat([two, three], dim=1)
    logits = F.linear(last.mean((2, 3)), network.classifier.weight, network.classifier.bias)
    torch.testing.assert_close(network(x), logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SPECS)
def test_features_have_the_size_and_channels_of_the_blueprint(name: str) -> None:
    network, plan = narrow_network(name), blueprint.blueprint(narrow(name))
    with torch.no_grad():
        features = network.forward_features(torch.rand(1, network.in_chans, *plan.input_size))
    assert features.shape == (1, plan.features.channels, *plan.features.size)
    assert network.num_features == plan.features.channels


def test_dropout_acts_in_training_only(small: Network) -> None:
    small.drop_rate = 0.5
    features = torch.ones(1, small.num_features, 4, 4, dtype=torch.float64)
    assert (small.forward_head(features, pre_logits=True) == 1).all()
    assert (small.train().forward_head(features, pre_logits=True) == 0).any()


# Grad checkpointing


def test_grad_checkpointing_changes_no_output_gradient_or_statistic() -> None:
    outcomes = []
    for enable in (False, True):
        torch.manual_seed(0)
        network = compile(every_operation()).double().train()
        network.set_grad_checkpointing(enable)
        x = images(4, 3, 8, 8).requires_grad_()
        logits = network(x)
        logits.square().sum().backward()
        gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
        outcomes.append((logits, x.grad, gradients, dict(network.named_buffers())))
    torch.testing.assert_close(outcomes[0], outcomes[1], rtol=0, atol=0)


def test_kept_statistics_are_kept_of_a_batch_that_is_not_finite(small: Network) -> None:
    before = {name: value.clone() for name, value in small.named_buffers()}
    with statistics_kept(small.train()):
        small(torch.full((2, 3, 8, 8), torch.nan, dtype=torch.float64))
    torch.testing.assert_close(dict(small.named_buffers()), before, rtol=0, atol=0)


def test_grad_checkpointing_keeps_fewer_activations() -> None:
    def kept(enable: bool) -> int:
        network = compile(every_operation()).train()
        network.set_grad_checkpointing(enable)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            network(images(4, 3, 8, 8, dtype=torch.float32))
        return sum(sizes)

    assert kept(True) < kept(False) / 4


# The head


def test_reset_classifier_gives_a_new_head_of_the_networks_dtype_and_mode(small: Network) -> None:
    small.reset_classifier(7)
    assert small(images(2, 3, 8, 8)).shape == (2, 7)
    assert small.num_classes == 7
    assert not any(module.training for module in small.modules())


def test_reset_classifier_leaves_the_rest_frozen_and_in_its_mode(small: Network) -> None:
    small.train().requires_grad_(False)
    small.cells.eval()
    small.reset_classifier(7)
    trainable = [key for key, parameter in small.named_parameters() if parameter.requires_grad]
    assert trainable == ["classifier.weight", "classifier.bias"]
    assert not small.cells[0].training


def test_reset_classifier_keeps_the_pooling_by_default(small: Network) -> None:
    small.reset_classifier(7, "max")
    small.reset_classifier(3)
    features = images(2, small.num_features, 4, 4)
    assert torch.equal(small.forward_head(features, pre_logits=True), features.amax((2, 3)))


@pytest.mark.parametrize("pool", ["avg", "max", "avgmax", "catavgmax"])
def test_head_fits_every_pooling(pool: str) -> None:
    network = compile(every_operation(), global_pool=pool).eval()
    x = images(2, 3, 8, 8, dtype=torch.float32)
    assert network(x).shape == (2, 5)
    network.reset_classifier(0)
    assert network(x).shape == (2, network.head_hidden_size)


def test_no_classes_and_no_pooling_give_the_features(small: Network) -> None:
    x = images(2, 3, 8, 8)
    features = small.forward_features(x)
    small.reset_classifier(0, "")
    assert torch.equal(small(x), features)


def test_no_pooling_with_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected num_classes=0"):
        compile(every_operation(), global_pool="")


def test_a_head_that_is_refused_leaves_the_former_one(small: Network) -> None:
    with pytest.raises(ModelError, match="global_pool"):
        small.reset_classifier(7, "---")
    assert small.num_classes == 5
    assert small(images(2, 3, 8, 8)).shape == (2, 5)


# Other tools


ONE_INPUT: dict[str, Carried] = {
    "carried": {"0->2": ["identity"], "1->2": ["sep_conv_3x3"]},
    "middle": {"0->2": ["sep_conv_3x3"]},
}
NETWORKS = {
    "every operation": every_operation(),
    "a cell that reads one input": genotype(**ONE_INPUT, concat=[2]),
    "a node that no input reaches": small_networks.SPECS["a node that no input reaches"],
    "imagenet stem": genotype(**ONE_INPUT, concat=[2], stem="imagenet", input_size=[3, 32, 32]),
}
EVERY_NETWORK = pytest.mark.parametrize("spec", NETWORKS.values(), ids=NETWORKS)


def compiled(spec: Genotype) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    network = compile(spec).eval()
    shuffle_norms(network)
    return network, images(3, *spec.network.input_size, dtype=torch.float32)


@EVERY_NETWORK
def test_torchscript_gives_the_same_logits_also_saved_and_loaded(spec: Genotype) -> None:
    network, x = compiled(spec)
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(x), network(x))
    file = BytesIO()
    torch.jit.save(scripted, file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), network(x))


@EVERY_NETWORK
def test_symbolic_trace_gives_the_same_logits_also_scripted(spec: Genotype) -> None:
    network, x = compiled(spec)
    traced = fx.symbolic_trace(network)
    torch.testing.assert_close(traced(x), network(x))
    torch.testing.assert_close(torch.jit.script(traced)(x), network(x))


@EVERY_NETWORK
def test_export_gives_the_same_logits_at_every_batch_size(spec: Genotype) -> None:
    network, x = compiled(spec)
    exported = torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    for batch in (x, x[:1], torch.cat([x, x])):
        torch.testing.assert_close(exported.module()(batch), network(batch))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "every operation"])  # which takes a minute
def test_torch_compile_finds_no_graph_break(name: str, checkpointing: bool) -> None:
    torch.compiler.reset()  # else it checks again what it compiled for other tests
    network, x = compiled(NETWORKS[name])
    network.set_grad_checkpointing(checkpointing)
    fast = torch.compile(network, backend="aot_eager", fullgraph=True)
    gradients = []
    for model in (network, fast):
        leaf = x.clone().requires_grad_()
        model(leaf).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


DENOISED = {name: spec for name, spec in small_networks.SPECS.items() if name.startswith("denoised")}


def test_checkpointing_keeps_gradients_and_statistics() -> None:
    kept, images = {}, torch.rand(2, 3, 8, 8, dtype=torch.float64)
    for enable in (False, True):
        network = network_of(DENOISED["denoised, embedded_gaussian"]).train()
        network.set_grad_checkpointing(enable)
        network(images).square().sum().backward()
        kept[enable] = {key: p.grad for key, p in network.named_parameters()} | dict(network.named_buffers())
    torch.testing.assert_close(kept[True], kept[False], rtol=1e-9, atol=1e-9)


def test_weights_are_those_of_the_plain_network_and_more() -> None:
    plain = small_networks.genotype({"a": SEPARABLE}, "aaa")
    keys = compile(plain).state_dict().keys()
    more = compile(DENOISED["denoised, embedded_gaussian"]).state_dict().keys() - keys
    assert len(more) + len(keys) == len(compile(DENOISED["denoised, embedded_gaussian"]).state_dict())
    assert {key for key in more if key.endswith(".0.theta.weight")} == {
        "cells.0.denoise.0.theta.weight",
        "cells.2.denoise.0.theta.weight",
    }


def test_both_later_cells_read_the_denoised_output() -> None:
    network = network_of(DENOISED["denoised, mean"])
    seen: dict[str, Tensor] = {}
    network.cells[0].denoise.register_forward_hook(lambda *given: seen.update(denoised=given[-1]))
    network.cells[1].register_forward_hook(lambda _, inputs, __: seen.update(last=inputs[1]))
    network.cells[2].register_forward_hook(lambda _, inputs, __: seen.update(before=inputs[0]))
    network(torch.rand(2, 3, 8, 8, dtype=torch.float64))
    assert torch.equal(seen["last"], seen["denoised"])
    assert torch.equal(seen["before"], seen["denoised"])


@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_torchscript_of_a_denoised_network_gives_the_same_logits(spec: Genotype) -> None:
    network, images = network_of(spec), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(torch.jit.script(network)(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_symbolic_trace_of_a_denoised_network_gives_the_same_logits(spec: Genotype) -> None:
    network, images = network_of(spec), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    traced = torch.fx.symbolic_trace(network)
    torch.testing.assert_close(traced(images), network(images), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.jit.script(traced)(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_chans": 0}, "in_chans: expected an integer from 1 to 2,147,483,647, got 0"),
        ({"in_chans": True}, "in_chans: expected an integer from 1 to 2,147,483,647, got true"),
        ({"in_chans": "3"}, 'in_chans: expected an integer from 1 to 2,147,483,647, got "3"'),
        ({"num_classes": -1}, "num_classes: expected an integer from 0 to 2,147,483,647, got -1"),
        ({"num_classes": 10**30}, "num_classes: expected an integer from 0 to 2,147,483,647, got 1" + 30 * "0"),
        ({"num_classes": 2.5}, "num_classes: expected an integer from 0 to 2,147,483,647, got 2.5"),
        ({"drop_rate": 2}, "drop_rate: expected a share, 0 to 1, got 2"),
        ({"drop_rate": float("nan")}, "drop_rate: expected a share, 0 to 1, got NaN"),
    ],
)
@pytest.mark.parametrize("name", ["robnet_micro", "resnet18_cifar", "vgg16_cifar"])
def test_an_argument_that_no_network_has_is_refused(name, arguments, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        timm.create_model(name, **arguments)


@pytest.mark.parametrize("pooling", ["---", 3])
def test_a_pooling_that_timm_does_not_know_is_refused(tiny, pooling):
    with pytest.raises(ModelError, match="global_pool: expected timm's name of a pooling, such as avg or max, or"):
        compile(tiny, global_pool=pooling)


def test_a_head_of_less_than_no_classes_is_refused(tiny):
    with pytest.raises(ModelError, match="num_classes: expected an integer from 0 to 2,147,483,647, got -1"):
        Network(tiny).reset_classifier(-1)
