"""Our attacks beside those of foolbox, adv-lib, torchattack and AutoAttack's authors, on the same images and models.

These libraries are the extra `peers`: pip install 'robnet-zoo[peers]'.
"""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robnet_zoo.attacks import (
    Apgd,
    Bim,
    Bsr,
    CarliniWagner,
    Ddn,
    DeepFool,
    Fgsm,
    IterativeAttack,
    MiFgsm,
    NiFgsm,
    Outcome,
    Pgd,
    Square,
    SquareL2,
    Ssa,
    VmiFgsm,
    craft,
    run,
)
from robnet_zoo.attacks.ball import length, project
from robnet_zoo.attacks.losses import LOSSES
from robnet_zoo.attacks.random import Draws, Key, generators, normal, streams, uniform
from robnet_zoo.core.units import in_image_units
from tests.attacks.classifiers import small

EPS = 32 / 255


def peer(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        reason = f"{name} is not installed; it is part of the extra `peers`"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI must not skip it")
        pytest.skip(reason)


@pytest.fixture
def foolbox() -> ModuleType:
    return peer("foolbox")


@pytest.fixture
def autopgd() -> ModuleType:
    return peer("pyautoattack.autopgd_base")


def survivors(outcomes: list[Outcome]) -> Tensor:
    return torch.tensor([not outcome.fooled for outcome in outcomes])


def agreed(seeds: Sequence[Tensor]) -> Tensor:
    """Return on which images, (N,), all seeds of an attack come to the same."""
    return torch.stack([seed == seeds[0] for seed in seeds]).all(0)


def decided(
    attack: IterativeAttack, model: nn.Module, images: Tensor, labels: Tensor, *, eps: float
) -> tuple[Tensor, Tensor]:
    """Return which of 40 images survive an attack, and on which its seeds agree, so that it is not left to chance.

    What counts is where the attack ends, as in other libraries, not what it passes on its way.
    """
    seeds = [
        survivors(run(attack, model, images, labels, eps=eps, slots=40, seed=seed, early=False)) for seed in range(4)
    ]
    sure = agreed(seeds)
    assert int(sure.sum()) >= 30
    return seeds[0], sure


# AutoAttack: the same start gives the same steps


VARIANTS = {
    "ce": ("linf", "cross_entropy", False),
    "ce_l2": ("l2", "cross_entropy", False),
    "dlr": ("linf", "dlr", False),
    "dlr_l2": ("l2", "dlr", False),
    "dlr_targeted": ("linf", "dlr", True),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_apgd_takes_the_steps_of_its_authors_code(variant, autopgd):
    # Both begin at the same start, in float64; the last images agree after 60 steps and all their checkpoints.
    norm, loss, targeted = VARIANTS[variant]
    model = small(seed=2).double()
    images = torch.rand(8, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = model(images).argmax(1)
    steps, eps = 60, {"linf": 0.02, "l2": 0.2}[norm]
    if loss == "dlr":
        eps /= 8  # far behind the boundary it is 1 up to rounding, which then decides
    attack = Apgd(norm=norm, loss=loss, steps=steps, target_classes=int(targeted))
    ours = run(attack, model, images, labels, eps=eps, slots=8, early=False)

    draw = (uniform if norm == "linf" else normal)([Key(0, sample, 0) for sample in range(8)], images, "start")
    start = project(images + eps * draw / length(draw, norm)[:, None, None, None], images, eps, norm)
    options = {"n_iter": steps, "norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "device": "cpu"}
    if targeted:
        theirs = autopgd.APGDAttack_targeted(model, **options)
        theirs.y_target = model(images).argsort(1)[:, -2]
    else:
        theirs = autopgd.APGDAttack(model, loss={"cross_entropy": "ce"}.get(loss, loss), **options)
    theirs.init_hyperparam(images)
    count_rises = theirs.check_oscillation

    def counted_from_the_start(losses: Tensor, at: int, window: int, *rest: object, **options: float) -> Tensor:
        """Compare the first step with the start, as the paper does; theirs takes row -1, zero until the end."""
        if at - window == -1:
            target = torch.full_like(labels, -1) if theirs.y_target is None else theirs.y_target
            losses[-1] = LOSSES[loss](model(start), labels, target)
        return count_rises(losses, at, window, *rest, **options)

    theirs.check_oscillation = counted_from_the_start
    seen: list[Tensor] = []
    theirs.model = lambda x: (seen.append(x.detach().clone()), model(x))[1]
    theirs.attack_single_run(images, labels, x_init=start)
    assert len(seen) == steps + 1  # theirs looks at the start and after every step, as ours and its judge do
    agree = (torch.stack([outcome.image for outcome in ours]) - seen[-1]).flatten(1).abs().amax(1) < 1e-6
    assert int(agree.sum()) >= 7  # a comparison of two equal losses may fall either way


def test_apgd_ce_decides_as_its_authors_code_does(trained, autopgd):
    model, images, labels = (part if index == 0 else part[:24] for index, part in enumerate(trained))
    outcomes = run(Apgd(), model, images, labels, eps=EPS, slots=24)
    adversarial = autopgd.APGDAttack(model, n_iter=100, eps=EPS, loss="ce", seed=0).perturb(images, labels)
    robust = model(adversarial).argmax(1) == labels
    assert int((robust != survivors(outcomes)).sum()) <= 1
    assert 0 < int(robust.sum()) < 24


def test_targeted_apgd_decides_as_its_authors_code_does(trained, autopgd):
    model, images, labels = (part if index == 0 else part[:12] for index, part in enumerate(trained))
    outcomes = run(Apgd(loss="dlr", target_classes=9, steps=20), model, images, labels, eps=EPS, slots=12)
    theirs = autopgd.APGDAttack_targeted(model, n_iter=20, eps=EPS, seed=0, n_target_classes=9)
    robust = model(theirs.perturb(images, labels)).argmax(1) == labels
    assert int((robust != survivors(outcomes)).sum()) <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_decides_as_its_authors_code_does(norm, trained):
    square = peer("pyautoattack.square")

    class ToTheEdge(square.SquareAttack):
        """Covers the last row and the last column too, which theirs never does."""

        def random_int(self, low, high, shape=(1,)):
            return super().random_int(low, high + 1, shape)

    model, images, labels = trained
    attack, eps = {"linf": (Square(queries=1000), EPS), "l2": (SquareL2(queries=300), 0.5)}[norm]
    ours, sure = decided(attack, model, images, labels, eps=eps)
    options = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "n_queries": attack.queries, "eps": eps, "device": "cpu"}
    theirs = ToTheEdge(model, seed=0, resc_schedule=True, **options)
    robust = model(theirs.perturb(images, labels)).argmax(1) == labels
    assert int((robust != ours)[sure].sum()) <= 1
    assert 0 < int(robust.sum()) < 40


# foolbox and adv-lib


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 10])
def test_steps_from_the_image_itself_are_those_of_foolbox(norm, steps, foolbox):
    # In float64, FGSM and BIM give the same last images, even of images that are fooled on the way.
    model = small(seed=3).double()
    images = torch.rand(8, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1)
    eps, step = {"linf": (0.02, "1/255"), "l2": (0.2, "6/255")}[norm]
    family = {"linf": "Linf", "l2": "L2"}[norm]
    if steps == 1:
        ours, theirs = Fgsm(norm=norm), getattr(foolbox.attacks, f"{family}FastGradientAttack")(random_start=False)
    else:
        ours = Bim(norm=norm, steps=steps, step=step)
        theirs = getattr(foolbox.attacks, f"{family}BasicIterativeAttack")(
            abs_stepsize=in_image_units(step), steps=steps, random_start=False
        )
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    expected = theirs(wrapped, images, labels, epsilons=eps)[1]
    outcomes = run(ours, model, images, labels, eps=eps, slots=8, early=False)
    torch.testing.assert_close(torch.stack([outcome.image for outcome in outcomes]), expected, rtol=0, atol=1e-9)
    assert float(length(expected - images, norm).min()) > 0.9 * eps


def pgd_of(library: str, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return which images survive ten steps of another library's PGD."""
    if library == "foolbox":
        attack = peer("foolbox").attacks.LinfPGD(abs_stepsize=8 / 255, steps=10)
        wrapped = peer("foolbox").PyTorchModel(model, bounds=(0, 1), device="cpu")
        return ~attack(wrapped, images, labels, epsilons=EPS)[2]
    attacks = peer("adv_lib.attacks")  # 11 steps, as the last of theirs is not looked at
    adversarial = attacks.pgd_linf(model, images, labels, EPS, steps=11, absolute_step_size=8 / 255)
    return model(adversarial).argmax(1) == labels


@pytest.mark.parametrize("library", ["foolbox", "adv_lib"])
def test_pgd_leaves_the_images_that_another_librarys_leaves(library, trained):
    # Both begin at random, and an image near the border of its ball falls from one start and not from another.
    model, images, labels = trained
    theirs = []
    for seed in range(4):
        torch.manual_seed(seed)
        theirs.append(pgd_of(library, model, images, labels))
    ours, sure = decided(Pgd(steps=10, step="8/255"), model, images, labels, eps=EPS)
    sure &= agreed(theirs)
    assert int(sure.sum()) >= 28
    assert int((ours != theirs[0])[sure].sum()) <= 1
    assert 0 < int(ours[sure].sum()) < int(sure.sum())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_deepfool_finds_distances_like_foolboxs(norm, trained, foolbox):
    model, images, labels = (part if index == 0 else part[:12] for index, part in enumerate(trained))
    attack = {"linf": foolbox.attacks.LinfDeepFoolAttack, "l2": foolbox.attacks.L2DeepFoolAttack}[norm]
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    adversarial = attack(steps=50, candidates=10)(wrapped, images, labels, epsilons=None)[0]
    theirs = length(adversarial - images, norm)
    outcomes = run(
        DeepFool(norm=norm, steps=50, candidates=9, mode="minimal"), model, images, labels, eps=10.0, slots=10
    )
    ours = torch.tensor([outcome.distance for outcome in outcomes])
    assert all(outcome.fooled for outcome in outcomes)
    assert (ours / theirs).median() == pytest.approx(1, abs=0.05)
    assert bool((ours < 1.3 * theirs).all())


def test_carlini_wagner_finds_distances_like_foolboxs(trained, foolbox):
    model, images, labels = (part if index == 0 else part[:10] for index, part in enumerate(trained))
    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=6, steps=100, stepsize=0.01, initial_const=1.0, abort_early=False
    )
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    adversarial = attack(wrapped, images, labels, epsilons=None)[0]
    theirs = length(adversarial - images, "l2")
    attack = CarliniWagner(searches=6, steps=100, learning_rate=0.01, initial_c=1.0)
    outcomes = run(attack, model, images, labels, eps=10.0, slots=10)
    ours = torch.tensor([outcome.distance for outcome in outcomes])
    assert all(outcome.fooled for outcome in outcomes)
    assert (ours / theirs).median() == pytest.approx(1, abs=0.05)


def test_ddn_takes_the_steps_of_adv_lib():
    model = small(seed=4).double()
    images = torch.rand(8, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels = model(images).argmax(1)
    expected = peer("adv_lib.attacks").ddn(model, images, labels, steps=60, levels=None)
    outcomes = run(Ddn(steps=60), model, images, labels, eps=10.0, slots=8)
    assert all(outcome.fooled for outcome in outcomes)
    torch.testing.assert_close(torch.stack([outcome.image for outcome in outcomes]), expected, rtol=0, atol=1e-6)


def test_ddn_finds_images_as_near_as_adv_libs_attacks_do(trained):
    attacks = peer("adv_lib.attacks")
    model, images, labels = (part if index == 0 else part[:12] for index, part in enumerate(trained))
    outcomes = run(Ddn(), model, images, labels, eps=10.0, slots=12)
    ours = torch.tensor([outcome.distance for outcome in outcomes])
    for theirs in (attacks.ddn(model, images, labels, levels=None), attacks.fmn(model, images, labels, 2, steps=100)):
        assert (ours / length(theirs - images, "l2")).median() < 1.02


# torchattack: the same draws give the same steps


STEPS = {"eps": 1 / 16, "steps": 4, "alpha": 4 / 255, "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def puzzle() -> tuple[torch.nn.Module, Tensor, Tensor]:
    """Return a model, images (8, 3, 8, 8) and labels (8,), in float64."""
    model = small(seed=5).double().requires_grad_(False)
    images = torch.rand(8, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    return model, images, model(images).argmax(1)


def assert_crafts(expected: Tensor, attack: IterativeAttack, puzzle: tuple[torch.nn.Module, Tensor, Tensor]) -> None:
    """Assert that an attack makes these images of a puzzle's."""
    outcomes = craft(attack, *puzzle, eps=STEPS["eps"], slots=8)
    torch.testing.assert_close(torch.stack([outcome.image for outcome in outcomes]), expected, rtol=0, atol=1e-9)


def draws_of(purpose: str) -> Iterator[Draws]:
    """Yield the generators of each step on the eight images of a puzzle, which `craft` attacks by key 0."""
    for step in range(STEPS["steps"]):
        steps = torch.full((8,), step)
        yield [draw for draw, _ in generators(streams([Key(0, sample, 0) for sample in range(8)], purpose), steps)]


def test_mi_fgsm_takes_the_steps_of_torchattack(puzzle):
    model, images, labels = puzzle
    expected = peer("torchattack").MIFGSM(model, **STEPS)(images, labels)
    assert_crafts(expected, MiFgsm(steps=4, step="4/255"), puzzle)


@pytest.mark.parametrize("scales", [1, 3])
def test_ni_fgsm_takes_the_steps_of_torchattack(scales, puzzle):
    # Their NIFGSM and SINIFGSM forget the sum of gradients. Their VNIFGSM keeps it, and is NI-FGSM where the gradient
    # around the image is the one ahead of it, as `looked_ahead` has it.
    model, images, labels = puzzle
    asked: list[Tensor] = []

    def looked_ahead(x: Tensor) -> Tensor:
        """Answer to the point ahead, and then to any other as if it were that, for the copies one below the other."""
        ahead = x if len(asked) % 2 == 0 else asked[-1] + x - x.detach()
        asked.append(x.detach())
        return torch.cat([model(ahead / 2**number) for number in range(scales)])

    theirs = peer("torchattack").VNIFGSM(looked_ahead, n=1, **STEPS)
    assert_crafts(theirs(images, labels.repeat(scales)), NiFgsm(steps=4, step="4/255", scales=scales), puzzle)
    assert len(asked) == 8


def test_vmi_fgsm_takes_the_steps_of_torchattack(puzzle, monkeypatch):
    model, images, labels = puzzle
    attack = VmiFgsm(steps=4, step="4/255", neighbours=3)
    drawn = iter(
        [
            torch.stack([torch.from_numpy(draw.uniform(-1, 1, (3, 8, 8))) for draw in draws])
            for draws in draws_of("vmi_fgsm")
            for _ in range(attack.neighbours)
        ]
    )
    theirs = peer("torchattack").VMIFGSM(model, n=attack.neighbours, beta=attack.radius, **STEPS)
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda like, low, high: next(drawn) * high)
    assert_crafts(theirs(images, labels), attack, puzzle)
    assert next(drawn, None) is None


def test_ssa_takes_the_steps_of_torchattack(puzzle):
    # Theirs draws noise for images of 224 pixels alone, and has no momentum: what it adds to is empty at each step.
    model, images, labels = puzzle
    attack = Ssa(steps=4, step="4/255", spectra=3, decay=0.0)
    drawn = [draws for draws in draws_of("ssa") for _ in range(attack.spectra)]
    theirs = peer("torchattack").SSA(model, decay=0.0, num_spectrum=attack.spectra, **STEPS)
    numbers = []
    for step in range(0, len(drawn), attack.spectra):
        for draws in drawn[step : step + attack.spectra]:
            noise = torch.stack([torch.from_numpy(draw.standard_normal((3, 8, 8))) for draw in draws])
            factors = torch.stack([torch.from_numpy(draw.uniform(-1, 1, (3, 8, 8))) for draw in draws])
            numbers.append((noise, 1 + attack.rho * factors))
    queue = iter(numbers)

    def transform(x: Tensor) -> Tensor:
        noise, factors = next(queue)
        return theirs._idct_2d(theirs._dct_2d(x + STEPS["eps"] * noise) * factors)

    theirs.transform = transform
    assert_crafts(theirs(images, labels), attack, puzzle)
    assert next(queue, None) is None


def test_bsr_fools_as_many_images_as_torchattacks(trained):
    # Theirs shuffles all images of a batch alike, so that their number varies more, by 6.5 of 40 from seed to seed;
    # ours draws for each image by itself. The mean of three of theirs is within about two standard deviations.
    model, images, labels = trained
    options = {"num_scale": 4, "num_block": 2, "eps": 2 * EPS, "steps": 5, "alpha": 16 / 255}
    theirs = peer("torchattack").BSR(model, device=torch.device("cpu"), **options)
    left = []
    for seed in range(3):
        for seeded in (random.seed, np.random.seed, torch.manual_seed):
            seeded(seed)
        left.append(int((model(theirs(images, labels)).argmax(1) == labels).sum()))
    outcomes = run(Bsr(steps=5, step="16/255", shuffles=4), model, images, labels, eps=2 * EPS, slots=40)
    assert abs(int(survivors(outcomes).sum()) - sum(left) / 3) <= 8
    assert max(left) < 40
