"""The inference form is the eval-mode network: same logits, same input gradients."""

import pytest
import torch
import torch.fx
from torch import Tensor, nn

from robnet_zoo.errors import ModelError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import DENOISE_FORMS, Block, DenoiseForm
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.nn.compiler import compile, for_inference, for_training
from robnet_zoo.nn.forms.inference import EdgeOperation, NodeSum
from robnet_zoo.nn.forms.layout import Activation
from robnet_zoo.nn.layers import build
from robnet_zoo.nn.network import Network
from tests.small_networks import SEPARABLE, SPECS, UNUSUAL, genotype, network_of

TOLERANCE = 1e-9  # in float64


def images_of(network: Network, *, n: int = 3) -> Tensor:
    height, width = network.spec.network.input_size[1:]
    return torch.rand(
        n, network.in_chans, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )


def output_and_gradient(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone().requires_grad_()
    output = model(images)
    weights = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return output.detach(), torch.autograd.grad((output * weights).sum(), images)[0]


def assert_same_function(network: Network, *, channels_last: bool = True, n: int = 3) -> None:
    images = images_of(network, n=n)
    expected = output_and_gradient(network, images)
    actual = output_and_gradient(for_inference(network, dtype=torch.float64, channels_last=channels_last), images)
    largest = float(expected[1].abs().max())
    assert largest > 1e-8  # a gradient of zeros would prove nothing
    small = min(1.0, largest)  # one that is small is compared at its own scale
    (logits, gradient), (expected_logits, expected_gradient) = actual, expected
    torch.testing.assert_close(logits, expected_logits, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(gradient / small, expected_gradient / small, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_logits_and_input_gradients_are_those_of_the_network(spec: Genotype, channels_last: bool) -> None:
    assert_same_function(network_of(spec), channels_last=channels_last)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", spec_names())
def test_bundled_specs_keep_their_function(name: str, channels_last: bool) -> None:
    spec = load_spec(name)
    size = (3, 32, 32)
    narrow = spec.network.model_copy(update={"channels": 4, "input_size": size})
    assert_same_function(network_of(spec.model_copy(update={"network": narrow})), channels_last=channels_last, n=2)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_batch_size_gives_the_same_function(n: int, channels_last: bool) -> None:
    assert_same_function(network_of(SPECS["every operation"]), channels_last=channels_last, n=n)


@pytest.mark.parametrize("channels_last", [False, True])
def test_one_channel_and_one_pixel_keep_the_function(channels_last: bool) -> None:
    """Check tensors whose memory layout is ambiguous."""
    spec = genotype({"a": SEPARABLE}, "aaa", channels=1, reductions=[], input_size=[1, 1, 1])
    assert_same_function(network_of(spec), channels_last=channels_last)


def test_gray_images_keep_the_function() -> None:
    assert_same_function(network_of(SPECS["every operation"], in_chans=1))


def test_no_classes_give_the_pooled_features() -> None:
    assert_same_function(network_of(SPECS["every operation"], num_classes=0))


@pytest.mark.parametrize("pool", ["max", "catavgmax"])
def test_every_pooling_keeps_the_function(pool: str) -> None:
    assert_same_function(network_of(SPECS["every operation"], global_pool=pool))


def test_no_pooling_gives_the_features() -> None:
    network = network_of(SPECS["every operation"], num_classes=0, global_pool="")
    assert_same_function(network)
    assert for_inference(network)(images_of(network)).shape == (3, network.num_features, 4, 4)


def test_features_are_those_of_the_network() -> None:
    network = network_of(SPECS["every operation"])
    images = images_of(network)
    actual = for_inference(network, dtype=torch.float64).forward_features(images)
    torch.testing.assert_close(actual, network.forward_features(images), rtol=TOLERANCE, atol=TOLERANCE)


def test_images_in_either_layout_give_the_same_logits() -> None:
    network = network_of(SPECS["every operation"])
    images, model = images_of(network), for_inference(network, dtype=torch.float64)
    assert torch.equal(model(images), model(images.contiguous(memory_format=torch.channels_last)))


def test_images_are_not_written_to() -> None:
    network = network_of(SPECS["identities alone"])
    images = images_of(network)
    before = images.clone()
    for_inference(network, dtype=torch.float64)(images)
    assert torch.equal(images, before)


# The network that it is made from


@pytest.mark.parametrize("training", [False, True])
def test_network_is_left_as_it_was(training: bool) -> None:
    network = network_of(SPECS["every operation"]).train(training)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    form = for_inference(network)
    form(images_of(network).float())
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert all(module.training is training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not {p.data_ptr() for p in form.parameters()} & {p.data_ptr() for p in network.parameters()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_refreshed_form_equals_a_new_one(spec: Genotype, channels_last: bool, dtype: torch.dtype) -> None:
    network = network_of(spec)
    form = for_inference(network, dtype=dtype, channels_last=channels_last)
    held = [parameter.data_ptr() for parameter in form.parameters()]
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in (*network.parameters(), *network.buffers()):
            if value.is_floating_point():
                value.mul_(torch.rand(value.shape, dtype=torch.float64, generator=draw) + 0.5)
    form.refresh()
    anew = for_inference(network, dtype=dtype, channels_last=channels_last)
    assert [parameter.data_ptr() for parameter in form.parameters()] == held
    for (name, refreshed), (other, expected) in zip(form.named_parameters(), anew.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(refreshed, expected), name
        assert refreshed.stride() == expected.stride(), name
    images = images_of(network)
    assert torch.equal(form(images), anew(images))


def test_a_form_changes_only_when_it_is_refreshed() -> None:
    network = network_of(SPECS["every operation"])
    form, images = for_inference(network, dtype=torch.float64), images_of(network)
    before = form(images)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    assert torch.equal(form(images), before)
    form.refresh()
    assert not torch.equal(form(images), before)


def test_network_in_training_mode_gives_the_eval_modes_function() -> None:
    network = network_of(SPECS["every operation"], drop_rate=0.5)
    images = images_of(network)
    expected = network(images)
    actual = for_inference(network.train(), dtype=torch.float64)(images)
    torch.testing.assert_close(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_synchronised_norms_fold_as_well() -> None:
    network = network_of(SPECS["every operation"])
    images = images_of(network)
    expected = network(images)
    form = for_inference(nn.SyncBatchNorm.convert_sync_batchnorm(network), dtype=torch.float64)
    torch.testing.assert_close(form(images), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_other_models_are_refused() -> None:
    with pytest.raises(TypeError, match="expected a robnet_zoo Network, got Linear"):
        for_inference(nn.Linear(1, 1))  # type: ignore[arg-type]


# The form itself


def test_images_of_integers_are_refused() -> None:
    network = network_of(SPECS["every operation"]).float()
    for form in (for_inference(network), for_training(network)):
        with pytest.raises(ModelError, match=r"expected images of floating point in \[0, 1\], got torch.uint8"):
            form(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_an_empty_batch_gives_no_logits() -> None:
    network = network_of(SPECS["every operation"]).eval()
    for form in (for_inference(network, dtype=torch.float64), for_training(network, dtype=torch.float64)):
        assert form(torch.zeros(0, 3, 8, 8, dtype=torch.float64)).shape == (0, network.num_classes)


def test_a_pooling_that_learns_is_refreshed_and_runs_in_float32() -> None:
    network = network_of(SPECS["every operation"]).float().eval()
    network.global_pool = nn.Sequential(network.global_pool, nn.LayerNorm(network.num_features))
    form = for_inference(network, dtype=torch.bfloat16)
    with torch.no_grad():
        network.global_pool[1].weight.mul_(3)
    form.refresh()
    images = images_of(network).float()
    expected, actual = network(images), form(images)
    assert (actual - expected).norm() < 0.05 * expected.norm()
    assert {parameter.dtype for parameter in form.global_pool.parameters()} == {torch.float32}


def test_training_mode_changes_nothing() -> None:
    form = for_inference(network_of(SPECS["every operation"], drop_rate=0.5), dtype=torch.float64)
    images = images_of(network_of(SPECS["every operation"]))
    assert torch.equal(form.train()(images), form.eval()(images))


def test_no_parameter_asks_for_a_gradient() -> None:
    form = for_inference(network_of(SPECS["every operation"]))
    assert not any(parameter.requires_grad for parameter in form.parameters())


@pytest.mark.parametrize("name", ["robnet_free", "robnet_large"])
def test_no_norm_of_a_bundled_spec_is_left(name: str) -> None:
    with torch.device("cpu"):
        form = for_inference(compile(load_spec(name)))
    kinds = {type(module).__name__ for module in form.modules()}
    assert not kinds & {"BatchNorm2d", "Affine"}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype: torch.dtype, channels_last: bool) -> None:
    network = network_of(SPECS["imagenet stem"]).float()
    images = images_of(network).float()
    logits, gradient = output_and_gradient(for_inference(network, dtype=dtype, channels_last=channels_last), images)
    expected, expected_gradient = output_and_gradient(network, images)
    assert logits.dtype == gradient.dtype == torch.float32
    assert (logits - expected).norm() < 0.05 * expected.norm()
    assert nn.functional.cosine_similarity(gradient.flatten(), expected_gradient.flatten(), dim=0) > 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_logits_have_the_dtype_of_the_images(dtype: torch.dtype) -> None:
    network = network_of(SPECS["imagenet stem"])
    assert for_inference(network)(images_of(network).to(dtype)).dtype == dtype


@pytest.mark.parametrize("channels_last", [False, True])
def test_export_gives_the_same_logits_at_every_batch_size(channels_last: bool) -> None:
    network = network_of(SPECS["every operation"])
    form, images = for_inference(network, dtype=torch.float64, channels_last=channels_last), images_of(network)
    exported = torch.export.export(form, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},)).module()
    for batch in (images, images[:1], torch.cat([images, images])):
        torch.testing.assert_close(exported(batch), network(batch), rtol=TOLERANCE, atol=TOLERANCE)


def test_torch_compile_finds_no_graph_break() -> None:
    torch.compiler.reset()  # else it checks again what it compiled for other tests
    network = network_of(SPECS["imagenet stem"])
    form, images = for_inference(network, dtype=torch.float64), images_of(network)
    fast = torch.compile(form, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(
        output_and_gradient(fast, images), output_and_gradient(network, images), rtol=TOLERANCE, atol=TOLERANCE
    )


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("block", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_blocks_keep_their_sum(block: Block, channels_last: bool) -> None:
    """Put each twice into one node, so that a sum made in place meets itself, and beside a block that adds in place."""
    torch.manual_seed(0)
    modules = nn.ModuleList([build(block), build(block)]).double().eval()
    for norm in modules.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)
            norm.running_var.uniform_(0.2, 2.0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64).contiguous(memory_format=layout)
    with torch.no_grad():
        operations = [(0, EdgeOperation(block, module, channels_last=channels_last)) for module in modules]
    node = NodeSum(operations).double().eval().to(memory_format=layout)
    expected = modules[0](x) + modules[1](x)
    torch.testing.assert_close(node([Activation(x)]), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert all(module.training for module in modules.train().modules())
    node.eval()
    assert all(module.training for module in modules.modules())  # none is the node's own


DENOISED = {name: spec for name, spec in SPECS.items() if name.startswith("denoised")}


@pytest.mark.parametrize("form", DENOISE_FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_of_a_denoised_network_is_near(form: DenoiseForm, dtype: torch.dtype) -> None:
    network = network_of(DENOISED[f"denoised, {form}"]).float()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = network(images), for_inference(network, dtype=dtype)(images)
    assert (actual - expected).norm() < 0.1 * expected.norm()
