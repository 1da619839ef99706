"""Attacks from the perturbations that images keep, against the algorithm of the paper written out."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo import data, training
from robnet_zoo.errors import TrainingError
from robnet_zoo.training import Augmentation, Objective, Stage, TrainingAttack, updates
from robnet_zoo.training.adversary import loss_of
from robnet_zoo.training.augmentation import Moves
from robnet_zoo.training.distributed import World
from robnet_zoo.training.prior import LEVELS, UNKNOWN, Guided, prepare
from robnet_zoo.training.state import initial_state
from robnet_zoo.training.updates import Updates
from tests.training.runs import changed

EPS = 8 / 255
ATTACK = TrainingAttack(kind="fgsm_pgi", steps=1, step="8/255", statistics="batch", dtype="float32")
STILL = Moves(torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.long), torch.zeros(4, dtype=torch.bool))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def state(tiny, recipe):
    return initial_state(tiny, changed(recipe, attack=ATTACK), World())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 12), nn.Tanh(), nn.Linear(12, 10))


@pytest.mark.parametrize("momentum", [0.0, 0.3])
@pytest.mark.parametrize("tie", [0.0, 10.0])
def test_three_epochs_are_those_of_the_algorithm_of_the_paper(state, model, momentum, tie):
    # Jia et al., 2022: delta starts where the gradients of all epochs lead, mu times the older; lambda ties the logits.
    attack, labels = ATTACK.model_copy(update={"momentum": momentum}), torch.arange(4)
    delta, memory = None, torch.zeros(4, 3, 6, 6)
    for epoch in range(3):
        x = torch.rand(4, 3, 6, 6, generator=seeded(epoch)).round(decimals=1)  # some at the edges of the box
        prepare(state, attack, count=4, shape=(3, 6, 6))
        guided = Guided(state.prior, x, torch.arange(4), STILL, attack, strength=1.0, generator=seeded(epoch))
        adversarial, start = guided.run(model, labels, keep_graph=tie > 0)
        loss_of(model, x, adversarial, labels, Objective(tie=tie), start).backward()
        ours = [parameter.grad.clone() for parameter in model.parameters()]
        guided.remember(World(), torch.arange(4))

        if delta is None:
            delta = EPS * (2 * torch.rand(4, 3, 6, 6, generator=seeded(epoch)) - 1).sign()
        delta.requires_grad_()
        before = model(x + delta)
        (gradient,) = torch.autograd.grad(F.cross_entropy(before, labels), delta, retain_graph=True)
        memory = gradient / gradient.abs().sum() + momentum * memory
        end = (delta + EPS * gradient.sign()).clamp(-EPS, EPS).detach()
        end = (x + end).clamp(0, 1)
        model.zero_grad()
        after = model(end)
        (F.cross_entropy(after, labels) + tie * (after - before).square().mean()).backward()
        delta = (delta + EPS * memory.sign()).clamp(-EPS, EPS).detach()
        delta = (x + delta).clamp(0, 1) - x
        torch.testing.assert_close(adversarial, end)
        torch.testing.assert_close(ours, [parameter.grad for parameter in model.parameters()])
        kept = state.prior["levels"] * (EPS / LEVELS)
        torch.testing.assert_close(kept, delta, rtol=0, atol=EPS / LEVELS / 2 + 1e-6)
        model.zero_grad()
        delta = kept.clone()  # rounded to a level


def test_a_perturbation_moves_with_its_image_and_back(state):
    raw, levels = torch.rand(4, 3, 6, 6, generator=seeded()), torch.arange(4 * 3 * 36).reshape(4, 3, 6, 6) % 255 - 127
    prepare(state, ATTACK, count=4, shape=(3, 6, 6))
    state.prior["levels"].copy_(levels)
    moves = Moves(torch.tensor([0, -2, 1, 0]), torch.tensor([0, 1, 0, 3]), torch.tensor([False, False, True, True]))
    x = moves.moved(raw)
    guided = Guided(state.prior, x, torch.arange(4), moves, ATTACK, strength=1.0, generator=seeded())
    inside = moves.moved(torch.ones_like(raw)) == 1
    delta = (guided.start - x) * LEVELS / EPS
    torch.testing.assert_close(delta[inside], moves.moved(levels)[inside].float(), rtol=0, atol=1e-3)
    torch.testing.assert_close(delta[~inside].abs(), torch.full_like(delta[~inside], LEVELS), rtol=0, atol=1e-3)
    guided.gradient = torch.zeros_like(x)
    guided.remember(World(), torch.arange(4))
    boxed = ((raw + levels * (EPS / LEVELS)).clamp(0, 1) - raw) * LEVELS / EPS  # in the box
    seen = moves.put_back(torch.ones_like(raw), torch.zeros_like(raw)) == 1
    torch.testing.assert_close(state.prior["levels"][seen].float(), boxed[seen], rtol=0, atol=0.51)
    assert torch.equal(state.prior["levels"][~seen].long(), levels[~seen])


def test_the_moves_of_a_perturbation_are_those_of_the_images_in_training(tiny, images, recipe, monkeypatch):
    recipe = changed(recipe, attack=ATTACK, augmentation=Augmentation(crop=4))
    work = Updates(initial_state(tiny, recipe, World()), images[:108], recipe, World())
    seen = []

    class Spy(Guided):
        def __init__(self, prior, pixels, indices, moves, attack, *, strength, generator):
            seen.append(torch.equal(pixels, moves.moved(images.batch(indices)[0])))
            super().__init__(prior, pixels, indices, moves, attack, strength=strength, generator=generator)

    monkeypatch.setattr(updates, "Guided", Spy)
    assert len(list(work.epoch())) == 3
    assert seen == [True] * 3
    unknown = (work.state.prior["levels"] == UNKNOWN).flatten(1).all(1)
    assert int(unknown.sum()) == 108 - 96  # what the epoch left over


def test_images_of_another_size_begin_anew(tiny, images, recipe):
    recipe = changed(recipe, attack=ATTACK.model_copy(update={"momentum": 0.3}), stages=(Stage(size=16, epochs=1),))
    work = Updates(initial_state(tiny, recipe, World()), images[:108], recipe, World())
    shapes = []
    for _ in range(2):
        list(work.epoch())
        shapes.append({name: (tuple(kept.shape), kept.dtype) for name, kept in work.state.prior.items()})
        work.state.next_epoch()
    assert shapes == [
        {"levels": ((108, 3, size, size), torch.int8), "gradients": ((108, 3, size, size), torch.float16)}
        for size in (16, 32)
    ]


@dataclass(frozen=True)
class First(World):
    """The first of two processes; the other one has the negative of whatever this one has."""

    def gathered(self, tensor: Tensor) -> Tensor:
        return torch.stack([tensor, -tensor])


def test_all_processes_keep_the_perturbations_of_the_whole_batch(state):
    prepare(state, ATTACK, count=10, shape=(3, 6, 6))
    batch, x = torch.tensor([3, 9, 1, 0, 7, 8, 2, 6]), torch.full((4, 3, 6, 6), 0.5)
    guided = Guided(state.prior, x, batch[:4], STILL, ATTACK, strength=1.0, generator=seeded())
    guided.gradient = torch.zeros_like(x)
    guided.remember(First(size=2), batch)
    levels = state.prior["levels"]
    assert torch.equal(levels[batch[:4]], -levels[batch[4:]])
    assert set(levels[batch].unique().tolist()) == {-LEVELS, LEVELS}
    assert set(levels[[4, 5]].unique().tolist()) == {UNKNOWN}


def test_picture_files_are_refused_before_anything_is_written(large, recipe, imagenet, tmp_path):
    pictures = data.load(f"imagenet-train:{imagenet}", train=True)
    with pytest.raises(TrainingError, match=r"attack.kind: expected images in memory for fgsm_pgi, .*got files"):
        training.train(large, pictures, changed(recipe, batch=6, attack=ATTACK), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
