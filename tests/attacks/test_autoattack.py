"""Our AutoAttack is the library's: the same decisions, and nothing of it left behind."""

import logging
import random
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pyautoattack
import pytest
import torch
from torch import Tensor, nn

from robnet_zoo import data
from robnet_zoo.attacks import autoattack
from robnet_zoo.attacks.autoattack import AutoAttack, Component
from robnet_zoo.errors import AutoAttackError, DocumentError

SQUARE = AutoAttack(version="custom", attacks=("square",))
APGD = AutoAttack(version="custom", attacks=("apgd-ce",))


class Tiny(nn.Module):
    """Two layers with tanh between them, for 3x6x6 images of ten classes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner = nn.Parameter(0.3 * torch.randn(64, 108, generator=generator))
        self.outer = nn.Parameter(0.4 * torch.randn(10, 64, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh((images.flatten(1) - 0.5) @ self.inner.T) @ self.outer.T


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Tiny().eval()


@pytest.fixture(scope="module")
def batch(model: nn.Module) -> tuple[Tensor, Tensor]:
    """Return twenty random images, of which the model gets all but the first two right."""
    images = torch.rand(20, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = model(images).argmax(1)
    labels[:2] = (labels[:2] + 1) % 10
    return images, labels


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the library so few iterations and queries that each component leaves some images to the next."""

    class Short(pyautoattack.AutoAttack):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.apgd.n_iter, self.apgd_targeted.n_iter, self.fab.n_iter, self.square.n_queries = 1, 2, 3, 20

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)


def plain(model: nn.Module, images: Tensor, labels: Tensor, *, seed: int = 0, **options: Any) -> tuple[Tensor, Tensor]:
    """Return the images and the answers of a call of the library alone."""
    library = pyautoattack.AutoAttack(model, seed=seed, **options)
    return library.run_standard_evaluation(images, labels, batch_size=len(images))


# What runs


def test_parameters_are_those_of_the_papers_standard_version(model: nn.Module) -> None:
    library = AutoAttack().stock(model, eps=8 / 255, seed=0, device=torch.device("cpu"))
    assert tuple(library.attacks_to_run) == AutoAttack().components == ("apgd-ce", "apgd-t", "fab-t", "square")
    assert (library.apgd.n_iter, library.apgd.n_restarts, library.apgd.thr_decr) == (100, 1, 0.75)
    assert (library.apgd_targeted.n_iter, library.apgd_targeted.n_target_classes) == (100, 9)
    assert (library.fab.n_iter, library.fab.n_restarts, library.fab.n_target_classes) == (100, 1, 9)
    assert (library.square.n_queries, library.square.n_restarts, library.square.p_init) == (5000, 1, 0.8)
    assert {library.apgd.n_iter, library.apgd_targeted.n_iter, library.fab.n_iter} == {autoattack.STEPS}
    assert library.square.n_queries == autoattack.QUERIES
    assert {part.eps for part in (library.apgd, library.apgd_targeted, library.fab, library.square)} == {8 / 255}


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.015), ("l2", 0.12)])
@pytest.mark.parametrize("seed", [0, 3])
def test_decisions_and_images_are_those_of_one_plain_call(
    norm: Any, eps: float, seed: int, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, labels = batch
    expected, answers = plain(model, images, labels, seed=seed, eps=eps, norm={"linf": "Linf", "l2": "L2"}[norm])
    outcome = AutoAttack(norm=norm).run_batch(model, images, labels, eps=eps, seed=seed)
    assert outcome.fooled == tuple((answers != labels).tolist())
    assert torch.equal(outcome.images, expected)
    assert not any(outcome.unconfirmed)
    assert 2 < sum(outcome.fooled) < 20  # else there was nothing to compare


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("attack", "seen"),
    [
        (AutoAttack(), {"clean", "apgd-ce", "apgd-t", None}),
        (AutoAttack(version="custom", attacks=("square", "fab-t", "apgd-t")), {"clean", "square", "fab-t", None}),
    ],
)
def test_component_named_is_the_one_without_which_the_library_does_not_fool(
    attack: AutoAttack, seen: set[str | None], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    expected: list[str | None] = [None] * 20
    names = ("clean", *attack.components)
    for last in reversed(range(len(names))):
        library = pyautoattack.AutoAttack(model, seed=0, eps=0.015)
        library.attacks_to_run = list(attack.components[:last])
        _, answers = library.run_standard_evaluation(*batch, batch_size=20)
        for index in (answers != batch[1]).nonzero()[:, 0].tolist():
            expected[index] = names[last]
    outcome = attack.run_batch(model, *batch, eps=0.015)
    assert list(outcome.broken_by) == expected
    assert set(expected) == seen  # else there was nothing to tell apart


@pytest.mark.slow  # 900 iterations each of APGD and FAB and 5000 queries, twice
def test_full_length_run_of_a_trained_network_is_the_librarys() -> None:
    train, test = (part.batch(torch.arange(len(part))) for part in data.digits())
    train, test = ((nn.functional.avg_pool2d(images, 4)[:, :1], labels) for images, labels in (train, test))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(train[0]), train[1]).backward()
        optimizer.step()
    network.eval()
    images, labels = (part[:20] for part in test)
    outcome = AutoAttack().run_batch(network, images, labels, eps=20 / 255)
    expected, answers = plain(network, images, labels, eps=20 / 255, norm="Linf")
    assert outcome.fooled == tuple((answers != labels).tolist())
    assert torch.equal(outcome.images, expected)
    assert {None, "clean", "apgd-ce"} <= set(outcome.broken_by)
    whole = AutoAttack().cost(10).forwards
    assert whole < outcome.forwards / outcome.fooled.count(False) < 4 * whole  # those that withstand, to the end


