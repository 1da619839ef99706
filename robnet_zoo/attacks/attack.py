"""What every attack is: a document of its parameters that also tells its cost and what it asks of a model.

Most attacks are an `IterativeAttack`: they say how one image, in one slot, moves from step to step, and
`robnet_zoo.attacks.run` runs them. A `BatchAttack` attacks whole batches by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

from pydantic import Field

from robnet_zoo.attacks.ball import Norm
from robnet_zoo.attacks.outcome import BatchOutcome
from robnet_zoo.attacks.random import Key
from robnet_zoo.core.documents import Document, called

if TYPE_CHECKING:
    from torch import Tensor

MOST_SLOTS = 65_536  # images attacked at once
Classifier = Callable[["Tensor"], "Tensor"]  # (N, C, H, W) in [0, 1] -> logits (N, K)
Count = Annotated[int, Field(ge=1)]
Rows = dict[str, "Tensor"]
"""What an attack remembers, a row a slot. Rows are independent of each other.

clean: the images, (N, C, H, W). x: what the next query looks at, (N, C, H, W). label, target: (N,), target -1 for none.
t: how many steps were taken, (N,). eps: (N, 1, 1, 1). clean_logits: (N, K). reached: the largest margin of another
class that attacks before this one came to, (N,), -infinity if there were none. An attack adds tensors of its own.
"""


@dataclass(frozen=True)
class Seen:
    """What a query saw: logits (N, K), the gradient that the attack asked for, and its cost a row."""

    logits: Tensor
    gradient: Tensor | None = None  # (N, C, H, W), or (N, M, C, H, W) for M gradients
    forwards: int = 1
    backwards: int = 0


class Cost(NamedTuple):
    """How often an image goes through the model, each way."""

    forwards: int
    backwards: int

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.forwards + other.forwards, self.backwards + other.backwards)


class StepsFamily(NamedTuple):
    """Attacks that differ in nothing but their number of steps, so that one of fewer is the beginning of one of more.

    key: the same text for all of them. steps: of the attack that was asked.
    """

    key: str
    steps: int


class Attack(Document):
    """Base of all attacks: what results call it, what it costs, and what it asks of a model."""

    name: Annotated[
        str | None,
        Field(pattern=r"^[a-z0-9_]+\z", description="in results; by default its kind"),
        called("lower-case letters, digits and _"),
    ] = None

    precise: ClassVar[bool] = False  # whether it ends on the boundary itself, where bfloat16 would mislead it

    @property
    def title(self) -> str:
        """Return what results call the attack."""
        return self.name or self.default_name

    @property
    def default_name(self) -> str:
        """Return what results call the attack if it was not given a name."""
        raise NotImplementedError

    @property
    def ball(self) -> Norm:
        """Return the norm that eps is a radius in."""
        return "linf"

    @property
    def gradient_free(self) -> bool:
        """Return whether logits are all that the attack asks for."""
        return False

    @property
    def is_random(self) -> bool:
        """Return whether the attack draws random numbers, so that another seed gives another image."""
        return False

    @property
    def climbs_margin(self) -> bool:
        """Return whether the attack makes another class win, by a margin of logits, instead of a high cross-entropy."""
        return False

    @property
    def minimal(self) -> bool:
        """Return whether results may lie outside the ball, which then only decides whether they count."""
        return False

    @property
    def steps_family(self) -> StepsFamily | None:
        """Return the attack's place among those that differ in their number of steps; None if steps mean more."""
        return None

    @property
    def components(self) -> tuple[str, ...]:
        """Return the attacks that this one consists of, in order; empty if it is a single one."""
        return ()

    @property
    def reach(self) -> float:
        """Return how far the steps lead together, in image units; infinity if their length follows from eps."""
        return math.inf

    def check(self, num_classes: int) -> None:
        """Raise AttackError if the attack is not defined for so few classes."""

    def cost(self, num_classes: int) -> Cost:
        """Return what the attack costs for an image, at most; reached by an image that withstands it.

        Forwards are those of the model that is attacked; a judge's come on top.
        """
        raise NotImplementedError

    def usual_cost(self, num_classes: int) -> Cost:
        """Return what the attack costs for an image that withstands it, as a rule; for estimates of time."""
        return self.cost(num_classes)

    def flags(self, broken_by: Sequence[str | None], raised: Iterable[str]) -> tuple[str, ...]:
        """Return the flags of a measurement, sorted.

        Args:
            broken_by: the component that fooled the model, an entry an image of all batches; empty for a single attack.
            raised: the flags that batches raised.
        """
        return tuple(sorted(set(raised)))


