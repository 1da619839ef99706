"""Feature denoising: the filters by their definitions, the block, the spec, its cost, its export, and the baselines."""

import itertools

import onnx
import pytest
import timm
import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo import cli
from robnet_zoo.converters import onnx as converter
from robnet_zoo.converters.original.codes import to_original_json
from robnet_zoo.data import Images
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.blueprint import blueprint, multiply_adds, parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import DENOISE_FORMS, MEDIAN_OF_NINE, DenoiseForm, denoising
from robnet_zoo.nn.compiler import compile, for_inference
from robnet_zoo.nn.layers import Denoising, EmbeddedGaussian2d, build
from robnet_zoo.zoo import registry as zoo
from robnet_zoo.zoo.baselines import BASELINES
from tests.small_networks import SEPARABLE, SPECS, genotype, network_of

DENOISED = {name: spec for name, spec in SPECS.items() if name.startswith("denoised")}


def maps(channels: int, height: int, width: int) -> Tensor:
    return torch.randn(2, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def filtered(form: DenoiseForm, x: Tensor) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = build(denoising(x.shape[1], form)[:1])[0].double()
    if isinstance(layer, EmbeddedGaussian2d):
        torch.nn.init.normal_(layer.theta.weight)
        torch.nn.init.normal_(layer.phi.weight)
    return layer, layer(x)


# The filters


@pytest.mark.parametrize("size", [(6, 2, 2), (2, 3, 4)], ids=["fewer pixels than channels", "more"])
def test_dot_product_weighs_every_pixel_by_its_product_with_this_one(size: tuple[int, int, int]) -> None:
    x = maps(*size)
    found = filtered("dot_product", x)[1]
    pixels = list(itertools.product(range(size[1]), range(size[2])))
    for at in pixels:
        weights = [(x[:, :, at[0], at[1]] * x[:, :, row, column]).sum(1) for row, column in pixels]
        terms = [weight[:, None] * x[:, :, row, column] for weight, (row, column) in zip(weights, pixels, strict=True)]
        expected = torch.stack(terms).sum(0) / len(pixels)
        torch.testing.assert_close(found[:, :, at[0], at[1]], expected, rtol=1e-12, atol=1e-12)


def test_embedded_gaussian_weighs_pixels_by_the_softmax_of_their_embeddings_product() -> None:
    x = maps(5, 3, 4)
    layer, found = filtered("embedded_gaussian", x)
    assert isinstance(layer, EmbeddedGaussian2d)
    theta, phi = (F.conv2d(x, conv.weight) for conv in (layer.theta, layer.phi))
    assert theta.shape[1] == 2  # half of 5, rounded down
    likeness = torch.einsum("nchw,ncij->nhwij", theta, phi) / 2**0.5
    weights = likeness.flatten(3).softmax(3).view_as(likeness)
    assert weights.amax() > 2 * weights.amin()
    expected = torch.einsum("nhwij,ncij->nchw", weights, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_mean_is_over_the_pixels_that_are_there() -> None:
    x = maps(2, 3, 4)
    found = filtered("mean", x)[1]
    torch.testing.assert_close(found[:, :, 1, 1], x[:, :, 0:3, 0:3].mean((2, 3)))
    torch.testing.assert_close(found[:, :, 0, 0], x[:, :, 0:2, 0:2].mean((2, 3)))


@pytest.mark.parametrize("size", [(2, 5, 4), (1, 1, 3), (1, 1, 1)])
def test_median_is_that_of_the_pixels_with_the_edge_repeated(size: tuple[int, int, int]) -> None:
    x = maps(*size)
    windows = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    assert torch.equal(filtered("median", x)[1], windows.median(dim=4).values)


def test_exchanges_put_the_median_of_any_nine_values_into_their_middle() -> None:
    for bits in itertools.product((0, 1), repeat=9):  # enough, by the 0-1 principle of comparison networks
        values = list(bits)
        for first, second in MEDIAN_OF_NINE:
            values[first], values[second] = sorted((values[first], values[second]))
        assert values[4] == sorted(bits)[4]


# The block


@pytest.mark.parametrize("form", DENOISE_FORMS)
def test_untrained_block_passes_its_input_on_and_learns(form: DenoiseForm) -> None:
    block, x = Denoising(denoising(4, form)).double(), maps(4, 6, 6)
    assert torch.equal(block(x), x)
    block[2].weight.data.fill_(1.0)
    output = block(x)
    assert (output - x).std() > 0.5  # normalised
    (output * maps(4, 6, 6)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in block.parameters())


@pytest.mark.parametrize("form", DENOISE_FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(form: DenoiseForm, dtype: torch.dtype) -> None:
    network = network_of(DENOISED[f"denoised, {form}"]).float()
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = network(images), for_inference(network, dtype=dtype)(images)
    assert (found - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_torchscript_gives_the_same_logits(spec: Genotype) -> None:
    network, images = network_of(spec), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(torch.jit.script(network)(images), network(images), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_symbolic_trace_gives_the_same_logits(spec: Genotype) -> None:
    network, images = network_of(spec), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    traced = torch.fx.symbolic_trace(network)
    torch.testing.assert_close(traced(images), network(images), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(torch.jit.script(traced)(images), network(images), rtol=1e-9, atol=1e-9)


def test_checkpointing_keeps_gradients_and_statistics() -> None:
    kept, images = {}, torch.rand(2, 3, 8, 8, dtype=torch.float64)
    for enable in (False, True):
        network = network_of(DENOISED["denoised, embedded_gaussian"]).train()
        network.set_grad_checkpointing(enable)
        network(images).square().sum().backward()
        kept[enable] = {key: p.grad for key, p in network.named_parameters()} | dict(network.named_buffers())
    torch.testing.assert_close(kept[True], kept[False], rtol=1e-9, atol=1e-9)


# The spec


def with_denoise(spec: Genotype, **denoise: object) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"denoise": denoise})})


def test_specs_without_denoising_keep_their_hash() -> None:
    # As they were before the key existed; bundled weights and results are bound to them.
    assert zoo.load_spec("robnet_free").hash.startswith("af8c09fce3e10760")
    assert zoo.load_spec("robnet_large").hash.startswith("bae9022b8f3c43ae")


def test_denoising_is_written_read_and_part_of_the_hash() -> None:
    plain = zoo.load_spec("robnet_large")
    specs = [plain]
    specs += [with_denoise(plain, after=[5, 12, 19], form=form) for form in DENOISE_FORMS]
    specs += [with_denoise(plain, after=[5], form="mean")]
    assert len({spec.hash for spec in specs}) == len(specs)
    assert [Genotype.loads(spec.dumps()) for spec in specs] == specs
    assert "denoise" not in plain.dumps()


@pytest.mark.parametrize(
    ("denoise", "message"),
    [
        ({"after": [0, 3], "form": "mean"}, "network.denoise.after[1]: expected a depth from 0 to 2, got 3"),
        ({"after": [1, 0], "form": "mean"}, "network.denoise.after: expected depths in ascending order, got [1, 0]"),
        ({"after": [1, 1], "form": "mean"}, "network.denoise.after: expected depths in ascending order, got [1, 1]"),
        ({"after": [], "form": "mean"}, "network.denoise.after: expected at least 1 of them, got 0"),
        ({"after": [-1], "form": "mean"}, "network.denoise.after[0]: expected at least 0, got -1"),
        ({"after": [0], "form": "gaussian"}, "network.denoise.form: expected 'dot_product', 'embedded_gaussian'"),
        ({"after": [0]}, "network.denoise.form: missing"),
        ({"after": [0], "form": "mean", "k": 3}, 'network.denoise: unknown key "k"'),
    ],
)
def test_mistakes_are_named(denoise: object, message: str) -> None:
    with pytest.raises(DocumentError) as raised:
        genotype({"a": SEPARABLE}, "aaa", denoise=denoise)
    assert message in str(raised.value)


def test_show_says_where_and_how(capsys, tmp_path) -> None:
    with_denoise(zoo.load_spec("robnet_large"), after=[5, 12], form="median").save(tmp_path / "spec.json")
    cli.main(["show", str(tmp_path / "spec.json")])
    assert "median after 5, 12" in capsys.readouterr().out
    cli.main(["show", "robnet_large"])
    assert "denoise" not in capsys.readouterr().out


def test_original_has_no_codes_for_it() -> None:
    with pytest.raises(DocumentError, match=r"network\.denoise: expected null, as in the original"):
        to_original_json(with_denoise(zoo.load_spec("robnet_large"), after=[5], form="mean"))


def test_weights_are_those_of_the_plain_network_and_more() -> None:
    plain = genotype({"a": SEPARABLE}, "aaa")
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


# Its cost


@pytest.mark.parametrize(
    ("form", "more_parameters", "more_products"),
    [  # per block of C channels: C * C + 2C, embedded twice C * C/2 more; sizes are 32, 16 and 8 pixels
        ("mean", [144 * 146, 288 * 290, 576 * 578], [1024 * 144**2, 256 * 288**2, 64 * 576**2]),
        ("median", [144 * 146, 288 * 290, 576 * 578], [1024 * 144**2, 256 * 288**2, 64 * 576**2]),
        (
            "dot_product",
            [144 * 146, 288 * 290, 576 * 578],
            [1024 * 144**2 * 3, 256 * 288**2 + 2 * 256**2 * 288, 64 * 576**2 + 2 * 64**2 * 576],
        ),
        (
            "embedded_gaussian",
            [144 * 290, 288 * 578, 576 * 1154],
            [
                1024 * 144**2 * 2 + 1024**2 * 216,
                256 * 288**2 * 2 + 256**2 * 432,
                64 * 576**2 * 2 + 64**2 * 864,
            ],
        ),
    ],
)
def test_cost_is_that_counted_by_hand(form: DenoiseForm, more_parameters: list[int], more_products: list[int]) -> None:
    plain = zoo.load_spec("robnet_large")
    spec = with_denoise(plain, after=[5, 12, 19], form=form)
    assert [cell.output.size[0] for cell in blueprint(spec).cells if cell.denoise] == [32, 16, 8]
    assert parameters(spec) == 6_842_710 + sum(more_parameters)
    assert multiply_adds(spec) == multiply_adds(plain) + sum(more_products)


# Its export


@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_exported_file_gives_torchs_logits_and_rebuilt_its_gradients(spec: Genotype, tmp_path) -> None:
    network, path = network_of(spec).float(), tmp_path / "model.onnx"
    assert converter.export(network, path).difference <= 1e-4
    onnx.checker.check_model(onnx.load(path), full_check=True)
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(images)
    assert expected.std() > 1e-2
    file = converter.OnnxClassifier(path)
    torch.testing.assert_close(file(images), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(converter.load(path)(images), expected, rtol=1e-4, atol=1e-4)
    gradients = []
    for model in (network, converter.load(path), file.module()):
        given = images.clone().requires_grad_()
        model(given)[:, 0].sum().backward()
        gradients.append(given.grad)
    scale = float(gradients[0].abs().max())
    assert scale > 1e-6
    for other in gradients[1:]:
        torch.testing.assert_close(other / scale, gradients[0] / scale, rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("spec", DENOISED.values(), ids=DENOISED)
def test_exported_file_is_near_in_every_precision(spec: Genotype, precision: str, tmp_path) -> None:
    network, path = network_of(spec).float(), tmp_path / "model.onnx"
    pixels = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = Images(pixels, torch.zeros(40, dtype=torch.long), name="noise")
    options = converter.ExportOptions(precision=precision, calibration=16)
    report = converter.export(network, path, options, images=images)
    with torch.no_grad():
        largest = float(network(images.batch(slice(None))[0]).abs().max())
    assert report.difference <= (0.005 if precision == "fp16" else 0.05) * largest


def test_the_block_is_exported_for_images_of_another_size(tmp_path) -> None:
    network, path = network_of(DENOISED["denoised, dot_product"]).float(), tmp_path / "model.onnx"
    assert converter.export(network, path, converter.ExportOptions(input_size=(16, 24))).difference <= 1e-4


# The baselines

WIDTHS = {  # of what each stage gives
    "resnet18_cifar": (64, 128, 256, 512),
    "resnet50_cifar": (256, 512, 1024, 2048),
    "wide_resnet28_10_cifar": (160, 320, 640),
    "densenet121_cifar": (256, 512, 1024, 1024),
    "vgg16_cifar": (64, 128, 256, 512, 512),
    "mobilenetv2_cifar": (24, 32, 96, 320),
    "resnext29_2x64d_cifar": (256, 512, 1024),
}


@pytest.mark.parametrize("form", DENOISE_FORMS)
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_carry_a_block_behind_each_stage(name: str, form: DenoiseForm) -> None:
    plain = timm.create_model(name, device="meta")
    model = timm.create_model(name, denoise=form, device="meta")
    widths = WIDTHS[name]
    more = sum(c * c + 2 * c + (2 * c * (c // 2) if form == "embedded_gaussian" else 0) for c in widths)
    count = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in plain.parameters())
    assert (sum(isinstance(module, Denoising) for module in model.modules()), count) == (len(widths), more)
    assert plain.state_dict().keys() < model.state_dict().keys()
    assert model(torch.rand(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", BASELINES)
def test_denoised_baseline_starts_as_the_plain_one(name: str) -> None:
    plain, model = timm.create_model(name).eval(), timm.create_model(name, denoise="median").eval()
    model.load_state_dict(plain.state_dict(), strict=False)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(images), plain(images))


@pytest.mark.parametrize("name", BASELINES)
def test_every_feature_of_a_baseline_but_the_stems_is_denoised(name: str) -> None:
    plain = timm.create_model(name, features_only=True).eval()
    model = timm.create_model(name, features_only=True, denoise="mean").eval()
    model.body.load_state_dict(plain.body.state_dict(), strict=False)
    for module in model.body.modules():
        if isinstance(module, Denoising):
            module[2].weight.data.fill_(1.0)
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        same = [torch.equal(a, b) for a, b in zip(model(images), plain(images), strict=True)]
    has_stem = len(same) == len(WIDTHS[name]) + 1 and name != "vgg16_cifar"  # VGG's last is a pooling
    assert same == [has_stem] + [False] * (len(same) - 1)


def test_unknown_form_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match="denoise: unknown form \"medium\", did you mean 'median'"):
        timm.create_model("resnet18_cifar", denoise="medium")
