"""The models in timm: all that works for timm's own models works for ours."""

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import resolve_data_config
from timm.models import get_pretrained_cfg, save_for_hf
from torch import nn

from robnet_zoo import Genotype
from robnet_zoo.errors import DocumentError, WeightsError
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.nn.compiler import compile
from robnet_zoo.zoo import registry as zoo
from robnet_zoo.zoo import weights
from robnet_zoo.zoo.registry import class_names, load_model

SPECS = spec_names()
BUNDLED = [f"{entry.model}.{entry.tag}" for entry in weights.manifest().entries]
WITHOUT_WEIGHTS = [name for name in SPECS if not any(tagged.startswith(f"{name}.") for tagged in BUNDLED)]


@pytest.fixture
def custom(tiny: Genotype) -> dict[str, Any]:
    """Return a spec as a mapping, of other sizes than the generic model's default."""
    data = tiny.model_dump(mode="json")
    return data | {"network": data["network"] | {"num_classes": 4, "input_size": [1, 16, 20]}}


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# Registration


def test_every_spec_has_an_entry_point_of_its_name() -> None:
    assert set(timm.list_models("robnet*")) == {"robnet", *SPECS, *zoo.aliases()}


def test_registering_twice_is_harmless() -> None:
    before = timm.list_models("robnet*")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        importlib.reload(zoo)
    assert timm.list_models("robnet*") == before


@pytest.mark.parametrize("name", SPECS)
def test_configuration_is_the_specs(name: str) -> None:
    network, cfg = load_spec(name).network, get_pretrained_cfg(name)
    assert cfg.input_size == network.input_size
    assert cfg.num_classes == network.num_classes


@pytest.mark.parametrize("name", ["robnet", "robnet_micro", "robnet_large_imagenet"])
def test_images_are_not_normalised(name: str) -> None:
    config = resolve_data_config(model=timm.create_model(name, device="meta"))
    assert config["mean"] == (0, 0, 0)
    assert config["std"] == (1, 1, 1)
    assert config["crop_pct"] == 1


# Weights


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_weights_that_are_not_bundled_are_one_line_that_says_how_to_get_some(name: str) -> None:
    with pytest.raises(WeightsError) as error:
        timm.create_model(name, pretrained=True)
    assert str(error.value).startswith(f"no weights of {name} are bundled: ")
    assert f"robnet-zoo convert original FILE --spec {name}" in str(error.value)
    assert "\n" not in str(error.value)


def test_generic_model_has_no_weights() -> None:
    with pytest.raises(WeightsError, match="no weights of robnet are bundled"):
        timm.create_model("robnet", spec="robnet_micro", pretrained=True)


def test_only_bundled_weights_are_listed() -> None:
    assert set(timm.list_models("robnet*", pretrained=True)) == {*BUNDLED, *zoo.aliases()}


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_load_by_name_and_tag(name: str) -> None:
    entry = next(entry for entry in weights.manifest().entries if f"{entry.model}.{entry.tag}" == name)
    model = timm.create_model(name, pretrained=True)
    assert same_weights(model, load_model(entry.model, weights=weights.FOLDER / entry.file))


def test_robnet_free_is_trained_without_a_tag() -> None:
    model = timm.create_model("robnet_free", pretrained=True)
    assert same_weights(model, timm.create_model("robnet_free.cifar10", pretrained=True))


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_weights_fit_other_heads_and_gray_images(name: str) -> None:
    model = timm.create_model(name, pretrained=True, num_classes=3, in_chans=1).eval()
    whole = timm.create_model(name, pretrained=True).eval()
    gray = torch.rand(2, 1, *whole.pretrained_cfg["input_size"][1:])
    assert model(gray).shape == (2, 3)
    features = whole.forward_features(gray.expand(-1, whole.in_chans, -1, -1))
    torch.testing.assert_close(model.forward_features(gray), features, rtol=1e-4, atol=1e-4)


def test_unknown_tag_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        timm.create_model("robnet_free.no_such_tag", pretrained=True)


# timm's keywords


def test_classes_and_channels_are_taken() -> None:
    model = timm.create_model("robnet_micro", num_classes=7, in_chans=1)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", SPECS)
