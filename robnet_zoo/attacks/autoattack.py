"""AutoAttack (Croce and Hein, 2020) as its authors' library runs it: pyautoattack, unmodified, in float32.

The library draws all random numbers of a batch from torch's global generator, which each component seeds again with the
same seed. An image's numbers therefore depend on its position in the batch and on which other images are left, and a
batch is the smallest unit that can be repeated: the same images in the same order with the same seed have the same
outcome. numpy's and Python's own generators are not used.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from pydantic import model_validator

from robnet_zoo.attacks.arguments import check_images, class_numbers, radii
from robnet_zoo.attacks.attack import BatchAttack, Classifier, Cost
from robnet_zoo.attacks.ball import Norm, in_box, length, within
from robnet_zoo.attacks.losses import is_right, margin_of_answer
from robnet_zoo.attacks.outcome import BatchOutcome
from robnet_zoo.core import lazy
from robnet_zoo.core.documents import Tuple, problems_error
from robnet_zoo.errors import AttackError, AutoAttackError

if TYPE_CHECKING:
    import torch
    from torch import Tensor
else:
    torch = lazy.module("torch")

Component = Literal["apgd-ce", "apgd-t", "apgd-dlr", "fab-t", "fab", "square"]
STANDARD: tuple[Component, ...] = ("apgd-ce", "apgd-t", "fab-t", "square")
STEPS = 100  # of APGD and FAB
QUERIES = 5000  # of Square
TARGETS = 9  # classes that apgd-t and fab-t aim at, the likeliest wrong ones first
NORMS = MappingProxyType({"linf": "Linf", "l2": "L2"})  # the library's spelling
SQUARE_GAIN = 0.002  # of the accuracy: what Square may find beyond the others before the library calls that a flag

FLAGS = MappingProxyType(
    {
        "randomised_outputs": "randomized defense",
        "softmax_outputs": "probability distribution",
        "zero_gradients": "zero gradient",
        "dynamic_parameters": "dynamic defense",
        "few_classes": "classes it is not possible",
    }
)
"""Flags by name, with the words of the library's warning. `square_gains` follows from the outcomes of all batches."""


