"""A torch module becomes a target in float32 and eval mode and is itself left alone."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import TargetError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.zoo.registry import load_model
from robnet_zoo.zoo.weights import state_sha256
from tests.benchmarks.targets.models import DIGITS, MEAN, STD, Means


def test_hash_ignores_what_is_not_part_of_the_function():
    first, second = Means(), Means()
    second.norm.num_batches_tracked += 7
    assert state_sha256(first.state_dict()) == state_sha256(second.double().state_dict())
    second.norm.running_mean += 1
    assert state_sha256(first.state_dict()) != state_sha256(second.state_dict())


def test_judge_is_in_float32_and_proposer_in_the_dtype_asked_for(monkeypatch, digits, digits_logits):
    monkeypatch.setattr("robnet_zoo.core.precision._processor_has_bfloat16", lambda: True)
    target = load_target(DIGITS, dtype="bfloat16", device="cpu")
    assert {value.dtype for value in target.judge.parameters()} == {torch.float32}
    assert torch.bfloat16 in {value.dtype for value in target.proposer.parameters()}
    assert not any(value.requires_grad for value in [*target.judge.parameters(), *target.proposer.parameters()])
    exact = load_target(DIGITS, dtype="float32", device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(exact.proposer(digits[0]), digits_logits, rtol=1e-4, atol=1e-5)


def test_module_is_judged_in_eval_mode_and_left_as_it_was():
    model = Means().double()
    model.norm.running_mean += torch.tensor([0.1, 0.2, 0.3])
    model.norm.weight.requires_grad_(False)
    target = of_module(model, name="means")
    images = torch.rand(4, 3, 5, 5, requires_grad=True)
    expected = images.detach().mean((2, 3)) - torch.tensor([0.1, 0.2, 0.3])
    logits = target.judge(images)
    torch.testing.assert_close(logits.detach(), expected)
    logits.sum().backward()
    assert images.grad is not None
    assert (model.training, model.norm.training, model.norm.num_batches_tracked.item()) == (True, True, 0)
    assert (model.norm.weight.requires_grad, model.norm.bias.requires_grad) == (False, True)
    assert (model.norm.weight.dtype, model.norm.bias.grad) == (torch.float64, None)
    assert all(value.grad is None for value in target.judge.parameters())


def test_training_after_the_target_was_made_does_not_change_it():
    model = Means()
    target = of_module(model, name="means")
    with torch.no_grad():
        model.norm.bias += 1
    torch.testing.assert_close(target.judge(torch.zeros(1, 3, 2, 2)), torch.zeros(1, 3))


def test_module_that_cannot_be_copied_is_refused():
    model = nn.Conv2d(3, 2, 1)
    model.scaled = model.weight * 2  # not a leaf: deepcopy refuses it
    with pytest.raises(TargetError, match="m: expected a model that can be copied, got: "):
        of_module(model, name="m")


def test_number_of_classes_is_taken_as_given_or_as_the_module_says():
    model = Means()
    assert of_module(model, name="m").num_classes is None
    assert of_module(model, name="m", num_classes=3).num_classes == 3
    model.num_classes = 3
    assert of_module(model, name="m").num_classes == 3
    headless = timm.create_model("robnet_micro", num_classes=0)
    with pytest.raises(TargetError, match="m: expected a model that gives logits, got one without head"):
        of_module(headless, name="m")


def test_network_as_a_module_gets_its_fast_form():
    target = of_module(load_model(DIGITS), name="digits")
    assert type(target.proposer).__name__ == "InferenceNetwork"
    assert target.identity.spec_hash == load_spec("robnet_micro").hash


@pytest.fixture(scope="module")
def resnet_weights(tmp_path_factory):
    """Return a file of a small foreign network with a head for 5 classes, and the network."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=5).eval()
    path = tmp_path_factory.mktemp("resnet") / "resnet.safetensors"
    save_file(model.state_dict(), path)
    return path, model


def test_foreign_timm_model_normalises_as_its_configuration_says(resnet_weights):
    path, model = resnet_weights
    target = load_target("resnet10t", weights=path, device="cpu")
    images = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(model.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    assert mean.max() > 0.4
    with torch.no_grad():
        torch.testing.assert_close(target.judge(images), model((images - mean) / std))
    assert target.identity.mean == model.pretrained_cfg["mean"]
    assert (target.num_classes, target.input_size, target.identity.spec_hash) == (5, None, None)


def test_given_mean_and_std_replace_a_models_own(resnet_weights):
    path, model = resnet_weights
    target = load_target("resnet10t", weights=path, mean=(0, 0, 0), std=(1, 1, 1), device="cpu")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(target.judge(images), model(images))
    assert (target.identity.mean, target.identity.std) == ((0, 0, 0), (1, 1, 1))


def test_foreign_model_of_unknown_normalisation_is_refused_with_what_to_give(resnet_weights, tmp_path):
    _, model = resnet_weights
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"]["mean"] = None
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(TargetError, match=r"expected to know how its inputs are normalised, .*: give mean and std"):
        load_target(str(tmp_path), device="cpu")
    assert load_target(str(tmp_path), mean=MEAN, std=STD, device="cpu").identity.mean == MEAN
