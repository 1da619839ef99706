"""The paper's comparison networks (tables 1, 3, 4 and 7) as timm models for 32x32 images in [0, 1].

    timm.create_model("resnet18_cifar", num_classes=100)
    timm.create_model("resnet18_cifar", denoise="embedded_gaussian")  # a denoising block behind each of its stages
    timm.create_model("resnet18_cifar", width=0.25, depth=0.5)  # a quarter of the channels, half of the blocks

They are timm's own, with stem and strides changed as usual for CIFAR: the first convolution keeps the size and nothing
is pooled before the first stage. The paper does not say which form it compares with; its parameter counts are those of
the widely used one of K. Liu's `pytorch-cifar`, which three more changes give: VGG has one linear layer, MobileNetV2
expands its first block and projects where a block of stride 1 changes the channels, and ResNeXt's stem is 1x1.
For ImageNet the paper's networks are timm's `resnet50`, `resnet101` and `resnet152` as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from timm.layers.classifier import ClassifierHead
from timm.layers.create_conv2d import create_conv2d
from timm.layers.norm_act import BatchNormAct2d
from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, register_model
from timm.models import resolve_pretrained_cfg as resolve_cfg
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.densenet import DenseNet
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.resnetv2 import ResNetV2
from timm.models.vgg import VGG
from torch import Tensor, nn

from robnet_zoo.core.documents import nearest, shown
from robnet_zoo.errors import ModelError, WeightsError
from robnet_zoo.genotype.layers import DENOISE_FORMS, DenoiseForm, denoising
from robnet_zoo.nn.layers import Denoising
from robnet_zoo.nn.network import check_arguments

PIXELS = 32  # a side of the images
MAX_FACTOR = 4  # of width and depth


@dataclass(frozen=True)
class Baseline:
    """A comparison network.

    build: (scaling, timm's keywords: num_classes, in_chans, ...) -> the network.
    first_conv, classifier: the paths of these modules.
    features: the number of feature maps that timm can extract.
    stages: the network -> the path of the last module of each stage; if that is a sequence, its last module counts.
    paper: where the architecture is from.
    """

    build: Callable[..., nn.Module]
    first_conv: str
    classifier: str
    features: int
    stages: Callable[[Any], Iterable[str]]
    paper: str


@dataclass(frozen=True)
class Scaling:
    """Shares of the published width, in channels, and depth, in blocks a stage."""

    width: float = 1.0
    depth: float = 1.0

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if not 0 < getattr(self, name) <= MAX_FACTOR:
                raise ModelError(f"{name}: expected more than 0 and at most {MAX_FACTOR}, got {getattr(self, name)}")

    def channels(self, *published: int) -> tuple[int, ...]:
        """Return the channels at this width."""
        return tuple(max(1, round(self.width * count)) for count in published)

    def blocks(self, *published: int) -> tuple[int, ...]:
        """Return the blocks at this depth."""
        return tuple(max(1, round(self.depth * count)) for count in published)


class Projected(nn.Module):
    """A block of stride 1 that changes the channels, with a 1x1 convolution as its shortcut: (N, in or out, H, W)."""

    def __init__(self, block: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.block, self.shortcut = block, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.shortcut(x)


def _resnet(scaling: Scaling, *, block: Any, layers: tuple[int, ...], **kwargs: Any) -> nn.Module:
    """Return a ResNet (He et al., 2016): four stages at 32, 16, 8 and 4 pixels."""
    channels = scaling.channels(64, 128, 256, 512)
    model: Any = _with_stem(scaling, block, scaling.blocks(*layers), channels=channels, **kwargs)
    _divide_reductions(model, stages=4)
    return model


def _resnext(scaling: Scaling, **kwargs: Any) -> nn.Module:
    """Return a ResNeXt of 29 layers (Xie et al., 2017): three stages at 32, 16 and 8 pixels, two groups of width 64."""
    channels = scaling.channels(64, 128, 256)
    groups = {"cardinality": 2, "base_width": 64}
    model: Any = _with_stem(
        scaling, Bottleneck, scaling.blocks(3, 3, 3), kernel=1, channels=channels, **groups, **kwargs
    )
    model.layer4 = nn.Identity()  # timm's forward names four stages
    _divide_reductions(model, stages=4)
    return model


def _with_stem(scaling: Scaling, block: Any, layers: tuple[int, ...], *, kernel: int = 3, **kwargs: Any) -> nn.Module:
    """Return a ResNet of timm's whose stem is one convolution of stride 1, and nothing else."""
    (width,) = scaling.channels(32)
    model: Any = ResNet(block, layers, stem_type="deep", stem_width=width, **kwargs)  # only deep ones have a width
    first = model.conv1[0]
    model.conv1 = _initialised(first.in_channels, 2 * width, kernel, like=first.weight)
    model.maxpool = nn.Identity()
    return model


def _wide_resnet(scaling: Scaling, **kwargs: Any) -> nn.Module:
    """Return a wide ResNet (Zagoruyko and Komodakis, 2016): 28 layers, ten times as wide, norms first.

    Its three stages are at 32, 16 and 8 pixels.
    """
    stem, *channels = scaling.channels(16, 160, 320, 640)
    model: Any = ResNetV2(
        layers=list(scaling.blocks(4, 4, 4)),
        channels=tuple(channels),
        stem_chs=stem,
        basic=True,
        bottle_ratio=1.0,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
        **kwargs,
    )
    model.stem.conv, model.stem.pool = _same_size(model.stem.conv), nn.Identity()
    _divide_reductions(model, stages=4)
    return model


def _densenet(scaling: Scaling, **kwargs: Any) -> nn.Module:
    """Return a DenseNet-BC (Huang et al., 2017): four blocks at 32, 16, 8 and 4 pixels.

    The first block normalises the stem's output.
    """
    (growth,) = scaling.channels(32)
    model: Any = DenseNet(growth_rate=growth, block_config=scaling.blocks(6, 12, 24, 16), **kwargs)
    model.features.conv0 = _same_size(model.features.conv0)
    model.features.norm0, model.features.pool0 = nn.Identity(), nn.Identity()
    _divide_reductions(model, stages=4)
    return model


def _vgg(
    scaling: Scaling, *, num_classes: int = 10, global_pool: str = "avg", drop_rate: float = 0.0, **kwargs: Any
) -> nn.Module:
    """Return a VGG (Simonyan and Zisserman, 2015) with batch norms and a single linear layer behind the pooling."""
    mlp_ratio = 1 / 4096  # of layers that are replaced at once, and would take 400 MB
    stages = zip(scaling.channels(64, 128, 256, 512, 512), scaling.blocks(2, 2, 3, 3, 3), strict=True)
    layers = [each for width, count in stages for each in (*([width] * count), "M")]
    model: Any = VGG(layers, num_classes=num_classes, norm_layer=nn.BatchNorm2d, mlp_ratio=mlp_ratio, **kwargs)
    model.features[-1].ceil_mode = True  # images of 16 pixels have one pixel left there
    like = model.features[0].weight
    model.pre_logits = nn.Identity()
    model.head = ClassifierHead(
        model.num_features,
        num_classes,
        pool_type=global_pool,
        drop_rate=drop_rate,
        device=like.device,
        dtype=like.dtype,
    )
    model.drop_rate, model.head_hidden_size = drop_rate, model.head.num_features
    return model


def _mobilenet(scaling: Scaling, **kwargs: Any) -> nn.Module:
    """Return a MobileNetV2 (Sandler et al., 2018): seven groups of inverted residuals at 32, 16, 8 and 4 pixels."""
    groups = ((1, 1, 1, 16), (2, 1, 6, 24), (3, 2, 6, 32), (4, 2, 6, 64), (3, 1, 6, 96), (3, 2, 6, 160), (1, 1, 6, 320))
    blocks = [
        [f"ir_r{scaling.blocks(count)[0]}_k3_s{stride}_e{expansion}_c{scaling.channels(width)[0]}"]
        for count, stride, expansion, width in groups
    ]
    stem, last = scaling.channels(32, 1280)
    model: Any = EfficientNet(
        decode_arch_def(blocks),  # type: ignore[no-untyped-call]
        stem_size=stem,
        num_features=last,
        fix_stem=True,
        round_chs_fn=int,  # not to multiples of 8
        **kwargs,
    )
    model.conv_stem = _same_size(model.conv_stem)
    for group in model.blocks:
        first = group[0]
        if first.conv_dw.stride == (1, 1) and not first.has_skip:
            group[0] = Projected(first, _projection(first.conv_pw, first.conv_pwl))
    _divide_reductions(model, stages=2)
    return model


def _same_size(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a stem's convolution as a 3x3 one of stride 1, newly initialised."""
    return _initialised(conv.in_channels, conv.out_channels, 3, like=conv.weight)


def _projection(first: nn.Conv2d, last: nn.Conv2d) -> nn.Sequential:
    """Return a 1x1 convolution and norm from the input channels of `first` to the output channels of `last`."""
    like = last.weight
    conv = _initialised(first.in_channels, last.out_channels, 1, like=like)
    return nn.Sequential(conv, nn.BatchNorm2d(last.out_channels, device=like.device, dtype=like.dtype))


def _initialised(in_channels: int, out_channels: int, kernel: int, *, like: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(
        in_channels, out_channels, kernel, padding=kernel // 2, bias=False, device=like.device, dtype=like.dtype
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm does it in all of these
    return conv


def _divide_reductions(model: Any, *, stages: int) -> None:
    """Correct timm's record of the features' sizes: the stem no longer halves, and the stages begin at full size."""
    for feature in model.feature_info:
        feature["reduction"] //= min(feature["reduction"], stages)


def _denoise(model: Any, stages: Iterable[str], form: DenoiseForm) -> None:
    """Put a denoising block behind each stage, as Xie et al. (2019) do with ResNets."""
    like = next(model.parameters())
    paths = [_last(model, path) for path in stages]
    for number, (path, channels) in enumerate(_widths(model, paths).items()):
        parent_path, _, last = path.rpartition(".")
        parent, name = model.get_submodule(parent_path), f"denoise_{number}"
        children = dict(parent.named_children())
        for key in children:
            delattr(parent, key)
        for key, child in children.items():
            parent.add_module(key, child)
            if key == last:
                parent.add_module(name, Denoising(denoising(channels, form)).to(like.device, like.dtype))
        for feature in model.feature_info:
            if feature["module"] == path:
                feature["module"] = f"{parent_path}.{name}"
    if hasattr(model, "feature_ends"):  # positions of the features in `model.features`
        names = [name for name, _ in model.features.named_children()]
        model.feature_ends = [names.index(feature["module"].partition(".")[2]) for feature in model.feature_info]


def _last(model: nn.Module, path: str) -> str:
    """Return the path of a module, or, where that is a sequence, of the last one in it."""
    module = model.get_submodule(path)
    return f"{path}.{len(module) - 1}" if isinstance(module, nn.Sequential) else path


def _widths(model: nn.Module, paths: Iterable[str]) -> dict[str, int]:
    """Return the output channels of modules, by path."""
    widths: dict[str, int] = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda _module, _inputs, output, path=path: widths.__setitem__(path, output.shape[1])
        )
        for path in paths
    ]
    first, mode = next(model.parameters()), model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, first.shape[1], PIXELS, PIXELS, device=first.device, dtype=first.dtype))
    model.train(mode)
    for hook in hooks:
        hook.remove()
    return widths