class AutoAttack(BatchAttack):
    """AutoAttack (Croce and Hein, 2020) by its authors' library: each part on the images that the ones before left.

    version: `standard` is the one of published figures: APGD-CE, APGD-T, FAB-T and Square with 100 iterations,
    9 target classes and 5000 queries; `custom` runs the components that `attacks` names, in that order, with the
    parameters that they have in `standard`.
    """

    kind: Literal["autoattack"] = "autoattack"
    norm: Norm = "linf"
    version: Literal["standard", "custom"] = "standard"
    attacks: Tuple[Component] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.version == "standard" and self.attacks:
            raise problems_error([(("attacks",), "expected none with the version standard, which has its own")])
        if self.version == "custom" and not self.attacks:
            known = ", ".join(get_args(Component))
            raise problems_error([(("attacks",), f"expected at least one of {known}, got none")])
        repeated = [name for name, times in Counter(self.attacks).items() if times > 1]
        if repeated:
            raise problems_error([(("attacks",), f"expected each once, got {name} again") for name in repeated])
        return self

    @property
    def is_random(self) -> bool:
        return True

    @property
    def default_name(self) -> str:
        return "autoattack"

    @property
    def ball(self) -> Norm:
        return self.norm

    @property
    def components(self) -> tuple[Component, ...]:
        return STANDARD if self.version == "standard" else self.attacks

    @property
    def gradient_free(self) -> bool:
        return set(self.components) == {"square"}

    @property
    def climbs_margin(self) -> bool:
        return set(self.components) != {"apgd-ce"}

    def cost(self, num_classes: int) -> Cost:
        looks = 2 if self.gradient_free else 3  # before, after, and of one image, whether there are gradients
        return sum((_cost(name, num_classes) for name in self.components), Cost(looks, 0))

    def check(self, num_classes: int) -> None:
        # The library would stop halfway.
        aimed = [name for name in self.components if name in ("apgd-t", "fab-t")]
        if aimed and num_classes <= TARGETS:
            needs = f"{' and '.join(aimed)} aim at {TARGETS} wrong classes"
            raise AttackError(f"{self.title}: {needs}, expected {TARGETS + 1} classes or more, got {num_classes}")
        if "apgd-dlr" in self.components and num_classes < 3:
            raise AttackError(f"{self.title}: apgd-dlr needs 3 classes, got {num_classes}")

    def stock(self, model: Classifier, *, eps: float, seed: int, device: torch.device) -> Any:
        """Return the library's own object, with the parameters of the standard version.

        Args:
            model: the classifier, in eval mode and float32.
            eps: the radius of the ball, in image units.
            seed: of torch's global generators.
            device: the device of the images.

        Raises: AutoAttackError if the package pyautoattack is missing.
        """
        try:
            library = importlib.import_module("pyautoattack")
        except ImportError as error:
            expected = "expected the package pyautoattack: pip install 'robnet-zoo[autoattack]'"
            raise AutoAttackError(f"{self.title}: {expected}") from error
        # Its check never forgets: without this, one dynamic model would flag every later one.
        counts = importlib.import_module("pyautoattack.checks").funcs
        counts.update(dict.fromkeys(counts, 0))
        return library.AutoAttack(model, norm=NORMS[self.norm], eps=eps, seed=seed, version="standard", device=device)

    def run_batch(
        self, model: Classifier, images: Tensor, labels: Tensor, *, eps: float, seed: int = 0
    ) -> BatchOutcome:
        """Attack one batch.

        Decisions are those of the library's `run_standard_evaluation` on this batch. Torch's global generators, the
        interpreter's tracer, the library's logger and the model are left as they were.

        Args:
            model: in eval mode and float32. A module's parameters are frozen meanwhile.
            images: (N, C, H, W) in [0, 1], float32.
            labels: integers of any type, (N,) or (N, 1).
            eps: in image units.
            seed: of torch's global generators, which the library draws from.

        Raises:
            AttackError: images leave [0, 1], labels are not classes of the model, eps is not a radius, or there are too
                few classes.
            AutoAttackError: the package is missing, or the model is not what the attack needs.
        """
        started = time.perf_counter()
        labels = class_numbers(labels, images)
        radii(eps, images, norm=self.norm)
        counted = _Counted(model)
        warned: list[str] = []
        with _frozen(model, self.title), _undisturbed(seed), _overheard(warned):
            right = self._right(counted, images, labels)
            library = self.stock(counted, eps=eps, seed=seed, device=images.device)
            adversarial, claimed = self._run(library, images, labels, right)
            with torch.no_grad():
                logits = counted(adversarial)
        distances = length(adversarial - images, self.norm)
        inside = within(distances, eps) & in_box(adversarial)
        confirmed = inside & ~is_right(logits, labels)
        good = [name is None or yes for name, yes in zip(claimed, confirmed.tolist(), strict=True)]
        kept = torch.tensor(good, device=images.device)
        return BatchOutcome(
            images=torch.where(kept[:, None, None, None], adversarial, images),
            broken_by=tuple(name if yes else None for name, yes in zip(claimed, good, strict=True)),
            unconfirmed=tuple(not yes for yes in good),
            distances=tuple(distances.where(kept, 0).tolist()),
            margins=tuple(margin_of_answer(logits, labels, torch.full_like(labels, -1)).tolist()),
            flags=tuple(sorted({_flag(text) for text in warned})),
            forwards=counted.forwards,
            backwards=counted.backwards,
            seconds=time.perf_counter() - started,
        )

    def _right(self, model: Classifier, images: Tensor, labels: Tensor) -> list[bool]:
        """Return which clean images the model classifies correctly, after checking that the attack can run."""
        if images.dtype != torch.float32:
            raise AutoAttackError(f"{self.title}: expected images in float32, got {images.dtype}")
        check_images(images)
        with torch.no_grad():
            logits = model(images)
        if logits.dtype != torch.float32:
            raise AutoAttackError(f"{self.title}: expected logits in float32, got {logits.dtype}")
        self.check(logits.shape[1])
        if not (labels.min() >= 0 and labels.max() < logits.shape[1]):
            raise AttackError(f"{self.title}: expected labels from 0 to {logits.shape[1] - 1}, got others")
        if not self.gradient_free:
            with torch.enable_grad():
                known = model(images[:1].clone().requires_grad_()).requires_grad
            if not known:
                hint = 'only the version custom with attacks ["square"] does without'
                raise AutoAttackError(f"{self.title}: expected a model with gradients, got one without; {hint}")
        right: list[bool] = is_right(logits, labels).tolist()
        return right

    def _run(
        self, library: Any, images: Tensor, labels: Tensor, right: Sequence[bool]
    ) -> tuple[Tensor, list[str | None]]:
        """Return the adversarial images and what broke each first, by a call of the library for each component.

        As in the library's one call, a component sees what the ones before left, in order and as one batch.
        """
        result = images.clone()
        claimed: list[str | None] = [None if yes else "clean" for yes in right]
        for component in self.components:
            left = [index for index, name in enumerate(claimed) if name is None]
            if not left:
                break
            library.attacks_to_run = [component]
            adversarial, answers = library.run_standard_evaluation(images[left], labels[left], batch_size=len(left))
            fooled = (answers != labels[left]).tolist()
            for row, index in enumerate(left):
                if fooled[row]:
                    claimed[index] = component
                    result[index] = adversarial[row]
        return result, claimed

    def parts(self, broken_by: Sequence[str | None]) -> dict[str, float]:
        """Return the accuracy that each component left in turn, after `clean`. broken_by: an entry an image."""
        left, accuracies = len(broken_by), {}
        counts = Counter(broken_by)
        for name in ("clean", *self.components):
            left -= counts[name]
            accuracies[name] = left / len(broken_by)
        return accuracies

    def flags(self, broken_by: Sequence[str | None], raised: Iterable[str]) -> tuple[str, ...]:
        # `square_gains` by the library's own rule, but of all images: in a batch of 64, one image is 1.6 points.
        accuracies = self.parts(broken_by)
        others = [accuracy for name, accuracy in accuracies.items() if name != "square"]
        gains = "square" in accuracies and len(accuracies) > 2 and accuracies["square"] < min(others) - SQUARE_GAIN
        return tuple(sorted({*raised} - {"square_gains"} | ({"square_gains"} if gains else set())))


