"""PGD by this package and by other libraries behind one interface, with what each pass through a model costs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from robnet_zoo import attacks
from robnet_zoo.attacks import Classifier, Pgd
from robnet_zoo.benchmarks.protocol import Count
from robnet_zoo.benchmarks.result import DataIdentity, ModelIdentity
from robnet_zoo.core.documents import Document
from robnet_zoo.core.units import Pixels, in_image_units

OURS = "robnet_zoo"
SLOTS_ALONE, FORM_ALONE = f"{OURS}, slots alone", "torchattacks, form alone"  # the parts that our speed comes from


class Setup(Document):
    """Whatever decides an outcome or a time.

    chunk: images that the others get at once. others: how many images those but torchattacks attack, None for all;
    their cost an image is constant. slots: of ours (`robnet_zoo.attacks.continuous_batching`).
    software: the libraries' versions too.
    """

    model: ModelIdentity
    data: DataIdentity
    attack: Pgd
    eps: Pixels = "8/255"
    seed: Annotated[int, Field(ge=0)] = 0
    chunk: Count
    others: Count | None = None
    slots: Count
    software: dict[str, str]
    device: str

    @property
    def eps_value(self) -> float:
        """Return eps in image units."""
        return in_image_units(self.eps)


@dataclass(frozen=True)
class Attacked:
    """The outcome of a method: images (N, C, H, W), and its ledger, in rows, of all images together."""

    images: Tensor
    forwards: int
    backwards: int
    judged: int = 0


@dataclass(frozen=True)
class Method:
    """A name and an attack: images (N, C, H, W) in [0, 1], labels (N,), and a function to which progress is reported.

    Progress is counted in gradients of an image, of which a full run takes as many as there are steps.

    whole: whether it wants all images at once.
    """

    name: str
    attack: Callable[[Tensor, Tensor, Callable[[int], object]], Attacked]
    whole: bool = False


class Counted(nn.Module):
    """A model that counts the rows of its forward and backward passes."""

    def __init__(self, model: nn.Module, on_backward: Callable[[int], object] = lambda rows: None) -> None:
        super().__init__()
        self.model, self.on_backward = model, on_backward
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits: Tensor = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)
        self.on_backward(len(gradient))


Library = Callable[[nn.Module, Tensor, Tensor, Setup], Tensor]  # model, images, labels, setup -> adversarial images


def torchattacks_pgd(model: nn.Module, images: Tensor, labels: Tensor, setup: Setup) -> Tensor:
    """Attack with `torchattacks.PGD`, and return the adversarial images, (N, C, H, W).

    Args:
        model: in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        setup: the radius, the step and the number of steps.
    """
    library = importlib.import_module("torchattacks")
    step = in_image_units(setup.attack.step)
    attack = library.PGD(model, eps=setup.eps_value, alpha=step, steps=setup.attack.steps, random_start=True)
    adversarial: Tensor = attack(images, labels)
    return adversarial


def foolbox_pgd(model: nn.Module, images: Tensor, labels: Tensor, setup: Setup) -> Tensor:
    """Attack with `foolbox.attacks.LinfPGD`, called as in its documentation, and return the images, (N, C, H, W).

    Args:
        model: in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        setup: the radius, the step and the number of steps.
    """
    library = importlib.import_module("foolbox")
    step = in_image_units(setup.attack.step)
    attack = library.attacks.LinfPGD(abs_stepsize=step, steps=setup.attack.steps, random_start=True)
    wrapped = library.PyTorchModel(model, bounds=(0, 1), device=images.device)
    adversarial: Tensor
    _, adversarial, _ = attack(wrapped, images, labels, epsilons=setup.eps_value)
    return adversarial


def adv_lib_pgd(model: nn.Module, images: Tensor, labels: Tensor, setup: Setup) -> Tensor:
    """Attack with `adv_lib.attacks.pgd_linf`, and return the adversarial images, (N, C, H, W).

    Args:
        model: in eval mode.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        setup: the radius, the step and the number of steps.
    """
    library = importlib.import_module("adv_lib.attacks")
    adversarial: Tensor = library.pgd_linf(
        model,
        images,
        labels,
        setup.eps_value,
        steps=setup.attack.steps,
        random_init=True,
        absolute_step_size=in_image_units(setup.attack.step),
    )
    return adversarial


OTHERS: tuple[tuple[str, str, Library], ...] = (  # distribution, module, attack
    ("torchattacks", "torchattacks", torchattacks_pgd),
    ("foolbox", "foolbox", foolbox_pgd),
    ("adv-lib", "adv_lib.attacks", adv_lib_pgd),
)


def installed() -> dict[str, Library]:
    """Return the other libraries that can be imported, by name, and name those that cannot on stderr."""
    libraries: dict[str, Library] = {}
    for name, module, attack in OTHERS:
        try:
            importlib.import_module(module)
        except ImportError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            libraries[name] = attack
    return libraries


def ours(proposer: Classifier, judge: Classifier, setup: Setup, *, name: str = OURS) -> Method:
    """Return `robnet_zoo.attacks.run` as a method, which counts its own passes.

    Slots that wait at the end cost time alone: their rows are not counted.

    Args:
        proposer: the classifier that the attack looks at.
        judge: the classifier that decides on success.
        setup: the attack, its radius, its seed and the number of slots.
        name: of the method.
    """

    def attack(images: Tensor, labels: Tensor, progress: Callable[[int], object]) -> Attacked:
        def on_outcome(outcome: attacks.Outcome) -> None:
            progress(setup.attack.steps)  # also those that it saved

        outcomes = attacks.run(
            setup.attack,
            proposer,
            images,
            labels,
            eps=setup.eps_value,
            seed=setup.seed,
            slots=setup.slots,
            judge=judge,
            on_outcome=on_outcome,
        )
        return Attacked(
            images=torch.stack([outcome.image for outcome in outcomes]),
            forwards=sum(outcome.forwards for outcome in outcomes),
            backwards=sum(outcome.backwards for outcome in outcomes),
            judged=sum(outcome.judged for outcome in outcomes),
        )

    return Method(name, attack, whole=True)


def other(name: str, library: Library, model: nn.Module, setup: Setup) -> Method:
    """Return another library as a method, whose passes are counted from outside.

    Args:
        name: of the library.
        library: its attack.
        model: in eval mode.
        setup: the radius, the step and the number of steps.
    """

    def attack(images: Tensor, labels: Tensor, progress: Callable[[int], object]) -> Attacked:
        counted = Counted(model, progress).eval()
        adversarial = library(counted, images, labels, setup).detach()
        return Attacked(adversarial, counted.forwards, counted.backwards)

    return Method(name, attack)