def _before_pools(model: Any) -> list[str]:
    """Return the path of the layer before each pooling of a VGG."""
    return [f"features.{i - 1}" for i, layer in enumerate(model.features) if isinstance(layer, nn.MaxPool2d)]


_RESNET = "Deep Residual Learning for Image Recognition (arXiv:1512.03385)"
BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        "resnet18_cifar": Baseline(
            build=partial(_resnet, block=BasicBlock, layers=(2, 2, 2, 2)),
            first_conv="conv1",
            classifier="fc",
            features=5,
            stages=lambda _: (f"layer{i}" for i in (1, 2, 3, 4)),
            paper=_RESNET,
        ),
        "resnet50_cifar": Baseline(
            build=partial(_resnet, block=Bottleneck, layers=(3, 4, 6, 3)),
            first_conv="conv1",
            classifier="fc",
            features=5,
            stages=lambda _: (f"layer{i}" for i in (1, 2, 3, 4)),
            paper=_RESNET,
        ),
        "wide_resnet28_10_cifar": Baseline(
            build=_wide_resnet,
            first_conv="stem.conv",
            classifier="head.fc",
            features=4,
            stages=lambda _: (f"stages.{i}.blocks" for i in (0, 1, 2)),
            paper="Wide Residual Networks (arXiv:1605.07146)",
        ),
        "densenet121_cifar": Baseline(
            build=_densenet,
            first_conv="features.conv0",
            classifier="classifier",
            features=5,
            stages=lambda _: (f"features.denseblock{i}" for i in (1, 2, 3, 4)),
            paper="Densely Connected Convolutional Networks (arXiv:1608.06993)",
        ),
        "vgg16_cifar": Baseline(
            build=_vgg,
            first_conv="features.0",
            classifier="head.fc",
            features=6,
            stages=_before_pools,
            paper="Very Deep Convolutional Networks for Large-Scale Image Recognition (arXiv:1409.1556)",
        ),
        "mobilenetv2_cifar": Baseline(
            build=_mobilenet,
            first_conv="conv_stem",
            classifier="classifier",
            features=4,
            stages=lambda _: (f"blocks.{i}" for i in (1, 2, 4, 6)),
            paper="MobileNetV2: Inverted Residuals and Linear Bottlenecks (arXiv:1801.04381)",
        ),
        "resnext29_2x64d_cifar": Baseline(
            build=_resnext,
            first_conv="conv1",
            classifier="fc",
            features=4,
            stages=lambda _: (f"layer{i}" for i in (1, 2, 3)),
            paper="Aggregated Residual Transformations for Deep Neural Networks (arXiv:1611.05431)",
        ),
    }
)


