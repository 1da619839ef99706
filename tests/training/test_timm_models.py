"""Models of timm train as compiled specs do: the same attacks, checkpoints and records."""

import copy
import json

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from robnet_zoo import training
from robnet_zoo.training import Guard, Keeping, Stage, TrainingAttack
from robnet_zoo.training.adversary import attacked
from robnet_zoo.zoo.architecture import TimmArchitecture
from tests.interruption import interrupt_at

SMALL = TimmArchitecture(model="resnet18_cifar", num_classes=10, input_size=(3, 32, 32), width=0.05, depth=0.5)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_the_inner_attack_leaves_the_model_as_it_was(statistics, mode):
    model = timm.create_model("resnet18_cifar", width=0.05).train(mode)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attack = TrainingAttack(steps=2, statistics=statistics)
    attacked(model, torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.long), attack, seeded())
    assert all(module.training == mode for module in model.modules())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_the_inner_attack_climbs_the_loss_of_the_model_in_eval_mode():
    torch.manual_seed(0)
    model = timm.create_model("resnet18_cifar", width=0.05).train()
    with torch.no_grad():
        model(torch.rand(64, 3, 32, 32, generator=seeded()))
    images, labels = torch.rand(8, 3, 32, 32, generator=seeded()), torch.arange(8)
    attack = TrainingAttack(kind="n_fgsm", steps=1, step="8/255", dtype="float32")
    adversarial = attacked(model, images, labels, attack, seeded())
    noisy = images + torch.empty_like(images).uniform_(-16 / 255, 16 / 255, generator=seeded())
    twin = copy.deepcopy(model).eval()
    (gradient,) = torch.autograd.grad(F.cross_entropy(twin(noisy.requires_grad_()), labels), noisy)
    expected = (noisy.detach() + 8 / 255 * gradient.sign()).clamp(0, 1)
    assert (adversarial - expected).abs().gt(1e-6).float().mean() < 0.001  # signs of gradients that round to nothing


def test_a_run_leaves_weights_document_and_card(images, recipe, tmp_path):
    model = training.train(SMALL, images, recipe, tmp_path, progress=False)
    assert TimmArchitecture.load(tmp_path / TimmArchitecture.file_name) == SMALL
    assert json.loads((tmp_path / "run.json").read_text())["spec"] == SMALL.hash
    for key, value in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(value, model.state_dict()[key])
    count = sum(parameter.numel() for parameter in model.parameters())
    card = (tmp_path / "README.md").read_text()
    assert f"`resnet18_cifar`, hash `{SMALL.hash[:12]}`, {count:,} parameters" in card
    assert "`model.json`" in card


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(images, recipe, tmp_path, monkeypatch):
    changes = {
        "ema": 0.9,
        "dtype": "bfloat16",
        "stages": (Stage(size=16, epochs=1),),
        "guard": Guard(updates=2, images=8, steps=2, share=0.9),
    }
    recipe = recipe.model_copy(update=changes)
    undisturbed = training.train(SMALL, images, recipe, tmp_path / "a", progress=False)
    interrupt_at(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        training.train(SMALL, images, recipe, tmp_path / "b", keeping=Keeping(seconds=0), progress=False)
    resumed = training.train(SMALL, images, recipe, tmp_path / "b", progress=False)
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize(
    "attack", [TrainingAttack(steps=0), TrainingAttack(steps=2, statistics="batch")], ids=["clean", "batch"]
)
def test_dropout_is_drawn_anew_for_each_update_and_again_when_resumed(images, recipe, tmp_path, attack):
    # GhostNet drops a fifth by default.
    dropping = TimmArchitecture(model="ghostnet_050", num_classes=10, input_size=(3, 32, 32))
    recipe = recipe.model_copy(update={"epochs": 1, "validation": 0, "attack": attack})
    torch.manual_seed(1)
    first = training.train(dropping, images, recipe, tmp_path / "a", progress=False)
    torch.manual_seed(2)
    second = training.train(dropping, images, recipe, tmp_path / "b", progress=False)
    assert any(isinstance(module, torch.nn.Dropout) or getattr(module, "drop_rate", 0) for module in first.modules())
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_another_model_in_the_folder_is_refused(images, recipe, tmp_path):
    training.train(SMALL, images, recipe, tmp_path, progress=False)
    other = SMALL.model_copy(update={"width": 0.1})
    with pytest.raises(
        training.TrainingError, match="expected the folder of this run, got that of a run with another architecture"
    ):
        training.train(other, images, recipe, tmp_path, progress=False)
