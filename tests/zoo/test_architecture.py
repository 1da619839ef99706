"""Architectures that can be trained and measured: documents, counts, other heads and other sizes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import resolve_data_config

from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.errors import DocumentError, TargetError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo.architecture import (
    Architecture,
    TimmArchitecture,
    build,
    config_of,
    costs,
    from_run,
    load_architecture,
)
from robnet_zoo.zoo.baselines import BASELINES


def convolutions(spec: Genotype) -> int:
    return spec.direct_convs + spec.skip_convs


def test_a_name_is_a_spec_a_document_or_a_model_of_timm(tmp_path: Path) -> None:
    assert load_architecture("robnet_free") == load_spec("robnet_free")
    published = load_architecture("resnet18_cifar")
    assert published == TimmArchitecture(model="resnet18_cifar", num_classes=10, input_size=(3, 32, 32))
    for architecture in (published, load_spec("robnet_micro")):
        assert load_architecture(str(architecture.save_into(tmp_path))) == architecture
    assert load_architecture("resnet50").signature == ((3, 224, 224), 1000)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet18_cifr", "resnet18_cifar"), ("robnet_micro.digit", "robnet_micro")]
)
def test_an_unknown_name_is_one_line_with_the_nearest_one(name: str, near: str) -> None:
    with pytest.raises(DocumentError, match=rf"^{name}: expected a spec or a model of timm, did you mean '{near}'"):
        load_architecture(name)


def test_the_folder_of_a_run_says_what_was_trained(tmp_path: Path) -> None:
    assert from_run(tmp_path) is None
    model = TimmArchitecture(model="resnet18_cifar", num_classes=7, input_size=(3, 16, 16), width=0.1)
    assert model.save_into(tmp_path).name == "model.json"
    assert from_run(tmp_path) == model


@pytest.mark.parametrize("name", ["robnet_free", "robnet_large", "robnet_micro"])
def test_two_ways_of_counting_agree(name: str) -> None:
    spec = load_spec(name)  # counted from the blueprint, and by torch from the operations of a forward
    with torch.device("meta"):
        network = compile(spec).eval()
    counter = torch.utils.flop_counter.FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.rand(1, *spec.network.input_size, device="meta"))
    assert costs(spec).multiply_adds == counter.get_total_flops() // 2
    assert costs(spec).parameters == sum(each.numel() for each in network.parameters())


def test_multiply_adds_of_a_resnet_are_those_counted_by_hand() -> None:
    total = 3 * 64 * 9 * 32 * 32
    channels, side = 64, 32
    for width in (64, 128, 256, 512):
        side = side if width == 64 else side // 2
        total += (channels * width * 9 + 3 * width * width * 9 + (channels != width) * channels * width) * side * side
        channels = width
    assert costs(load_architecture("resnet18_cifar")).multiply_adds == total + 512 * 10


@pytest.mark.parametrize("name", [*BASELINES, *spec_names()])
def test_every_architecture_takes_other_classes_and_another_size(name: str) -> None:
    published = load_architecture(name)
    size = (3, 64, 64)
    other = published.fitted(num_classes=200, input_size=size)
    assert other.signature == (size, 200)
    model = build(other, device="meta").eval()
    assert model(torch.rand(1, *size, device="meta")).shape == (1, 200)


@pytest.mark.parametrize("name", [*BASELINES, "robnet_free", "robnet_large", "robnet_search_free"])
def test_half_of_everything_costs_a_fraction_and_still_computes(name: str) -> None:
    published = load_architecture(name)
    small = published.scaled(width=0.5, depth=0.5, size=0.5)
    assert costs(small).multiply_adds < costs(published).multiply_adds / 8
    assert build(small, device="meta").eval()(torch.rand(2, 3, 16, 16, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", ["robnet_micro", "resnet18_cifar"])
@pytest.mark.parametrize(
    ("changes", "got"), [({"width": math.nan}, "nan"), ({"size": math.inf}, "inf"), ({"depth": -1.0}, "-1.0")]
)
def test_a_share_that_no_scale_has_is_refused(name: str, changes: dict[str, float], got: str) -> None:
    with pytest.raises(DocumentError, match=f"{next(iter(changes))}: expected a share above 0, got {got}"):
        load_architecture(name).scaled(**changes)


def test_a_shallower_spec_keeps_first_and_last_and_as_many_reductions() -> None:
    spec = load_spec("robnet_free")
    small = spec.scaled(depth=0.3)
    assert isinstance(small, Genotype)
    assert small.network.depth == 6
    assert small.network.reductions == (2, 4)  # 6 and 13 of 20
    assert small.layout == tuple(spec.layout[at] for at in (0, 3, 6, 10, 13, 16))
    assert spec.scaled().hash == spec.hash


@pytest.mark.parametrize("depth", [0.15, 0.2, 0.3, 0.35, 0.5, 0.75])
def test_the_cells_that_reduce_still_do_and_denoising_is_behind_the_same_stages(depth: float) -> None:
    spec = load_spec("robnet_free")
    small, denoised_first = spec.scaled(depth=depth), spec.denoised("mean").scaled(depth=depth)
    assert isinstance(small, Genotype)
    assert [small.layout[at] for at in small.network.reductions] == [spec.layout[at] for at in spec.network.reductions]
    assert denoised_first.hash == small.denoised("mean").hash


def test_neighbouring_reductions_stay_apart() -> None:
    spec = load_spec("robnet_free")
    for reductions in ((0, 1), (1, 2), (18, 19)):
        changed = spec.model_copy(update={"network": spec.network.model_copy(update={"reductions": reductions})})
        small = changed.scaled(depth=0.1)
        assert isinstance(small, Genotype)
        assert small.network.depth == 3
        assert len(set(small.network.reductions)) == 2


def test_a_size_that_the_reductions_do_not_divide_is_refused() -> None:
    with pytest.raises(DocumentError, match="robnet_free: expected a size whose images are divisible by 4, got 18x18"):
        load_spec("robnet_free").scaled(size=0.55)


def test_denoising_is_behind_the_stages() -> None:
    spec = load_spec("robnet_large").denoised("dot_product")
    assert isinstance(spec, Genotype)
    assert spec.network.denoise is not None
    assert spec.network.denoise.after == (5, 12, 19)
    model = load_architecture("resnet18_cifar").denoised("mean")
    assert model.name == "resnet18_cifar_mean"
    blocks = 64**2 + 128**2 + 256**2 + 512**2 + 2 * (64 + 128 + 256 + 512)
    assert costs(model).parameters - costs(load_architecture("resnet18_cifar")).parameters == blocks


def test_sizes_of_other_models_of_timm_are_refused() -> None:
    with pytest.raises(DocumentError, match="resnet50: expected width, depth and denoise of the comparison networks"):
        build(load_architecture("resnet50").scaled(width=0.5))


def test_images_that_are_too_small_are_one_line() -> None:
    with pytest.raises(DocumentError, match=r"inception_v3: cannot take images of 3x8x8"):
        costs(load_architecture("inception_v3").fitted(input_size=(3, 8, 8)))


@pytest.mark.parametrize("name", ["mobilenetv2_cifar", "robnet_micro"])
def test_the_harness_measures_what_a_run_has_left(name: str, tmp_path: Path) -> None:
    architecture: Architecture = load_architecture(name).fitted(num_classes=7)
    model = build(architecture).eval()
    architecture.save_into(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    target = load_target(str(tmp_path), device="cpu")
    images = torch.rand(2, *architecture.signature[0])
    with torch.no_grad():
        torch.testing.assert_close(target.judge(images), model(images))
    assert target.num_classes == 7


def test_a_folder_whose_document_is_of_another_model_is_refused(tmp_path: Path) -> None:
    TimmArchitecture(model="resnet18_cifar", num_classes=7, input_size=(3, 32, 32)).save_into(tmp_path)
    save_file(timm.create_model("mobilenetv2_cifar").state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(TargetError, match=r"expected weights of .*, got no conv1\.weight"):
        load_target(str(tmp_path))
    document = json.loads((tmp_path / "model.json").read_text()) | {"model": "no_such_model"}
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(TargetError, match="no_such_model: timm cannot build it"):
        load_target(str(tmp_path))


@pytest.mark.parametrize(
    "architecture",
    [
        TimmArchitecture(
            model="resnet18_cifar", num_classes=3, input_size=(1, 8, 8), width=0.1, depth=0.5, denoise="mean"
        ),
        TimmArchitecture(model="resnet10t", num_classes=3, input_size=(3, 32, 32)),
    ],
)
def test_timm_loads_the_folder_of_a_run_of_its_model(architecture, tmp_path):
    model = build(architecture).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config_of(architecture)))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert set(resolve_data_config(model=again)["std"]) == {1.0}
    assert tuple(again.pretrained_cfg["input_size"]) == architecture.input_size
    images = torch.rand(2, *architecture.input_size)
    assert torch.equal(again(images), model(images))


def test_the_folder_of_a_run_is_its_architecture(tiny, tmp_path):
    tiny.save_into(tmp_path)
    assert load_architecture(str(tmp_path)) == load_architecture(f"local-dir:{tmp_path}") == tiny
