"""The supernet: algorithm 1 of the paper line by line, its paths, and the statistics of its norms."""

from __future__ import annotations

import copy
import itertools
import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from robnet_zoo.errors import TrainingError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile, for_training, subnetwork
from robnet_zoo.search.config import Sandwich
from robnet_zoo.search.sampling import Sampling, draws
from robnet_zoo.search.supernet import PathDropout, calibrated, train_supernet
from robnet_zoo.training import Keeping, TrainingAttack
from robnet_zoo.training.adversary import attacked, loss_of
from robnet_zoo.training.augmentation import augmented
from robnet_zoo.training.updates import Updates, generator
from tests.interruption import interrupt_at
from tests.search.small_search import RECIPE, images, space
from tests.training.test_distributed import in_two_processes


def test_update_has_one_path_in_any_order_of_requests() -> None:
    paths, others = (PathDropout(space("cell_based"), Sampling(), seed=seed) for seed in (3, 4))
    forward = [paths.at(update).hash for update in range(50)]
    assert [paths.at(update).hash for update in reversed(range(50))] == forward[::-1]
    assert len(set(forward)) > 40
    assert [others.at(update).hash for update in range(50)] != forward


def test_cells_are_free_or_one() -> None:
    for kind, most in (("cell_based", 1), ("cell_free", 3)):
        paths = PathDropout(space(kind), Sampling(), seed=0)
        assert max(len(set(paths.at(update).cells.values())) for update in range(20)) == most


def algorithm_1(kind: str) -> dict[str, torch.Tensor]:
    """Run the paper's algorithm 1 without masks: each update compiles a new network that inherits by key.

    Steps of the attack are signs, which rounding can turn, so networks are called in the form that training calls.
    """
    split, recipe, paths = images().split()[0], RECIPE, PathDropout(space(kind), Sampling(), seed=RECIPE.seed)
    torch.manual_seed(recipe.seed)
    supernet = compile(space(kind).supernet())  # line 2: all elements of α are 1
    weights, theta = supernet.state_dict(), dict(supernet.named_parameters())
    groups = [
        {"params": [value for value in theta.values() if value.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [value for value in theta.values() if value.ndim == 1]},
    ]
    sgd = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=True)
    steps = len(split) // recipe.batch
    for update in range(recipe.epochs * steps):  # line 3
        epoch, step = divmod(update, steps)
        draw = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch + 1)
        batch = torch.randperm(len(split), generator=draw)[step * recipe.batch : (step + 1) * recipe.batch]
        clean, labels = augmented(  # line 4
            split, batch, recipe.augmentation, generator(recipe.seed, update, 0, "images")
        )
        network = compile(paths.at(update)).train()  # line 5
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        noise = generator(recipe.seed, update, 0, "attack")
        adversarial = attacked(copy.deepcopy(network), clean, labels, recipe.attack, noise)  # lines 7 to 13
        loss_of(for_training(network), clean, adversarial, labels, recipe.objective).backward()
        sgd.zero_grad()
        for key, value in network.named_parameters():
            theta[key].grad = value.grad
        for group in sgd.param_groups:
            group["lr"] = recipe.lr_at(epoch + step / steps, 8)
        sgd.step()  # line 14
        for key, value in network.named_buffers():
            weights[key].copy_(value)  # line 15: α is 1 again
    return weights


@pytest.mark.parametrize("kind", ["cell_based", "cell_free"])
def test_training_is_algorithm_1(kind, tmp_path) -> None:
    state = train_supernet(space(kind), images(), RECIPE, tmp_path, progress=False).state_dict()
    for key, value in algorithm_1(kind).items():
        assert torch.equal(state[key], value), key


def test_update_changes_its_path_alone(tmp_path, monkeypatch) -> None:
    real, paths, seen = Updates._step, PathDropout(space("cell_free"), Sampling(), seed=RECIPE.seed), 0

    def watched(self: Updates, *batch: torch.Tensor) -> float:
        nonlocal seen
        before = {key: value.clone() for key, value in self.state.network.state_dict().items()}
        inside = subnetwork(self.state.network, paths.at(self.state.updates)).state_dict()
        loss = real(self, *batch)
        for key, value in self.state.network.state_dict().items():
            if key not in inside:
                assert torch.equal(value, before[key]), key
                seen += 1
            elif key.endswith("weight"):
                assert not torch.equal(value, before[key]), key
        return loss

    monkeypatch.setattr(Updates, "_step", watched)
    train_supernet(space("cell_free"), images(), RECIPE, tmp_path, progress=False)
    assert seen > 100