class BatchAttack(Attack):
    """Base of the attacks that take a batch as a whole, so that an image's outcome depends on the others beside it.

    They look at the model itself, in float32, and stop where it is fooled, so they have no images to transfer.
    """

    def run_batch(
        self, model: Classifier, images: Tensor, labels: Tensor, *, eps: float, seed: int = 0
    ) -> BatchOutcome:
        """Attack one batch.

        Args:
            model: the classifier, in eval mode.
            images: (N, C, H, W) in [0, 1].
            labels: (N,).
            eps: the radius of the ball, in image units.
            seed: of all random numbers.
        """
        raise NotImplementedError


class IterativeAttack(Attack):
    """Base of the attacks that move an image step by step.

    A try begins, then queries and advances until it is finished. Rows never look at each other, so any of them can be
    taken out and others put in between two steps (`robnet_zoo.attacks.continuous_batching`).
    """

    restarts: Count = 1

    @property
    def max_steps(self) -> int:
        """Return how many steps a try has, at most. Each costs a query."""
        raise NotImplementedError

    @property
    def foreseeable(self) -> bool:
        """Return whether queries to come are known, as long as the answers before them bring nothing.

        Then several queries of an image can be asked at once (`foreseen`, `brings`). An answer that brings nothing
        changes nothing in rows but `x` and `t`.
        """
        return False

    @property
    def early(self) -> bool:
        """Return whether an image is done as soon as it fools the model: not where the nearest one is sought."""
        return True

    def tries(self, num_classes: int) -> int:
        """Return how many tries an image that withstands gets in all."""
        return self.restarts

    def backwards_per_step(self, num_classes: int) -> int:
        """Return how many gradients a query takes."""
        return 0 if self.gradient_free else 1

    def cost(self, num_classes: int) -> Cost:
        steps = self.tries(num_classes) * self.max_steps
        return Cost(steps, steps * self.backwards_per_step(num_classes))

    def begin(self, rows: Rows, keys: Sequence[Key]) -> None:
        """Add `x` and the attack's own tensors to the rows of fresh images.

        rows: have clean, label, target, t, eps and clean_logits. keys: of the random numbers, one a row.
        """
        raise NotImplementedError

    def unknown(self, rows: Rows) -> Rows:
        """Return what `begin` finds in rows, besides, before an image's first try: a tensor a name, a row an image."""
        return {}

    def learnt(self, rows: Rows) -> Rows:
        """Return what `begin` finds there before the next try, by the names of `unknown`, from the rows of this one."""
        return {}

    def query(self, model: Classifier, rows: Rows) -> Seen:
        """Ask the model about `x`. rows are not changed."""
        raise NotImplementedError

    def advance(self, rows: Rows, seen: Seen) -> None:
        """Take a step: replace `x` and all else that changes in rows, never in place."""
        raise NotImplementedError

    def foreseen(self, rows: Rows) -> Rows:
        """Return rows one step later, as `advance` leaves them if the answer to their query brings nothing."""
        raise NotImplementedError

    def brings(self, rows: Rows, seen: Seen) -> Tensor:
        """Return where an answer makes what was foreseen wrong, bool (N,). rows are not changed."""
        raise NotImplementedError

    def finished(self, rows: Rows) -> Tensor:
        """Return which rows are at their end, bool (N,)."""
        return rows["t"] >= self.max_steps

    def result(self, rows: Rows, x: Tensor) -> Tensor:
        """Return the images that rows give if x, (N, C, H, W), are their last iterates."""
        return x