def _cost(component: Component, num_classes: int) -> Cost:
    """Return what the library asks about an image that withstands a component with the standard version's parameters.

    Each call of it checks the model and looks at the image before and after the component; each restart looks again.
    """
    steps = STEPS + 1  # of APGD, which also looks at its start
    checks = 10
    match component:
        case "apgd-ce" | "apgd-dlr":
            return Cost(checks + steps, steps)
        case "apgd-t":
            return Cost(checks + TARGETS * (1 + steps), TARGETS * steps)
        case "fab":  # a gradient a class, and a look at where the step led
            return Cost(checks + 2 + 2 * STEPS, num_classes * STEPS)
        case "fab-t":
            return Cost(checks + TARGETS * (3 + 2 * STEPS), TARGETS * STEPS)
        case "square":
            return Cost(checks + 2 + QUERIES, 0)


class _Counted:
    """A model that counts the images that go through it, each way."""

    def __init__(self, model: Classifier) -> None:
        self.model = model
        self.forwards = self.backwards = 0

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        self.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@contextmanager
def _frozen(model: Classifier, title: str) -> Iterator[None]:
    """Freeze the parameters: the library would compute all their gradients and use none."""
    if not isinstance(model, torch.nn.Module):
        yield
        return
    if any(getattr(module, "training", False) for module in model.modules()):  # a frozen script has no mode
        raise AutoAttackError(f"{title}: expected a model in eval mode, got one in training mode")
    dtypes = {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()} - {torch.float32}
    if dtypes:
        raise AutoAttackError(f"{title}: expected a model in float32, got one in {', '.join(sorted(map(str, dtypes)))}")
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


@contextmanager
def _undisturbed(seed: int) -> Iterator[None]:
    """Keep the random state and the tracer: the library seeds torch's global generators and removes the tracer.

    The generators are seeded here too, so that a model which draws random numbers can be attacked again the same way.
    """
    tracer = sys.gettrace()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        sys.settrace(tracer)


class _Listener(logging.Handler):
    """Writes the messages of a logger into a list."""

    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _overheard(messages: list[str]) -> Iterator[None]:
    """Collect all warnings, by the library's logger or by `warnings`, even if either is silenced."""
    logger = logging.getLogger("auto-attack")
    listener = _Listener(messages)
    before = logger.level, logger.propagate, logger.disabled, logging.root.manager.disable
    logger.addHandler(listener)
    logger.setLevel(logging.WARNING)
    logger.propagate = logger.disabled = False
    logging.disable(logging.NOTSET)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        messages += [str(warning.message) for warning in caught]
    finally:
        logger.removeHandler(listener)
        level, logger.propagate, logger.disabled, silent = before
        logger.setLevel(level)
        logging.disable(silent)


def _flag(text: str) -> str:
    """Return the name of a warning, or the warning itself if it has none."""
    return next((name for name, words in FLAGS.items() if words in text), text)
