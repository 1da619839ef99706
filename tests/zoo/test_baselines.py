"""The paper's comparison networks: their parameter counts, derived by hand, and that they are ordinary timm models."""

import importlib
import warnings

import pytest
import timm
import torch
import torch.fx
from safetensors.torch import save_file
from timm.data import resolve_data_config
from timm.models import save_for_hf

from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.errors import TargetError, WeightsError
from robnet_zoo.genotype.layers import DENOISE_FORMS, DenoiseForm
from robnet_zoo.nn.layers import Denoising
from robnet_zoo.zoo import baselines
from robnet_zoo.zoo.baselines import BASELINES

NAMES = list(BASELINES)
SIZES = {  # of the features, from the stem or the first stage on
    "resnet18_cifar": [32, 32, 16, 8, 4],
    "resnet50_cifar": [32, 32, 16, 8, 4],
    "wide_resnet28_10_cifar": [32, 32, 16, 8],
    "densenet121_cifar": [32, 32, 16, 8, 4],
    "vgg16_cifar": [32, 16, 8, 4, 2, 1],
    "mobilenetv2_cifar": [32, 16, 8, 4],
    "resnext29_2x64d_cifar": [32, 32, 16, 8],
}
PRINTED = {  # millions, in tables 1 and 7 of the paper
    "resnet18_cifar": 11.17,
    "resnet50_cifar": 23.52,
    "wide_resnet28_10_cifar": 36.48,
    "vgg16_cifar": 14.73,
    "mobilenetv2_cifar": 2.30,
    "resnext29_2x64d_cifar": 9.13,
}


# Parameters by hand


def conv(inputs: int, outputs: int, kernel: int, *, groups: int = 1) -> int:
    """Return the parameters of a convolution without bias and the norm behind it."""
    return inputs // groups * outputs * kernel * kernel + 2 * outputs


def linear(inputs: int) -> int:
    return 10 * inputs + 10


def resnet18() -> int:
    total, channels = conv(3, 64, 3), 64
    for width in (64, 128, 256, 512):
        total += conv(channels, width, 3) + 3 * conv(width, width, 3)
        total += conv(channels, width, 1) if channels != width else 0
        channels = width
    return total + linear(512)


def bottlenecks(blocks: dict[int, int], expansion: int, groups: int = 1, *, stem: int) -> int:
    """Return the parameters of a network of bottlenecks. blocks: how many of each width.

    Each is 1x1, 3x3, 1x1; the first of a width projects its input.
    """
    total, channels = conv(3, 64, stem), 64
    for width, count in blocks.items():
        outputs = width * expansion
        for index in range(count):
            total += conv(channels, width, 1) + conv(width, width, 3, groups=groups) + conv(width, outputs, 1)
            total += conv(channels, outputs, 1) if index == 0 else 0
            channels = outputs
    return total + linear(channels)


def wide_resnet28_10() -> int:
    total, channels = 3 * 16 * 9, 16  # the norm before a convolution has the channels of its input
    for width in (160, 320, 640):
        total += 2 * channels + 9 * channels * width + channels * width  # the first block projects
        total += 7 * (2 * width + 9 * width * width)
        channels = width
    return total + 2 * 640 + linear(640)


def densenet121() -> int:
    total, channels = 3 * 64 * 9, 64
    for index, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            total += 2 * channels + conv(channels, 128, 1) + 128 * 32 * 9  # norm, 1x1, norm, 3x3
            channels += 32
        if index < 3:
            total += 2 * channels + channels * channels // 2
            channels //= 2
    return total + 2 * channels + linear(channels)


def vgg16() -> int:
    total, channels = 0, 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            total += conv(channels, width, 3) + width  # these have biases
            channels = width
    return total + linear(512)


def mobilenetv2() -> int:
    total, channels = conv(3, 32, 3), 32
    groups = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, width, count, stride in groups:
        for index in range(count):
            inner = channels * expansion
            total += conv(channels, inner, 1) + conv(inner, inner, 3, groups=inner) + conv(inner, width, 1)
            total += conv(channels, width, 1) if index == 0 and stride == 1 else 0
            channels = width
    return total + conv(320, 1280, 1) + linear(1280)


