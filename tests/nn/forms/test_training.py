"""The training form: the network's own function, gradients and statistics, in both modes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import Block
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.nn.compiler import for_training
from robnet_zoo.nn.forms.layout import Activation
from robnet_zoo.nn.forms.training import TrainingForm, _operation
from robnet_zoo.nn.layers import build
from robnet_zoo.nn.network import Network
from tests.small_networks import SPECS, UNUSUAL, network_of

TOLERANCE = 1e-9  # in float64


def after_a_step(network: Network, model: nn.Module) -> dict[str, Tensor]:
    """Return logits, gradients of images and parameters, and the buffers that one pass of two images leaves."""
    height, width = network.spec.network.input_size[1:]
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, network.in_chans, height, width, dtype=torch.float64, generator=generator).requires_grad_()
    logits = model(images)
    weights = torch.randn(logits.shape, dtype=torch.float64, generator=generator)
    (logits * weights).sum().backward()
    tensors = {"logits": logits.detach(), "images": images.grad}
    tensors |= {f"gradient of {name}": parameter.grad for name, parameter in network.named_parameters()}
    return tensors | dict(network.named_buffers())


def assert_same_step(network: Network, *, training: bool) -> None:
    twin = copy.deepcopy(network).train(training)
    network.train(training)
    expected = after_a_step(network, network)
    actual = after_a_step(twin, for_training(twin, dtype=torch.float64))
    assert expected["images"].abs().max() > 1e-6  # a gradient of zeros would prove nothing
    for name, value in expected.items():
        largest = max(1.0, float(value.abs().max()))
        torch.testing.assert_close(actual[name] / largest, value / largest, rtol=0, atol=TOLERANCE, msg=name)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_step_is_that_of_the_network(spec: Genotype, training: bool) -> None:
    assert_same_step(network_of(spec), training=training)


@pytest.mark.parametrize("name", spec_names())
def test_bundled_specs_take_the_same_step(name: str) -> None:
    spec = load_spec(name)
    narrow = spec.network.model_copy(update={"channels": 4, "input_size": (3, 32, 32)})
    assert_same_step(network_of(spec.model_copy(update={"network": narrow})), training=True)


@pytest.mark.parametrize("block", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_blocks_keep_their_sum_and_its_gradient(block: Block) -> None:
    """Put each twice into one node, so that a sum made in place meets itself, and beside the node that it reads."""
    torch.manual_seed(0)
    modules = nn.ModuleList([build(block), build(block)]).double().eval()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    outcomes = []
    for in_form in (False, True):
        images = x.clone().requires_grad_()
        if in_form:
            value = Activation(images * 1)
            total = _operation(modules[1], value, _operation(modules[0], value, None))
            read = value.x
        else:
            read = images * 1
            total = modules[0](read) + modules[1](read)
        (total.square().sum() + read.sum()).backward()
        outcomes.append((total.detach(), images.grad))
    torch.testing.assert_close(*outcomes, rtol=TOLERANCE, atol=TOLERANCE)


def test_parameters_are_the_networks_own() -> None:
    network = network_of(SPECS["every operation"])
    assert {id(p) for p in for_training(network).parameters()} == {id(p) for p in network.parameters()}


def test_gradients_in_half_precision_have_the_dtype_of_the_weights_and_are_near() -> None:
    network = network_of(SPECS["every operation"]).float().train()
    twin = copy.deepcopy(network)
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for model, form in ((network, network), (twin, for_training(twin, dtype=torch.bfloat16))):
        form(images).square().sum().backward()
        assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    exact, near = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (network, twin))
    assert torch.nn.functional.cosine_similarity(exact, near, dim=0) > 0.99


def test_other_models_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a robnet_zoo Network, got Linear"):
        for_training(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_channels_stay_innermost_in_every_gradient() -> None:
    network = network_of(SPECS["every operation"]).to(memory_format=torch.channels_last).float().train()
    strays = []

    def watch(module: nn.Module, _: object, output: Tensor) -> None:
        def look(gradient: Tensor) -> None:
            if gradient.stride(1) != 1:
                strays.append(module)

        output.register_hook(look)

    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(watch)
    TrainingForm(network, dtype=torch.float32)(torch.rand(4, 3, 8, 8)).square().sum().backward()
    assert not strays
