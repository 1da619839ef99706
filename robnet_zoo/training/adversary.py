"""Adversarial images for training, and the loss on them. An attack never changes the network that it attacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.attacks import n_fgsm, pgd
from robnet_zoo.attacks.ball import project
from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.core.units import fraction
from robnet_zoo.errors import TrainingError
from robnet_zoo.nn.forms.autocast import attack_form, training_form
from robnet_zoo.nn.network import modes_kept, statistics_kept
from robnet_zoo.training.recipe import Objective, Recipe, TrainingAttack
from robnet_zoo.training.state import State


def rescue(recipe: Recipe) -> TrainingAttack:
    """Return the attack of a run whose guard has failed: PGD at the recipe's eps, with steps of a quarter of it."""
    assert recipe.guard is not None
    step = fraction(recipe.attack.eps) / 4
    own, steps = recipe.attack, recipe.guard.steps
    return TrainingAttack(eps=own.eps, step=str(step), steps=steps, dtype=own.dtype, statistics=own.statistics)


def attacked(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: TrainingAttack,
    generator: torch.Generator,
    *,
    strength: float = 1.0,
    traced: bool = False,
) -> Tensor:
    """Return adversarial images for a network, (N, C, H, W), and leave the network unchanged.

    With running statistics the attack sees the network in eval mode, through its inference form; with those of the
    batch, in train mode, through its training form.

    Args:
        network: what is attacked.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        attack: the recipe's.
        generator: of the random starts.
        strength: the factor of eps and step; at 0 the images stay as they are.
        traced: whether torch.compile shall trace the form that is attacked.
    """
    if not attack.steps or not strength:
        return images
    with attack_view(network, attack, traced=traced) as fast:
        return _perturbed(fast, images, labels, attack, generator, strength)


@contextmanager
def attack_view(
    network: nn.Module, attack: TrainingAttack, *, trained: nn.Module | None = None, traced: bool = False
) -> Iterator[nn.Module]:
    """Let an attack see a network as its recipe says, and restore the network's modes afterwards.

    Args:
        network: what is attacked.
        attack: the recipe's.
        trained: the training form to use with the statistics of the batch, where a loss of the weights sees it too.
        traced: whether torch.compile shall trace the form that is attacked.
    """
    dtype = resolve_dtype(attack.dtype, next(network.parameters()).device)
    if attack.statistics == "batch":
        with batch_statistics(network):
            yield training_form(network, dtype=dtype, traced=traced) if trained is None else trained
        return
    with modes_kept(network):
        network.eval()
        yield attack_form(network, dtype=dtype, traced=traced)


def _perturbed(
    fast: nn.Module, images: Tensor, labels: Tensor, attack: TrainingAttack, generator: torch.Generator, strength: float
) -> Tensor:
    eps, step = strength * attack.eps_value, strength * attack.step_value
    if attack.kind == "n_fgsm":
        return n_fgsm(fast, images, labels, eps=eps, step=step, generator=generator)
    if attack.loss == "kl":
        return _divergent(fast, images, attack, generator, strength=strength)
    if attack.kind != "pgd":
        raise TrainingError(f"attack.kind: expected pgd or n_fgsm here, got {attack.kind}")
    return pgd(fast, images, labels, eps=eps, step=step, steps=attack.steps, generator=generator)


@contextmanager
def batch_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of each batch, without learning from it, and restore the modes afterwards."""
    with modes_kept(network), statistics_kept(network):
        network.train()
        yield


def _divergent(
    model: nn.Module, images: Tensor, attack: TrainingAttack, generator: torch.Generator, *, strength: float
) -> Tensor:
    """Run PGD on KL(clean answer || adversarial answer), from Gaussian noise of 0.001, as TRADES does."""
    eps, step = strength * attack.eps_value, strength * attack.step_value
    with torch.no_grad():
        answers = F.log_softmax(model(images), dim=1)
    noise = torch.empty_like(images).normal_(0, 0.001, generator=generator)
    adversarial = project(images + noise, images, eps)
    for _ in range(attack.steps):
        adversarial.requires_grad_()
        divergence = F.kl_div(F.log_softmax(model(adversarial), dim=1), answers, reduction="sum", log_target=True)
        (gradient,) = torch.autograd.grad(divergence, adversarial)
        adversarial = project(adversarial.detach() + step * gradient.sign(), images, eps)
    return adversarial


def rectified(teacher: nn.Module, images: Tensor, labels: Tensor, *, share: float, temperature: float) -> Tensor:
    """Return targets, (N, K), that a teacher has softened (Wu et al., 2024); see `recipe.Distillation`.

    Args:
        teacher: gives logits (N, K).
        images: clean, (N, C, H, W) in [0, 1].
        labels: (N,).
        share: of the teacher's answer.
        temperature: by which it is softened.
    """
    with torch.no_grad():
        answers = F.softmax(teacher(images) / temperature, dim=1)  # (N, K)
    preferred = answers.amax(1, keepdim=True) - answers.gather(1, labels[:, None])  # (N, 1)
    shares = (share - preferred).clamp(0, 1)
    return shares * answers + (1 - shares) * F.one_hot(labels, answers.shape[1])


def loss_of(
    model: nn.Module,
    clean: Tensor,
    adversarial: Tensor,
    targets: Tensor,
    objective: Objective,
    start: Tensor | None = None,
) -> Tensor:
    """Return the mean loss of the weights on a batch; see `recipe.Objective`.

    Args:
        model: the network, in train mode.
        clean, adversarial: (N, C, H, W) in [0, 1].
        targets: labels, (N,), or shares of the classes, (N, K).
        objective: the recipe's.
        start: the logits of the attack's start, (N, K), where the objective asks for them.
    """
    if objective.kind == "adversarial":
        answers = model(adversarial)
        loss = F.cross_entropy(answers, targets, label_smoothing=objective.label_smoothing)
        return loss if start is None else loss + objective.tie * F.mse_loss(answers, start)
    answers, others = model(clean), model(adversarial)
    natural = F.cross_entropy(answers, targets, label_smoothing=objective.label_smoothing)
    divergence = F.kl_div(
        F.log_softmax(others, dim=1), F.log_softmax(answers, dim=1), reduction="batchmean", log_target=True
    )
    return natural + objective.beta * divergence


class Replay:
    """One batch of free training (Shafahi et al., 2019, algorithm 1): each replay moves the perturbation a step."""

    def __init__(self, state: State, images: Tensor, attack: TrainingAttack, *, strength: float) -> None:
        self.eps, self.step = strength * attack.eps_value, strength * attack.step_value
        self.images = images
        before = state.perturbation
        if before is None or before.shape != images.shape:  # the first batch, or one of another size
            before = torch.zeros_like(images)
        self.perturbation = before.to(images.device)

    def start(self) -> Tensor:
        """Return the images of this replay, (N, C, H, W), which collect a gradient."""
        self.adversarial = project(self.images + self.perturbation, self.images, self.eps).requires_grad_()
        return self.adversarial

    def advance(self) -> Tensor:
        """Move the perturbation a step along the gradient of the backward pass, and return it, (N, C, H, W)."""
        assert self.adversarial.grad is not None
        moved = self.perturbation + self.step * self.adversarial.grad.sign()
        self.perturbation = moved.clamp_(-self.eps, self.eps)
        return self.perturbation