@pytest.mark.parametrize("rule", [None, Sandwich(random=1)])
def test_interrupted_training_resumes_to_the_same_bits(rule, tmp_path, monkeypatch) -> None:
    given = {"sandwich": rule, "progress": False}
    undisturbed = train_supernet(space("cell_based"), images(), RECIPE, tmp_path / "a", **given)
    interrupt_at(monkeypatch, 7)
    with pytest.raises(KeyboardInterrupt):
        train_supernet(space("cell_based"), images(), RECIPE, tmp_path / "b", keeping=Keeping(seconds=0), **given)
    resumed = train_supernet(space("cell_based"), images(), RECIPE, tmp_path / "b", **given)
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


@pytest.mark.parametrize("distillation", [True, False])
def test_an_update_of_a_sandwich_descends_the_mean_loss_of_the_whole_random_paths_and_the_smallest(
    distillation, tmp_path
) -> None:
    """Each network is compiled for itself and inherits by key; their gradients are added up by hand."""
    rule, smoothing = Sandwich(random=2, distillation=distillation), 0.2
    objective = RECIPE.objective.model_copy(update={"label_smoothing": smoothing})
    recipe = RECIPE.model_copy(update={"epochs": 1, "batch": 162, "objective": objective})
    searched, (split, _) = space("cell_free"), images().split()
    trained = train_supernet(searched, images(), recipe, tmp_path, sandwich=rule, progress=False)

    torch.manual_seed(recipe.seed)
    supernet = compile(searched.supernet())
    weights, theta = supernet.state_dict(), dict(supernet.named_parameters())
    batch = torch.randperm(162, generator=torch.Generator().manual_seed(recipe.seed * 100_003 + 1))
    clean, labels = augmented(split, batch, recipe.augmentation, generator(recipe.seed, 0, 0, "images"))
    drawn = list(itertools.islice(draws(searched, Sampling(), seed=f"{recipe.seed} path 0"), 2))
    targets, total = labels, {key: torch.zeros_like(value) for key, value in theta.items()}
    for index, spec in enumerate([searched.supernet(), *drawn, searched.smallest()]):
        network = compile(spec).train()
        network.load_state_dict({key: weights[key] for key in network.state_dict()})
        noise = generator(recipe.seed, 0, 0, f"attack {index}")
        adversarial = attacked(network, clean, labels, recipe.attack, noise)
        answers = for_training(network)(adversarial)
        nn.functional.cross_entropy(answers, targets, label_smoothing=smoothing).backward()
        for key, value in network.named_parameters():
            total[key] += value.grad / 4
        for key, value in network.named_buffers():
            weights[key].copy_(value)
        if index == 0 and distillation:
            targets, smoothing = answers.detach().softmax(dim=1), 0.0  # of labels alone
    for key, value in theta.items():
        decay = recipe.weight_decay if value.ndim > 1 else 0
        step = (1 + recipe.momentum) * recipe.lr * (total[key] + decay * value)  # Nesterov's first step
        torch.testing.assert_close(trained.state_dict()[key], (value - step).detach(), rtol=1e-4, atol=1e-6)
    for key, value in supernet.named_buffers():
        torch.testing.assert_close(trained.state_dict()[key], value)


def test_the_smallest_architecture_is_a_chain_of_identities() -> None:
    assert space("cell_based").codes(space("cell_based").smallest()) == ("00 10 00 00 10",)
    assert len(space("cell_free").smallest().cells) == 3