@pytest.mark.parametrize(
    ("name", "by_hand", "count"),
    [
        ("resnet18_cifar", resnet18(), 11_173_962),
        ("resnet50_cifar", bottlenecks({64: 3, 128: 4, 256: 6, 512: 3}, 4, stem=3), 23_520_842),
        ("wide_resnet28_10_cifar", wide_resnet28_10(), 36_479_194),
        ("densenet121_cifar", densenet121(), 6_956_298),
        ("vgg16_cifar", vgg16(), 14_728_266),
        ("mobilenetv2_cifar", mobilenetv2(), 2_296_922),
        ("resnext29_2x64d_cifar", bottlenecks({128: 3, 256: 3, 512: 3}, 2, groups=2, stem=1), 9_128_778),
    ],
)
def test_parameters_are_those_counted_by_hand(name: str, by_hand: int, count: int) -> None:
    model = timm.create_model(name, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == by_hand == count


@pytest.mark.parametrize(("name", "millions"), PRINTED.items())
def test_parameters_round_to_the_count_that_the_paper_prints(name: str, millions: float) -> None:
    model = timm.create_model(name, device="meta")
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_the_paper_prints_densenets_count_cut_instead_of_rounded() -> None:
    model = timm.create_model("densenet121_cifar", device="meta")
    assert int(sum(parameter.numel() for parameter in model.parameters()) / 1e4) / 100 == 6.95


# Other sizes


def test_half_the_width_and_half_the_depth_of_a_resnet_are_those_counted_by_hand() -> None:
    total, channels = conv(3, 32, 3), 32
    for width in (32, 64, 128, 256):  # one block each
        total += conv(channels, width, 3) + conv(width, width, 3)
        total += conv(channels, width, 1) if channels != width else 0
        channels = width
    model = timm.create_model("resnet18_cifar", width=0.5, depth=0.5, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == total + linear(256)


def test_half_the_growth_of_a_densenet_is_that_counted_by_hand() -> None:
    total, channels = 3 * 32 * 9, 32
    for index, layers in enumerate((6, 12, 24, 16)):
        for _ in range(layers):
            total += 2 * channels + conv(channels, 64, 1) + 64 * 16 * 9
            channels += 16
        if index < 3:
            total += 2 * channels + channels * channels // 2
            channels //= 2
    model = timm.create_model("densenet121_cifar", width=0.5, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == total + 2 * channels + linear(channels)


@pytest.mark.parametrize("name", NAMES)
def test_smaller_ones_take_images_of_half_the_size(name: str) -> None:
    whole = timm.create_model(name, device="meta")
    model = timm.create_model(name, width=0.3, depth=0.4, denoise="mean", device="meta").eval()
    count, published = (sum(parameter.numel() for parameter in each.parameters()) for each in (model, whole))
    assert count < 0.3 * published
    assert model(torch.rand(2, 3, 16, 16, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("given", [{"width": 0}, {"depth": -1.0}, {"width": float("nan")}])
def test_a_size_that_is_none_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(given))}: expected more than 0"):
        timm.create_model("resnet18_cifar", **given)


# Ordinary timm models


def test_registering_twice_is_harmless() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(baselines)
    assert set(timm.list_models("*_cifar")) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_not_normalised(name: str) -> None:
    config = resolve_data_config(model=timm.create_model(name, device="meta"))
    assert (config["input_size"], config["mean"], config["std"]) == ((3, 32, 32), (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_features_have_the_sizes_that_they_say(name: str) -> None:
    model = timm.create_model(name, features_only=True, device="meta")
    features = model(torch.rand(2, 3, 32, 32, device="meta"))
    assert [feature.shape[1] for feature in features] == model.feature_info.channels()
    assert [32 // reduction for reduction in model.feature_info.reduction()] == SIZES[name]
    assert [feature.shape[2] for feature in features] == SIZES[name]


@pytest.mark.parametrize("name", NAMES)
def test_classes_channels_pooling_and_sizes_are_taken(name: str) -> None:
    model = timm.create_model(name, num_classes=7, in_chans=1, device="meta").eval()
    images = torch.rand(2, 1, 64, 64, device="meta")
    assert model(images).shape == (2, 7)
    model.reset_classifier(0, "")
    assert model(images).shape == (2, model.num_features, 2 * SIZES[name][-1], 2 * SIZES[name][-1])
    model.reset_classifier(3, "avg")
    assert model(images).shape == (2, 3)
    assert model.get_classifier().weight.shape[:2] == (3, model.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_configuration_names_the_first_convolution_and_the_classifier(name: str) -> None:
    model = timm.create_model(name, num_classes=7, in_chans=2, device="meta")
    assert model.get_submodule(model.pretrained_cfg["first_conv"]).weight.shape[1] == 2
    assert model.get_submodule(model.pretrained_cfg["classifier"]).weight.shape[0] == 7


@pytest.mark.parametrize("name", NAMES)
def test_logits_vary_with_images_and_every_parameter_has_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name).train()
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    logits = model(images)
    assert not torch.allclose(logits[0], logits[1])
    logits.square().sum().backward()
    assert images.grad.abs().max() > 0
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_drop_rate_is_taken() -> None:
    assert all(timm.create_model(name, drop_rate=0.3, device="meta").drop_rate == 0.3 for name in ("vgg16_cifar",))


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_not_bundled_are_one_line(name: str) -> None:
    with pytest.raises(WeightsError, match=f"^no weights of {name} are bundled: .*safetensors"):
        timm.create_model(name, pretrained=True)


def test_unknown_keyword_is_an_error() -> None:
    with pytest.raises(TypeError, match="no_such_keyword"):
        timm.create_model("resnet18_cifar", no_such_keyword=1)


def test_saved_folder_brings_the_model_back(tmp_path) -> None:
    model = timm.create_model("mobilenetv2_cifar", num_classes=4).eval()
    save_for_hf(model, tmp_path, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(again(images), model(images))


# Targets of the harness


@pytest.mark.parametrize("name", ["mobilenetv2_cifar", "resnet18_cifar"])
def test_harness_takes_them_by_name_with_weights_and_images_as_they_are(name: str, tmp_path) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=6).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    target = load_target(name, weights=tmp_path / "w.safetensors", device="cpu")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(target.judge(images), model(images))
    assert (target.num_classes, target.identity.mean, target.identity.std) == (6, (0, 0, 0), (1, 1, 1))


def test_harness_asks_for_weights_and_suggests_the_nearest_name(tmp_path) -> None:
    with pytest.raises(TargetError, match="no weights of resnet18_cifar are bundled"):
        load_target("resnet18_cifar")
    with pytest.raises(TargetError, match="did you mean 'wide_resnet28_10_cifar'"):
        load_target("wide_resnet28_10_cifr", weights=tmp_path / "w.safetensors")


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