def test_linear_model_is_fooled_exactly_where_the_closed_form_says() -> None:
    generator = torch.Generator().manual_seed(2)
    weight, eps = torch.randn(4, 48, generator=generator), 0.01
    images = 0.1 + 0.8 * torch.rand(50, 3, 4, 4, generator=generator)  # the box stays out of reach
    linear = Linear(weight).eval()
    logits = linear(images).detach()
    labels = logits.argmax(1)
    reach = eps * (weight[labels][:, None] - weight).abs().sum(2)  # of the ball, towards every class: (N, K)
    slack = logits.gather(1, labels[:, None]) - logits - reach
    slack[torch.arange(50), labels] = torch.inf
    outcome = APGD.run_batch(linear, images, labels, eps=eps)
    assert slack.abs().min() > 1e-4  # no case is left to rounding
    assert list(outcome.fooled) == (slack.amin(1) < 0).tolist()
    assert 0 < sum(outcome.fooled) < 50


@pytest.mark.usefixtures("short")
def test_one_image_is_a_batch(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = (part[7:8] for part in batch)
    outcome = AutoAttack().run_batch(model, images, labels, eps=0.5)
    assert outcome.fooled == (True,)
    assert 0 < outcome.distances[0] <= 0.5 + 1e-6
    assert outcome.margins[0] > 0


@pytest.mark.usefixtures("short")
def test_classifier_that_has_no_gradients_is_attacked_by_square_alone(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    def answers(images: Tensor) -> Tensor:
        return torch.from_numpy(model(images).detach().numpy())

    outcome = SQUARE.run_batch(answers, *batch, eps=0.1)
    assert "square" in outcome.broken_by
    assert outcome.backwards == 0
    with pytest.raises(AutoAttackError, match=r"expected a model with gradients, got one without; only .*square"):
        AutoAttack().run_batch(answers, *batch, eps=0.1)


def test_every_image_that_goes_through_the_model_is_counted(batch: tuple[Tensor, Tensor]) -> None:
    class Ledger(Tiny):
        seen = 0

        def forward(self, images: Tensor) -> Tensor:
            self.seen += len(images)
            return super().forward(images)

    ledger = Ledger().eval()
    outcome = APGD.run_batch(ledger, *batch, eps=0.01)
    assert outcome.forwards == ledger.seen
    assert outcome.backwards == 18 * 101  # the start and a hundred steps of what was right


@pytest.mark.parametrize("component", ["apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"])
def test_image_that_withstands_a_component_costs_what_the_attack_says(
    component: Component, model: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, queries = 7, 60

    class Short(pyautoattack.AutoAttack):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.apgd.n_iter = self.apgd_targeted.n_iter = self.fab.n_iter = steps
            self.square.n_queries = queries

    monkeypatch.setattr(pyautoattack, "AutoAttack", Short)
    monkeypatch.setattr(autoattack, "STEPS", steps)
    monkeypatch.setattr(autoattack, "QUERIES", queries)
    attack = AutoAttack(version="custom", attacks=(component,))
    outcome = attack.run_batch(model, *(part[7:8] for part in batch), eps=1e-6)
    assert outcome.broken_by == (None,)
    assert (outcome.forwards, outcome.backwards) == attack.cost(10)


def test_cost_is_that_of_all_components_and_no_batch_costs_more(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    parts = [AutoAttack(version="custom", attacks=(name,)).cost(10) for name in AutoAttack().components]
    looks = 3  # at each image, whatever the components
    assert AutoAttack().cost(10).forwards == sum(part.forwards for part in parts) - 3 * looks + 1
    assert AutoAttack().cost(10).backwards == sum(part.backwards for part in parts)
    attack = AutoAttack(version="custom", attacks=("apgd-ce", "fab"))
    outcome = attack.run_batch(model, *batch, eps=0.02)
    assert 2 < sum(outcome.fooled) < 20  # else nothing was saved, or everything
    assert outcome.forwards < 20 * attack.cost(10).forwards
    assert outcome.backwards < 20 * attack.cost(10).backwards


# What is left as it was


@pytest.mark.usefixtures("short")
def test_random_states_tracer_logger_and_parameters_are_left_as_they_were(batch: tuple[Tensor, Tensor]) -> None:
    network = Tiny().eval()
    network.outer.requires_grad_(False)
    logger = logging.getLogger("auto-attack")
    torch.manual_seed(5)

    def states() -> list[object]:
        state = [torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate()]
        settings = [
            logger.level,
            logger.propagate,
            logger.disabled,
            list(logger.handlers),
            logging.root.manager.disable,
        ]
        return [*state, *settings, [(p.requires_grad, p.grad) for p in network.parameters()]]

    def tracer(*event: object) -> None:
        return None

    before, usual = states(), sys.gettrace()
    sys.settrace(tracer)
    try:
        AutoAttack().run_batch(network, *batch, eps=0.02, seed=9)
        left = sys.gettrace()
    finally:
        sys.settrace(usual)
    assert left is tracer
    assert states() == before


@pytest.mark.usefixtures("short")
def test_parameters_get_their_gradients_back_after_an_error() -> None:
    network = Tiny().eval()
    with pytest.raises(RuntimeError):
        AutoAttack().run_batch(network, torch.rand(2, 3, 5, 5), torch.tensor([0, 1]), eps=0.02)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.usefixtures("short")
def test_what_was_drawn_before_changes_nothing(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    first = AutoAttack().run_batch(model, *batch, eps=0.02, seed=4)
    torch.rand(7)
    again = AutoAttack().run_batch(model, *batch, eps=0.02, seed=4)
    assert torch.equal(first.images, again.images)
    assert first.broken_by == again.broken_by


# Flags


class Softmax(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class Noisy(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0.1 * torch.randn(len(images), 10)


class Constant(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.round())


class Optimising(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            inner = images.detach().requires_grad_()
            torch.autograd.grad(super().forward(inner).sum(), inner)
        return super().forward(images)


class Warns(Tiny):
    def forward(self, images: Tensor) -> Tensor:
        warnings.warn("a word of the model's own", stacklevel=1)
        return super().forward(images)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("make", "flags"),
    [
        (Tiny, ()),
        (Softmax, ("softmax_outputs",)),
        (Noisy, ("randomised_outputs",)),
        (Constant, ("zero_gradients",)),
        (Optimising, ("dynamic_parameters",)),
        (Warns, ("a word of the model's own",)),
    ],
)
@pytest.mark.parametrize("silent", [False, True])
def test_flag_is_named(
    make: Callable[[], nn.Module], flags: tuple[str, ...], silent: bool, batch: tuple[Tensor, Tensor]
) -> None:
    logging.disable(logging.CRITICAL if silent else logging.NOTSET)
    try:
        assert AutoAttack().run_batch(make().eval(), *batch, eps=0.005).flags == flags
    finally:
        logging.disable(logging.NOTSET)


def test_three_classes_are_flagged_and_two_are_refused() -> None:
    attack = AutoAttack(version="custom", attacks=("apgd-dlr",))
    images, labels = torch.rand(4, 3, 4, 4), torch.tensor([0, 1, 1, 0])
    outcome = attack.run_batch(Linear(torch.randn(3, 48)).eval(), images, labels, eps=0.1)
    assert outcome.flags == ("few_classes",)
    with pytest.raises(ValueError, match="apgd-dlr needs 3 classes, got 2"):
        attack.run_batch(Linear(torch.randn(2, 48)).eval(), images, labels, eps=0.1)


def test_one_dynamic_model_does_not_flag_the_next(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    attack = AutoAttack(version="custom", attacks=("apgd-ce",))
    assert attack.run_batch(Optimising().eval(), *batch, eps=0.02).flags == ("dynamic_parameters",)
    assert attack.run_batch(model, *batch, eps=0.02).flags == ()


@pytest.mark.parametrize(("broken_by_square", "flags"), [(0, ()), (2, ()), (3, ("square_gains",))])
def test_square_gains_follow_from_all_images(broken_by_square: int, flags: tuple[str, ...]) -> None:
    broken_by = ["clean"] * 100 + ["fab-t"] * 300 + ["square"] * broken_by_square
    assert AutoAttack().flags([*broken_by, *[None] * (1000 - len(broken_by))], raised=()) == flags


def test_square_alone_gains_nothing_beyond_others() -> None:
    assert SQUARE.flags(["square", None], raised=("zero_gradients",)) == ("zero_gradients",)


def test_parts_are_the_accuracies_left_in_turn() -> None:
    parts = AutoAttack().parts(["clean", "apgd-ce", "apgd-ce", "square", None])
    assert parts == {"clean": 0.8, "apgd-ce": 0.4, "apgd-t": 0.4, "fab-t": 0.4, "square": 0.2}
    assert list(parts) == ["clean", *AutoAttack().components]


# Successes are judged again


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images,  # not misclassified
        lambda images: images + 0.3,  # outside the ball
        lambda images: images * torch.nan,
        lambda images: images.clamp(0.01, 0.99) * 3 - 1,  # outside ball and box
    ],
)
def test_success_that_is_none_is_counted_and_not_believed(
    change: Callable[[Tensor], Tensor],
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def claims_all(self: object, images: Tensor, labels: Tensor, **options: object) -> tuple[Tensor, Tensor]:
        return change(images), (labels + 1) % 10

    monkeypatch.setattr(pyautoattack.AutoAttack, "run_standard_evaluation", claims_all)
    images, labels = batch
    outcome = AutoAttack().run_batch(model, images, labels, eps=0.1)
    assert outcome.broken_by == ("clean", "clean", *[None] * 18)
    assert outcome.unconfirmed == (False, False, *[True] * 18)
    assert torch.equal(outcome.images, images)
    assert outcome.distances == (0.0,) * 20


# What is refused


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda model: model.train(), "expected a model in eval mode, got one in training mode"),
        (lambda model: model.bfloat16(), "expected a model in float32, got one in torch.bfloat16"),
        (lambda model: model.double(), "expected a model in float32, got one in torch.float64"),
        (
            lambda model: lambda images: model(images).bfloat16(),
            "expected logits in float32, got torch.bfloat16",
        ),
    ],
)
def test_model_that_is_not_what_is_needed_is_one_line(
    change: Callable[[nn.Module], Any], problem: str, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(AutoAttackError, match=f"^autoattack: {problem}$"):
        AutoAttack().run_batch(change(Tiny().eval()), *batch, eps=0.1)


def test_images_in_other_precision_or_range_are_refused(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    with pytest.raises(AutoAttackError, match=r"expected images in float32, got torch\.float64"):
        AutoAttack().run_batch(model, images.double(), labels, eps=0.1)
    with pytest.raises(ValueError, match=r"expected images in \[0, 1\], got values from"):
        AutoAttack().run_batch(model, images - 1, labels, eps=0.1)


def test_too_few_classes_are_refused_before_the_library_stops_halfway() -> None:
    linear = Linear(torch.randn(5, 48)).eval()
    problem = "apgd-t and fab-t aim at 9 wrong classes, expected 10 classes or more, got 5"
    with pytest.raises(ValueError, match=f"^autoattack: {problem}$"):
        AutoAttack().run_batch(linear, torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), eps=0.1)


def test_missing_package_is_one_line_that_says_how_to_get_it(
    model: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    problem = r"^autoattack: expected the package pyautoattack: pip install 'robnet-zoo\[autoattack\]'$"
    with pytest.raises(AutoAttackError, match=problem):
        AutoAttack().run_batch(model, *batch, eps=0.1)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"attacks": ["square"]}, "attacks: expected none with the version standard"),
        ({"version": "custom"}, "attacks: expected at least one of apgd-ce, "),
        ({"version": "custom", "attacks": ["square", "square"]}, "attacks: expected each once, got square again"),
        ({"version": "custom", "attacks": ["pgd"]}, r"attacks\[0\]: expected "),
        ({"version": "rand"}, "version: expected "),
        ({"restarts": 2}, 'unknown key "restarts"'),
    ],
)
def test_wrong_document_is_an_error_that_names_the_place(document: dict[str, Any], problem: str) -> None:
    with pytest.raises(DocumentError, match=problem):
        AutoAttack.parse(document)