def test_a_sandwich_tells_its_folder_from_others_and_its_absence_changes_nothing(tmp_path) -> None:
    plain = PathDropout(space("cell_based"), Sampling(), seed=0)
    rule = PathDropout(space("cell_based"), Sampling(), seed=0, sandwich=Sandwich())
    assert sorted(plain.identity) == ["sampling", "seed", "space"]
    assert rule.identity == plain.identity | {"sandwich": {"random": 2, "distillation": True}}
    late = PathDropout(space("cell_based"), Sampling(), seed=0, sandwich=Sandwich(whole_first=0.5))
    assert late.identity["sandwich"] == {"random": 2, "distillation": True, "whole_first": 0.5}
    assert plain.beside(3, 0.5) is None
    others = rule.beside(3, 0.0)
    assert others is not None
    assert others[0].hash == plain.at(3).hash
    assert len({spec.hash for spec in others}) == 3


def test_a_sandwich_may_begin_with_the_whole_network_alone(tmp_path, monkeypatch) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 4})
    beside, real = [], Updates._sandwich

    def watched(self: Updates, others: tuple[Genotype, ...], *given: object, **named: object) -> torch.Tensor:
        beside.append(len(others))
        return real(self, others, *given, **named)

    monkeypatch.setattr(Updates, "_sandwich", watched)
    rule = Sandwich(random=1, whole_first=0.5)
    train_supernet(space("cell_based"), images(), recipe, tmp_path, sandwich=rule, progress=False)
    assert beside == [0] * (len(beside) // 2) + [2] * (len(beside) // 2)
    assert len(beside) == 4 * (162 // 32)


def test_folder_of_other_paths_is_refused(tmp_path) -> None:
    train_supernet(space("cell_based"), images(), RECIPE, tmp_path, progress=False)
    with pytest.raises(
        TrainingError, match="expected the folder of this run, got that of a run with another choice of paths"
    ):
        train_supernet(
            space("cell_based"), images(), RECIPE, tmp_path, sampling=Sampling(budget="small"), progress=False
        )


def test_free_training_is_refused(tmp_path) -> None:
    free = RECIPE.model_copy(update={"attack": TrainingAttack(kind="free", steps=2)})
    with pytest.raises(TrainingError, match=r"attack\.kind: expected pgd or n_fgsm for sub-networks, got free"):
        train_supernet(space("cell_based"), images(), free, tmp_path, progress=False)


def train_as(rank: int, folder: Path, port: int, *, sandwich: Sandwich | None) -> None:
    """Run one of two processes, which records the paths that it draws."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    drawn, real = [], PathDropout._drawn
    PathDropout._drawn = lambda self, update: (drawn.append(spec) or spec for spec in real(self, update))
    network = train_supernet(space("cell_free"), images(), RECIPE, folder / "run", sandwich=sandwich, progress=False)
    norm = sum(value.double().square().sum() for value in network.parameters())
    (folder / f"{rank}.json").write_text(json.dumps([[spec.hash for spec in drawn], norm.item()]))


@pytest.mark.slow  # two processes import torch
@pytest.mark.parametrize(("sandwich", "paths"), [(None, 10), (Sandwich(), 20)])
def test_two_processes_draw_the_same_paths_and_end_with_the_same_weights(sandwich, paths, tmp_path) -> None:
    in_two_processes(partial(train_as, sandwich=sandwich), tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert len(first[0]) == paths


def test_calibrated_norms_hold_the_mean_statistics_of_the_batches() -> None:
    # The stem's norm sees the convolution of the images: its statistics can be computed by hand.
    network = compile(space("cell_based").supernet()).eval()
    batches = [torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    conv, norm = network.stem[0][0], network.stem[0][1]
    with torch.no_grad():
        seen = [conv(batch) for batch in batches]
    with calibrated(network, batches):
        assert not network.training
        torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0))


def test_supernet_is_as_it_was_after_a_calibration_even_one_that_fails() -> None:
    network = compile(space("cell_based").supernet()).train()
    network.cells[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    mask = subnetwork(network, PathDropout(space("cell_based"), Sampling(), seed=0).at(0))
    with pytest.raises(ZeroDivisionError), calibrated(mask, [torch.rand(4, 3, 8, 8)]):
        raise ZeroDivisionError
    for batches in ([], [torch.rand(4, 3, 8, 8)], [torch.rand(4, 5, 8, 8)]):
        try:
            with calibrated(mask, batches):
                pass
        except RuntimeError:
            assert batches[0].shape[1] == 5  # images that the network cannot take
    assert [module.training for module in network.modules()] == modes
    assert {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
