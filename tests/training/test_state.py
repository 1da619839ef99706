"""The state that a run begins with."""

import math

import pytest
import safetensors.torch
import torch

from robnet_zoo import training
from robnet_zoo.core.files import file_sha256
from robnet_zoo.errors import TrainingError, WeightsError
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile
from robnet_zoo.training.distributed import World
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.training.state import initial_state
from robnet_zoo.zoo.architecture import TimmArchitecture
from tests.training.runs import changed, last_state


def test_weight_decay_spares_biases_and_norms(tiny, recipe):
    affine = tiny.model_copy(update={"network": tiny.network.model_copy(update={"affine": True})})
    state = initial_state(affine, recipe, World())
    decays = {id(p): group["weight_decay"] for group in state.optimizer.param_groups for p in group["params"]}
    norms = {f"{name}.weight" for name, module in state.network.named_modules() if "BatchNorm" in type(module).__name__}
    assert norms
    for name, parameter in state.network.named_parameters():
        spared = name.endswith("bias") or name in norms
        assert decays[id(parameter)] == (0 if spared else recipe.weight_decay), name


def test_weights_of_other_cells_are_refused_even_if_their_names_and_shapes_are_the_same(tiny, images, recipe, tmp_path):
    safetensors.torch.save_file(compile(tiny).state_dict(), tmp_path / "model.safetensors")
    load_spec("robnet_micro").save(tmp_path / "spec.json")
    with pytest.raises(WeightsError, match=r"expected weights of tiny, got those of other cells \(robnet_micro\)"):
        training.train(tiny, images, recipe, tmp_path / "run", weights=tmp_path / "model.safetensors", progress=False)


def test_weights_that_need_not_be_of_the_architecture_give_what_it_has_too(tiny, recipe, tmp_path):
    given = {key: value + 1 for key, value in compile(tiny).state_dict().items()}
    lacking = next(key for key in given if key.startswith("cells."))
    del given[lacking]
    given |= {"classifier.bias": torch.zeros(3), "other": torch.zeros(1)}
    safetensors.torch.save_file(given, tmp_path / "model.safetensors")
    state = initial_state(tiny, recipe, World(), weights=tmp_path / "model.safetensors", strict=False)
    random = initial_state(tiny, recipe, World()).network.state_dict()
    for key, value in state.network.state_dict().items():
        expected = random if key in (lacking, "classifier.bias") else given
        assert torch.equal(value, expected[key]), key
    counters = {key: value for key, value in compile(tiny).state_dict().items() if key.endswith("tracked")}
    safetensors.torch.save_file({"other": torch.zeros(1), **counters}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="expected weights that tiny has too, got none"):
        initial_state(tiny, recipe, World(), weights=tmp_path / "model.safetensors", strict=False)


def test_a_run_that_begins_with_a_part_of_weights_says_so(tiny, images, recipe, tmp_path):
    file, output = tmp_path / "model.safetensors", tmp_path / "run"
    safetensors.torch.save_file(compile(tiny).state_dict(), file)
    training.train(tiny, images, recipe, output, weights=file, strict=False, progress=False)
    run = TrainingResult.load(output / "training.json")
    assert run.begun_with is not None
    assert not run.begun_with.strict
    assert "begun with what it shares with model.safetensors" in (output / "README.md").read_text()
    with pytest.raises(TrainingError, match="expected true for a run without weights, got false"):
        training.train(tiny, images, recipe, tmp_path / "random", strict=False, progress=False)
    with pytest.raises(TrainingError, match="a run with another use of the weights to begin with"):
        training.train(tiny, images, recipe, output, weights=file, progress=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("bnbadam", "expected one that runs here, got bnbadam: "), ("adahessian", "unknown optimizer 'adahessian'")],
)
def test_an_optimizer_that_cannot_run_is_refused_before_the_folder_is_claimed(
    tiny, images, recipe, tmp_path, name, expected
):
    with pytest.raises((TrainingError, ValueError), match=expected):
        training.train(tiny, images, changed(recipe, optimizer=name), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_stages_of_sizes_that_the_network_cannot_take_are_refused_before_the_folder_is_claimed(
    tiny, images, recipe, tmp_path
):
    staged = changed(recipe, stages=({"size": 2, "epochs": 1},))
    with pytest.raises(TrainingError, match=r"^stages: expected sizes that tiny can take, got 2: "):
        training.train(tiny, images, staged, tmp_path / "run", progress=False)
    fixed = TimmArchitecture(model="vit_tiny_patch16_224", num_classes=10, input_size=(3, 32, 32))
    with pytest.raises(TrainingError, match=r"^stages: expected sizes that vit_tiny_patch16_224 can take, got 16: "):
        training.train(
            fixed, images, changed(recipe, stages=({"size": 16, "epochs": 1},)), tmp_path / "run", progress=False
        )
    assert not (tmp_path / "run").exists()


def test_averaged_weights_are_what_a_run_with_averaging_gives(tiny, images, recipe, tmp_path):
    plain = training.train(tiny, images, recipe, tmp_path / "a", progress=False)
    averaged = training.train(tiny, images, changed(recipe, ema=0.9), tmp_path / "b", progress=False)
    assert not torch.equal(plain.classifier.weight, averaged.classifier.weight)
    state = last_state(tmp_path / "b")
    assert torch.equal(state["network"]["classifier.weight"], plain.classifier.weight)
    assert torch.equal(state["average"]["classifier.weight"], averaged.classifier.weight)


@pytest.mark.parametrize("decay", [0.3, 0.995])
def test_the_average_forgets_the_initial_weights_at_the_first_update(tiny, recipe, decay):
    # Its decay at update k is (k - 1) / (k + 9) until it reaches the recipe's, so the first one keeps nothing.
    state, n = initial_state(tiny, changed(recipe, ema=decay), World()), 12
    weight, seen = state.network.classifier.weight, torch.rand(n, 10, 1, dtype=torch.float64)
    with torch.no_grad():
        weight.fill_(1e6)
        state.average.module.classifier.weight.fill_(1e6)
        for update, value in enumerate(seen, 1):
            weight.copy_(value.expand_as(weight))
            state.average.update(state.network, step=update)
    decays = [min(decay, (k - 1) / (k + 9)) for k in range(1, n + 1)]
    shares = [(1 - decays[k]) * math.prod(decays[k + 1 :]) for k in range(n)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * value for share, value in zip(shares, seen, strict=True))
    averaged = state.average.module.classifier.weight.double()
    torch.testing.assert_close(averaged, expected.expand_as(averaged), rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_a_version_without_priors_is_read(tiny, recipe):
    state = initial_state(tiny, recipe, World())
    older = state.state_dict()
    del older["prior"]
    state.prior = {"levels": torch.zeros(1)}
    state.load_state_dict(older)
    assert state.prior == {}


def test_a_run_begins_with_the_weights_that_it_is_given_and_says_so(tiny, images, recipe, tmp_path):
    first = training.train(tiny, images, recipe, tmp_path / "first", progress=False)
    file, still = tmp_path / "first/model.safetensors", changed(recipe, lr=1e-12, weight_decay=0.0, select="last")
    second = training.train(tiny, images, still, tmp_path / "second", weights=file, progress=False)
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(dict(second.named_parameters())[name], parameter, rtol=1e-5, atol=1e-6)
    assert (
        f"begun with model.safetensors (sha256 `{file_sha256(file)[:12]}`)"
        in (tmp_path / "second/README.md").read_text()
    )
    with pytest.raises(TrainingError, match="a run with another weights to begin with; take"):
        training.train(tiny, images, still, tmp_path / "second", progress=False)
