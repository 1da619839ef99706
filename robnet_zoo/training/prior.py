"""Single-step attacks from a prior (FGSM-EP and FGSM-MEP; Jia et al., 2022): images keep their perturbations.

They are kept in the frame of the image before it is cropped and flipped, at the size of the stage: where the size
changes, all begin anew.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.attacks.ball import project
from robnet_zoo.training.augmentation import Moves
from robnet_zoo.training.distributed import World
from robnet_zoo.training.recipe import TrainingAttack
from robnet_zoo.training.state import State

LEVELS = 127  # of eps, either way, as int8
UNKNOWN = -128  # the level of a pixel that has not been attacked yet
TINY = 1e-30  # keeps the gradients of a flat loss finite


def prepare(state: State, attack: TrainingAttack, *, count: int, shape: tuple[int, ...]) -> None:
    """Let a state keep perturbations of as many images of this shape, unless it does.

    Args:
        state: of the run.
        attack: the recipe's.
        count: the number of training images.
        shape: (C, H, W) of those of the present stage.
    """
    levels = state.prior.get("levels")
    if levels is not None and levels.shape[1:] == shape:
        return
    state.prior = {"levels": torch.full((count, *shape), UNKNOWN, dtype=torch.int8)}
    if attack.momentum:
        state.prior["gradients"] = torch.zeros(count, *shape, dtype=torch.float16)


class Guided:
    """The attack on one batch, from the prior of its images.

    Args:
        prior: `State.prior`.
        images: (N, C, H, W) in [0, 1], as they are attacked.
        indices: of these images among all, (N,).
        moves: how they were cropped and flipped, in pixels of their size.
        attack: the recipe's.
        strength: the factor of eps and step.
        generator: of the random start, a corner of the ball, where a pixel has no prior.
    """

    def __init__(
        self,
        prior: dict[str, Tensor],
        images: Tensor,
        indices: Tensor,
        moves: Moves,
        attack: TrainingAttack,
        *,
        strength: float,
        generator: torch.Generator,
    ) -> None:
        self.prior, self.images, self.indices, self.moves, self.attack = prior, images, indices, moves, attack
        self.eps, self.step = strength * attack.eps_value, strength * attack.step_value
        levels = moves.moved(prior["levels"][indices], outside=UNKNOWN).to(images.device)
        corners = torch.empty_like(images).uniform_(-1, 1, generator=generator).sign() * self.eps
        known = (levels.float() * (attack.eps_value / LEVELS)).clamp(-self.eps, self.eps)
        self.start = images + torch.where(levels == UNKNOWN, corners, known)  # it may leave the box

    def run(self, model: nn.Module, labels: Tensor, *, keep_graph: bool) -> tuple[Tensor, Tensor | None]:
        """Return the adversarial images, (N, C, H, W), and the logits of the start, (N, K), if their graph is kept.

        Args:
            model: what is attacked.
            labels: (N,).
            keep_graph: whether a loss of the weights needs the logits.
        """
        start = self.start.requires_grad_()
        answers = model(start)
        (gradient,) = torch.autograd.grad(F.cross_entropy(answers, labels), start, retain_graph=keep_graph)
        self.gradient, self.start = gradient, start.detach()
        return self._stepped(gradient), answers if keep_graph else None

    def _stepped(self, direction: Tensor) -> Tensor:
        return project(self.start + self.step * direction.sign(), self.images, self.eps)

    def remember(self, world: World, batch: Tensor) -> None:
        """Let the images keep what they are attacked from in the next epoch, in all processes alike.

        Args:
            world: the processes, of which each attacked its share of the batch.
            batch: the indices of the images of all of them.
        """
        direction = self.gradient / self.gradient.abs().mean().clamp(min=TINY)
        if self.attack.momentum:
            before = self.prior["gradients"][self.indices]
            direction = direction + self.attack.momentum * self.moves.moved(before).to(direction)
            self._keep("gradients", direction, world, batch)
        perturbation = self._stepped(direction) - self.images
        levels = (perturbation * (LEVELS / self.attack.eps_value)).round().clamp_(-LEVELS, LEVELS)
        self._keep("levels", levels, world, batch)

    def _keep(self, name: str, values: Tensor, world: World, batch: Tensor) -> None:
        kept = self.prior[name]
        own = self.moves.put_back(values.cpu().to(kept.dtype), kept[self.indices])  # (N, C, H, W)
        kept[batch] = world.gathered(own.to(world.device)).flatten(0, 1).cpu()
