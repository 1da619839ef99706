"""Judge a classifier on real images: clean, and under each attack of a protocol.

An attack runs on the model's fast form and only proposes; what it proposes is judged by the model itself, in float32
and eval mode, after a check that it stays in the ball and in [0, 1].
"""

from __future__ import annotations

import hashlib
import os
import time

import torch
from torch import Tensor, nn
from tqdm import tqdm

from robnet_zoo.attacks import fgsm, pgd
from robnet_zoo.benchmarks.environment import device, software
from robnet_zoo.benchmarks.protocol import (
    AttackConfig,
    DataIdentity,
    Measurement,
    ModelIdentity,
    Outcome,
    Protocol,
    Result,
)
from robnet_zoo.compiler import for_inference
from robnet_zoo.data import Images, check_fits
from robnet_zoo.network import Network

TOLERANCE = 1e-6  # of the ball's radius, in image units: the rounding of float32 near 1


def evaluate(model: nn.Module, images: Images, protocol: Protocol, *, name: str, progress: bool = True) -> Result:
    """Measure a model with inputs in [0, 1] under a protocol.

    name: what the document calls the model. The model's mode is left as it was. Raises DataError if the images do not
    fit a Network, RuntimeError if an attack leaves its ball.
    """
    if isinstance(model, Network):
        size = (model.in_chans, *model.spec.network.input_size[1:])
        check_fits(images, input_size=size, num_classes=model.num_classes)
    training = model.training
    model.eval()
    try:
        with tqdm(
            total=len(images) * (1 + len(protocol.attacks)),
            unit=" images",
            disable=not progress,
            mininterval=0.5 if os.isatty(2) else 30,
        ) as bar:
            fast = for_inference(model) if isinstance(model, Network) else model
            clean = _measure(model, fast, images, None, protocol, bar)
            attacked = [_measure(model, fast, images, attack, protocol, bar) for attack in protocol.attacks]
    finally:
        model.train(training)
    return Result(
        protocol=protocol,
        model=ModelIdentity(
            name=name,
            spec_hash=model.spec.hash if isinstance(model, Network) else None,
            weights_sha256=weights_sha256(model),
        ),
        data=DataIdentity(name=images.name, sha256=images.sha256, n=len(images)),
        software=software(),
        device=device(),
        measurements=(clean, *attacked),
    )


def _measure(
    model: nn.Module, fast: nn.Module, images: Images, attack: AttackConfig | None, protocol: Protocol, bar: tqdm[None]
) -> Measurement:
    name = "clean" if attack is None else attack.name
    bar.set_description(name)
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(protocol.seed)
    correct: list[Outcome] = []
    unconfirmed = 0
    for clean, labels in images.batches(protocol.batch):
        proposed = clean if attack is None else _attack(fast, clean, labels, attack, protocol.eps_value, generator)
        _check_inside(proposed, clean, protocol.eps_value)
        with torch.no_grad():
            right = model(proposed).argmax(1) == labels
            claimed = fast(proposed).argmax(1) != labels if attack is not None else ~right
        unconfirmed += int((claimed & right).sum())
        correct += [1 if value else 0 for value in right.tolist()]
        bar.update(len(labels))
    steps = 0 if attack is None else attack.steps
    return Measurement(
        attack=name,
        accuracy=sum(correct) / len(correct),
        correct=tuple(correct),
        forwards=(steps + 1 + (attack is not None)) * len(correct),
        gradients=steps * len(correct),
        unconfirmed=unconfirmed,
        seconds=round(time.perf_counter() - started, 3),
    )


def _attack(
    model: nn.Module, images: Tensor, labels: Tensor, attack: AttackConfig, eps: float, generator: torch.Generator
) -> Tensor:
    if attack.kind == "fgsm":
        return fgsm(model, images, labels, eps=eps)
    return pgd(
        model,
        images,
        labels,
        eps=eps,
        step=attack.step_value,
        steps=attack.steps,
        generator=generator if attack.random_start else None,
        until_fooled=True,
    )


def _check_inside(adversarial: Tensor, clean: Tensor, eps: float) -> None:
    distance = float((adversarial - clean).abs().max())
    low, high = (float(value) for value in adversarial.aminmax())
    if not (distance <= eps + TOLERANCE and low >= 0 and high <= 1):
        found = f"got {distance:.6f} away, from {low:.3g} to {high:.3g}"
        raise RuntimeError(f"expected images within {eps:.6f} of the clean ones and in [0, 1], {found}")


def weights_sha256(model: nn.Module) -> str:
    """sha256 of a model's state dict: names, shapes and values as float32, whatever file they came from."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not key.endswith("num_batches_tracked"):  # counts training steps, not part of the function
            digest.update(f"{key} {tuple(value.shape)}".encode())
            digest.update(value.detach().float().contiguous().numpy().tobytes())
    return digest.hexdigest()