def _build(
    baseline: Baseline, *, denoise: DenoiseForm | None = None, width: float = 1.0, depth: float = 1.0, **kwargs: Any
) -> nn.Module:
    check_arguments(**{key: kwargs[key] for key in ("num_classes", "in_chans", "drop_rate") if key in kwargs})
    if denoise is not None and denoise not in DENOISE_FORMS:
        raise ModelError(f"denoise: unknown form {shown(denoise)}{nearest(denoise, DENOISE_FORMS)}")
    model = baseline.build(Scaling(width, depth), **kwargs)
    if denoise is not None:
        _denoise(model, baseline.stages(model), denoise)
    return model


def _default_cfg(baseline: Baseline) -> dict[str, Any]:
    title, _, paper = baseline.paper.rpartition(" (")
    return {
        "num_classes": 10,
        "input_size": (3, PIXELS, PIXELS),
        "crop_pct": 1.0,
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "first_conv": baseline.first_conv,
        "classifier": baseline.classifier,
        "paper_name": title,
        "paper_ids": paper.removesuffix(")"),
    }


default_cfgs = generate_default_cfgs({name: _default_cfg(baseline) for name, baseline in BASELINES.items()})


def _entry_point(name: str, baseline: Baseline) -> Callable[..., nn.Module]:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        given = {key: kwargs.get(key) for key in ("pretrained_cfg", "pretrained_cfg_overlay")}
        cfg = resolve_cfg(name, **given)
        if pretrained and not (cfg.has_weights or cfg.state_dict):
            raise WeightsError(f"no weights of {name} are bundled: train it, and give its safetensors file as weights")
        features = {"feature_cls": "hook", "no_rewrite": True, "out_indices": tuple(range(baseline.features))}
        return build_model_with_cfg(_build, name, pretrained, baseline=baseline, feature_cfg=features, **kwargs)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"{baseline.paper}, for 32x32 images in [0, 1]."
    return entry


def _register() -> None:
    for name, baseline in BASELINES.items():
        if not is_model(name):  # importing twice is harmless
            register_model(_entry_point(name, baseline))


_register()
