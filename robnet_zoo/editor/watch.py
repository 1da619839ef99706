"""An attack on one image, told step by step: what the model answers, by which margin, and how far the image is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import torch
from torch import Tensor

from robnet_zoo import attacks
from robnet_zoo.attacks import Attack, BatchAttack, Classifier, IterativeAttack
from robnet_zoo.attacks.ball import Norm, length
from robnet_zoo.attacks.losses import is_right, margin_of_answer
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.units import in_image_units, radius_problem
from robnet_zoo.core.wording import counted
from robnet_zoo.editor.pictures import as_bytes
from robnet_zoo.errors import EditorError, StoppedError
from robnet_zoo.reports.elements import Picture
from robnet_zoo.reports.page import difference, factor, png

SECONDS = 0.05  # between two pictures: more than that no eye follows
Message = dict[str, Any]


class Watched:
    """A classifier that tells what it is asked about, and what it answers. Stops if that is wanted."""

    def __init__(self, classifier: Classifier, tell: Callable[[Tensor, Tensor], None], stop: Event) -> None:
        self.classifier, self.tell, self.stop = classifier, tell, stop

    def __call__(self, images: Tensor) -> Tensor:
        if self.stop.is_set():
            raise StoppedError("the attack was stopped")
        logits = self.classifier(images)
        self.tell(images.detach(), logits.detach())
        return logits


class Watch:
    """One attack that is watched.

    Args:
        target: what is attacked.
        image: (1, C, H, W) in [0, 1], on the target's device.
        label: its class; None for the one that the target sees.
        attack: any.
        eps: the radius, such as 8/255.
        seed: of all random numbers.
        tell: is called with every message.
        stop: once it is set, the next query of the model ends the attack.
    """

    def __init__(
        self,
        target: Target,
        image: Tensor,
        label: int | None,
        attack: Attack,
        *,
        eps: str,
        seed: int,
        tell: Callable[[Message], None],
        stop: Event,
    ) -> None:
        if problem := radius_problem(eps, norm=attack.ball):
            raise EditorError(f"eps: {problem}")
        if not attack.gradient_free and target.proposer is None:
            raise EditorError(
                f"{attack.title} needs gradients, and {target.name} has none: {target.why_not}; Square needs none"
            )
        self.target, self.image, self.attack, self.seed = target, image, attack, seed
        self.eps, self.tell, self.stop = in_image_units(eps), tell, stop
        with torch.no_grad():
            self.clean_logits = target.judge(image)
        classes = self.clean_logits.shape[1]
        if label is not None and not 0 <= label < classes:
            raise EditorError(f"label: expected a class from 0 to {classes - 1}, got {label}")
        self.label = int(self.clean_logits.argmax()) if label is None else label
        self.labels = torch.tensor([self.label], device=image.device)
        self.total = attack.cost(classes).forwards
        self.queries, self.pictured = 0, -math.inf

    def run(self) -> None:
        """Attack, and tell: `clean`, `query` again and again, and `end`. Raises RobnetZooError."""
        self.tell(self._about(self.image, self.clean_logits) | {"kind": "clean", "total": self.total})
        proposer = Watched(self.target.form_for(self.attack), self._query, self.stop)
        judge = Watched(self.target.judge, lambda images, logits: None, self.stop)
        if isinstance(self.attack, IterativeAttack):
            (outcome,) = attacks.run(
                self.attack,
                proposer,
                self.image,
                self.labels,
                eps=self.eps,
                seed=self.seed,
                slots=1,
                judge=judge,
                clean_logits=self.clean_logits,
            )
            self._end(outcome.image[None], fooled=outcome.fooled, step=outcome.step)
        else:
            assert isinstance(self.attack, BatchAttack)
            whole = self.attack.run_batch(proposer, self.image, self.labels, eps=self.eps, seed=self.seed)
            self._end(whole.images, fooled=whole.fooled[0], step=None, by=whole.broken_by[0])

    def _query(self, images: Tensor, logits: Tensor) -> None:
        if len(images) != 1:  # of a batch that holds the image more than once
            images, logits = images[:1], logits[:1]
        self.queries += 1
        message = self._about(images, logits) | {"kind": "query", "query": self.queries}
        now = time.monotonic()
        if now - self.pictured >= SECONDS:
            self.pictured = now
            message["png"] = png(as_bytes(images[0]))
        self.tell(message)

    def _about(self, images: Tensor, logits: Tensor) -> Message:
        """Return what there is to say of an image, (1, C, H, W), and the answer to it, (1, K)."""
        margin = float(margin_of_answer(logits.float(), self.labels, torch.full_like(self.labels, -1)))
        distance = float(length(images - self.image, self.attack.ball))
        answer, share = int(logits.argmax()), float(logits.float().softmax(1).max())
        return {
            "margin": margin if math.isfinite(margin) else None,
            "answer": answer,
            "text": f"sees {answer} with {share:.1%}, margin {margin:+.3f}, "
            f"distance {_as_text(distance, self.attack.ball)}",
        }

    def _end(self, image: Tensor, *, fooled: bool, step: int | None, by: str | None = None) -> None:
        with torch.no_grad():
            logits = self.target.judge(image)
        clean, after = int(self.clean_logits.argmax()), int(logits.argmax())
        distance = _as_text(float(length(image - self.image, self.attack.ball)), self.attack.ball)
        calls = counted(self.queries, "model call")
        if fooled and not bool(is_right(self.clean_logits, self.labels)):
            text = f"Wrong without an attack: the label is {self.label}, the model sees {clean}."
        elif fooled:
            when = f" at step {step}" if step is not None else f" by {by}" if by else ""
            text = f"Fooled{when}: sees {after} instead of {self.label}, at a distance of {distance}, after {calls}."
        else:
            text = f"Withstood {self.attack.title}: still sees {self.label} after {calls}."
        picture = Picture(
            clean=as_bytes(self.image[0]),
            adversarial=as_bytes(image[0]),
            label=str(self.label),
            before=str(clean),
            after=str(after),
            title=self.attack.title,
        )
        self.tell(
            self._about(image, logits)
            | {
                "kind": "end",
                "fooled": fooled,
                "verdict": text,
                "clean": png(picture.clean),
                "png": png(picture.adversarial),
                "difference": png(difference(picture)),
                "factor": factor(picture),
            }
        )


def _as_text(distance: float, norm: Norm) -> str:
    return f"{255 * distance:.1f}/255" if norm == "linf" else f"{distance:.3f} in l2"