def test_features_are_the_last_of_every_size(name: str) -> None:
    model = timm.create_model(name, features_only=True).eval()
    size = (3, 64, 64) if load_spec(name).network.stem == "imagenet" else (3, 8, 8)
    with torch.no_grad():
        features = model(torch.rand(1, *size))
    assert [feature.shape[1] for feature in features] == model.feature_info.channels()
    assert [size[1] // feature.shape[2] for feature in features] == model.feature_info.reduction()
    assert len({feature.shape[2] for feature in features}) == len(features)


def test_chosen_features_are_those_of_the_cells() -> None:
    model = timm.create_model("robnet_large", features_only=True, out_indices=(0, 2)).eval()
    seen: list[torch.Tensor] = []
    for depth in (5, 19):  # the last at each size; reductions are at 6 and 13
        model.body.cells[depth].register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        features = model(torch.rand(1, 3, 16, 16))
    assert all(torch.equal(feature, output) for feature, output in zip(features, seen, strict=True))


def test_no_pooling_gives_features() -> None:
    model = timm.create_model("robnet_micro", num_classes=0, global_pool="")
    assert model(torch.rand(1, 3, 32, 32)).shape == (1, model.num_features, 4, 4)


def test_device_and_dtype_are_taken() -> None:
    model = timm.create_model("robnet_micro", device="meta", dtype=torch.bfloat16)
    assert {(tensor.device.type, tensor.dtype) for tensor in model.parameters()} == {("meta", torch.bfloat16)}


def test_drop_rate_is_taken() -> None:
    assert timm.create_model("robnet_micro", drop_rate=0.3).drop_rate == 0.3


@pytest.mark.parametrize("name", ["robnet", "robnet_free"])
def test_unknown_keyword_is_an_error(name: str) -> None:
    with pytest.raises(TypeError, match="no_such_keyword"):
        timm.create_model(name, no_such_keyword=1)


@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pth"])
def test_checkpoint_path_loads_weights(file: str, tmp_path: Path) -> None:
    model = timm.create_model("robnet_micro")
    (save_file if file.endswith(".safetensors") else torch.save)(model.state_dict(), tmp_path / file)
    assert same_weights(timm.create_model("robnet_micro", checkpoint_path=str(tmp_path / file)), model)


# The generic model


def test_generic_model_takes_name_path_mapping_or_genotype(custom: dict[str, Any], tmp_path: Path) -> None:
    Genotype.parse(custom).save(tmp_path / "custom.json")
    for spec in (custom, tmp_path / "custom.json", str(tmp_path / "custom.json"), Genotype.parse(custom)):
        assert timm.create_model("robnet", spec=spec, device="meta").spec.hash == Genotype.parse(custom).hash
    assert timm.create_model("robnet", spec="robnet_large", device="meta").spec.name == "robnet_large"


def test_generic_model_without_a_spec_is_robnet_free() -> None:
    assert timm.create_model("robnet", device="meta").spec.name == "robnet_free"


def test_generic_model_has_its_specs_own_configuration(custom: dict[str, Any]) -> None:
    model = timm.create_model("robnet", spec=custom)
    assert model(torch.rand(2, 1, 16, 20)).shape == (2, 4)
    cfg = model.pretrained_cfg
    assert (cfg["num_classes"], cfg["input_size"], cfg["pool_size"]) == (4, (1, 16, 20), (4, 5))
    assert (cfg["architecture"], cfg["mean"], cfg["std"]) == ("robnet", (0,), (1,))


def test_generic_model_completes_a_given_configuration(custom: dict[str, Any]) -> None:
    model = timm.create_model("robnet", spec=custom, pretrained_cfg={"num_classes": 6})
    assert (model.num_classes, model.in_chans) == (6, 1)
    assert model.pretrained_cfg["std"] == (1,)


def test_misspelt_spec_is_an_error_that_suggests_the_nearest() -> None:
    with pytest.raises(DocumentError, match="did you mean 'robnet_large'"):
        timm.create_model("robnet", spec="robnet_larg")


@pytest.mark.parametrize("saved_classes", [None, 7])
@pytest.mark.parametrize("loaded_classes", [None, 3])
def test_saved_folder_brings_back_genotype_weights_and_sizes(
    saved_classes: int | None, loaded_classes: int | None, custom: dict[str, Any], tmp_path: Path
) -> None:
    model = timm.create_model("robnet", spec=custom, num_classes=saved_classes).eval()
    save_for_hf(model, tmp_path, model_args={"spec": custom}, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=loaded_classes).eval()
    images = torch.rand(2, 1, 16, 20)
    assert again.spec.hash == model.spec.hash
    assert torch.equal(again.forward_features(images), model.forward_features(images))
    assert again(images).shape == (2, loaded_classes or saved_classes or 4)
    assert again.pretrained_cfg["std"] == [1]
    if loaded_classes is None:
        assert torch.equal(again(images), model(images))


# What users call models by


def test_load_model_takes_a_spec_and_a_weights_file(custom: dict[str, Any], tmp_path: Path) -> None:
    network = compile(Genotype.parse(custom))
    Genotype.parse(custom).save(tmp_path / "custom.json")
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    model = load_model(str(tmp_path / "custom.json"), weights=tmp_path / "w.safetensors")
    assert same_weights(model, network)
    assert not model.training


def test_load_model_takes_a_saved_folder(custom: dict[str, Any], tmp_path: Path) -> None:
    network = timm.create_model("robnet", spec=custom)
    save_for_hf(network, tmp_path, model_args={"spec": custom}, safe_serialization=True)
    assert same_weights(load_model(f"local-dir:{tmp_path}"), network)


@pytest.mark.parametrize("prefix", ["", "local-dir:"])
@pytest.mark.parametrize("configured", [False, True])
def test_load_model_takes_the_folder_of_a_training_run(
    tiny: Genotype, tmp_path: Path, prefix: str, configured: bool
) -> None:
    network = compile(tiny)
    tiny.save_into(tmp_path)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    if configured:  # as runs are since timm can load them
        (tmp_path / "config.json").write_text(json.dumps(zoo.timm_config(tiny)))
    assert same_weights(load_model(f"{prefix}{tmp_path}"), network)


def test_timm_loads_the_folder_of_a_training_run(custom: dict[str, Any], tmp_path: Path) -> None:
    spec = Genotype.parse(custom)
    network = compile(spec)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(zoo.timm_config(spec)))
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert same_weights(again, network)
    assert tuple(again.pretrained_cfg["input_size"]) == (1, 16, 20)
    assert timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=7).num_classes == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("robnet_fre", "robnet_fre: neither the name .*, did you mean 'robnet_free'"),
        ("nowhere/model", "nowhere/model: neither the name"),
        ("", "an empty name: neither the name"),
        ("resnet18_cifar", "resnet18_cifar: expected a model compiled from a spec, got one of timm's"),
        ("local-dir:nowhere", "nowhere/config.json: cannot be read"),
    ],
)
def test_a_name_that_cannot_be_of_a_spec_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises((WeightsError, DocumentError), match=message):
        load_model(name)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("classifier.bias"), "got no classifier.bias"),
        (lambda state: state.update(more=torch.ones(1)), "got also more"),
        (
            lambda state: state.update({"classifier.bias": torch.ones(3)}),
            r"got classifier.bias of \(3,\) instead of \(10,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_one_line_that_names_file_and_key(
    change: Any, problem: str, tmp_path: Path
) -> None:
    state = compile(load_spec("robnet_micro")).state_dict()
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"w.safetensors: expected weights of robnet_micro, {problem}$"):
        load_model("robnet_micro", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"not safetensors"])
def test_weights_that_cannot_be_read_are_one_line_that_names_the_file(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(WeightsError, match=r"w.safetensors: expected a safetensors file, got: .+$"):
        load_model("robnet_micro", weights=file)
    with pytest.raises(WeightsError, match=f"^{tmp_path}: expected a safetensors file, got a folder$"):
        load_model("robnet_micro", weights=tmp_path)


def test_the_classes_of_bundled_weights_have_names():
    names = class_names(timm.create_model("robnet_micro.cifar10", pretrained=True))
    assert names == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert class_names(timm.create_model("robnet_micro.digits")) == tuple("0123456789")


def test_a_model_with_other_classes_or_without_weights_has_no_names():
    assert class_names(timm.create_model("robnet_micro.cifar10", num_classes=7)) == ()
    assert class_names(timm.create_model(WITHOUT_WEIGHTS[0])) == ()
