"""PGD by this package and by other libraries behind one interface, with what each pass through a model costs."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from robnet_zoo import attacks
from robnet_zoo.attacks import Classifier, Pgd
from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.protocol import Count
from robnet_zoo.benchmarks.result import DataIdentity, ModelIdentity
from robnet_zoo.core.documents import Document
from robnet_zoo.core.precision import Arithmetic
from robnet_zoo.core.units import Pixels, in_image_units

Array = np.ndarray[Any, Any]

OURS = "robnet_zoo"
SLOTS_ALONE, FORM_ALONE = f"{OURS}, slots alone", "torchattacks, form alone"  # the parts that our speed comes from


class Setup(Document):
    """Whatever decides an outcome or a time.

    chunk: images that the others get at once. others: how many images those but torchattacks attack, None for all;
    their cost an image is constant. slots: of ours (`robnet_zoo.attacks.continuous_batching`).
    dtype: of the arithmetic in which ours proposes (`robnet_zoo.core.precision`).
    processes: among which a method of ours shares out the images, beside the one that does not, if they are several.
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
    dtype: Arithmetic = "bfloat16"
    processes: Count = 1
    software: dict[str, str]
    device: str

    @property
    def eps_value(self) -> float:
        """Return eps in image units."""
        return in_image_units(self.eps)


@dataclass(frozen=True)
class Attacked:
    """The outcome of a method: images (N, C, H, W), and its ledger, in rows, of all images together.

    cpu_seconds: those that processes of its own had a processor.
    """

    images: Tensor
    forwards: int
    backwards: int
    judged: int = 0
    cpu_seconds: float = 0.0


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

        return _attacked(proposer, judge, setup, images, labels, on_outcome=on_outcome)

    return Method(name, attack, whole=True)


def _attacked(
    proposer: Classifier,
    judge: Classifier,
    setup: Setup,
    images: Tensor,
    labels: Tensor,
    **more: Any,
) -> Attacked:
    """Attack images by `attacks.run`, which gets `more` arguments, and add up their passes."""
    outcomes = attacks.run(
        setup.attack,
        proposer,
        images,
        labels,
        eps=setup.eps_value,
        seed=setup.seed,
        slots=setup.slots,
        judge=judge,
        **more,
    )
    return Attacked(
        images=torch.stack([outcome.image for outcome in outcomes]),
        forwards=sum(outcome.forwards for outcome in outcomes),
        backwards=sum(outcome.backwards for outcome in outcomes),
        judged=sum(outcome.judged for outcome in outcomes),
    )


_MODELS: list[tuple[nn.Module, nn.Module, Setup]] = []  # of a process of `in_processes`: proposer, judge, setup


def _begin(proposer: nn.Module, judge: nn.Module, setup: Setup, threads: int) -> None:
    torch.set_num_threads(threads)
    _MODELS[:] = [(proposer, judge, setup)]


def _look(images: Array, labels: Array) -> None:
    input_gradient(_MODELS[0][0], torch.from_numpy(images), torch.from_numpy(labels))


def _attack_part(images: Array, labels: Array, samples: range) -> tuple[Array, tuple[int, int, int, float]]:
    """Return adversarial images, the rows of the ledger, and the seconds that this process had a processor."""
    proposer, judge, setup = _MODELS[0]
    started = time.process_time()
    attacked = _attacked(proposer, judge, setup, torch.from_numpy(images), torch.from_numpy(labels), samples=samples)
    ledger = (attacked.forwards, attacked.backwards, attacked.judged, time.process_time() - started)
    return attacked.images.numpy(), ledger


@contextmanager
def in_processes(proposer: nn.Module, judge: nn.Module, setup: Setup, first: tuple[Tensor, Tensor]) -> Iterator[Method]:
    """Yield `ours` with images shared out among processes, and torch's threads too.

    The processes begin before the method is yielded and end with the context. Each reports its progress at its end.

    Args:
        proposer: the classifier that the attack looks at.
        judge: the classifier that decides on success.
        setup: the attack, its radius, its seed, the number of processes, and that of the slots of each.
        first: images (N, C, H, W) and labels (N,) for a first pass of every process, which takes longer.
    """
    count = setup.processes
    threads = max(1, torch.get_num_threads() // count)
    spawn = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        workers = [
            stack.enter_context(ProcessPoolExecutor(1, spawn, _begin, (proposer, judge, setup, threads)))
            for _ in range(count)
        ]

        def attack(images: Tensor, labels: Tensor, progress: Callable[[int], object]) -> Attacked:
            every = range(len(images))
            parts = {
                worker.submit(_attack_part, images[index::count].numpy(), labels[index::count].numpy(), part): part
                for index, worker in enumerate(workers)
                if (part := every[index::count])
            }
            adversarial, ledgers = torch.empty_like(images), []
            for future in as_completed(parts):
                array, ledger = future.result()
                adversarial[parts[future]] = torch.from_numpy(array)
                ledgers.append(ledger)
                progress(len(array) * setup.attack.steps)
            return Attacked(adversarial, *map(sum, zip(*ledgers, strict=True)))

        for ready in [worker.submit(_look, *(part.numpy() for part in first)) for worker in workers]:
            ready.result()
        yield Method(f"{OURS}, in {count} processes", attack, whole=True)


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
