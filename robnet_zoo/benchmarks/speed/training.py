"""Images a second of adversarial training: `python -m robnet_zoo.benchmarks.speed.training`.

The trainer runs beside a plain loop. Both do the same work on the same images: PGD with so many steps from a random
start on the network in eval mode, then one step of SGD in training mode. The plain loop runs the naive form in float32,
as the original does; the trainer makes an epoch of one update, its random crops and checks included: it attacks the
inference form and trains the training form, in bfloat16 where the device has it. They take turns, round after round.
"""

from __future__ import annotations

import copy
import statistics
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robnet_zoo.attacks.ball import project
from robnet_zoo.benchmarks.speed.forms import random_batch, with_statistics
from robnet_zoo.benchmarks.speed.naive import naive
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.core.timing import in_turns
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile
from robnet_zoo.training import Recipe, TrainingAttack
from robnet_zoo.training.distributed import World
from robnet_zoo.training.state import initial_state
from robnet_zoo.training.updates import Updates

PLAIN, OURS = "plain loop, naive form, float32", "trainer, {}"


class LoopSpeed(Document):
    """One way to train. seconds: of each round. ratio: to the plain loop."""

    loop: str
    seconds: Tuple[float]
    images_per_second: float
    ratio: float


class TrainingSpeedResult(Document):
    """A results document of this benchmark."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    spec: str
    spec_hash: str
    steps: int
    batch: int
    rounds: int
    device: str
    software: dict[str, str]
    loops: Tuple[LoopSpeed]


def measure(spec: Genotype, *, steps: int = 7, batch: int = 64, rounds: int = 5) -> TrainingSpeedResult:
    """Time both loops on this machine's CPU.

    Args:
        spec: the architecture.
        steps: of PGD.
        batch: images in an update.
        rounds: how often each loop is timed.
    """
    generator = torch.Generator().manual_seed(0)
    noise, labels = random_batch(spec, batch, generator)
    pixels = noise.mul(255).round().byte()
    images = pixels / 255
    recipe = Recipe(name="speed", epochs=1, batch=batch, attack=TrainingAttack(steps=steps), dtype="bfloat16")
    network = with_statistics(compile(spec), images)
    plain = naive(copy.deepcopy(network), spec)
    optimizer = torch.optim.SGD(
        plain.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    state = initial_state(spec, recipe, World())
    state.network.load_state_dict(network.state_dict())
    updates = Updates(state, Images(pixels, labels, "noise"), recipe, World())

    def ours() -> None:
        state.epoch, state.step = 1, 0
        for _ in updates.epoch():
            pass

    trainer = OURS.format(str(resolve_dtype(recipe.dtype)).removeprefix("torch."))
    work = {PLAIN: lambda: _plain_step(plain, optimizer, images, labels, recipe.attack, generator), trainer: ours}
    seconds = in_turns(work, rounds=rounds)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return TrainingSpeedResult(
        spec=spec.name,
        spec_hash=spec.hash,
        steps=steps,
        batch=batch,
        rounds=rounds,
        device=device(),
        software=software(),
        loops=tuple(
            LoopSpeed(
                loop=name,
                seconds=tuple(round(value, 4) for value in values),
                images_per_second=round(batch / medians[name], 2),
                ratio=round(medians[PLAIN] / medians[name], 2),
            )
            for name, values in seconds.items()
        ),
    )


def _plain_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    attack: TrainingAttack,
    generator: torch.Generator,
) -> None:
    """Take one step of PGD adversarial training as anyone would write it, without gradients that nobody needs."""
    model.eval()
    start = torch.empty_like(images).uniform_(-attack.eps_value, attack.eps_value, generator=generator)
    adversarial = project(images + start, images, attack.eps_value)
    for _ in range(attack.steps):
        adversarial.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(adversarial), labels), adversarial)
        adversarial = project(adversarial.detach() + attack.step_value * gradient.sign(), images, attack.eps_value)
    model.train()
    optimizer.zero_grad()
    F.cross_entropy(model(adversarial), labels).backward()
    optimizer.step()


def table(result: TrainingSpeedResult) -> str:
    """Return the result as a Markdown table."""
    head = f"{result.spec}, PGD-{result.steps}, batch {result.batch}, {result.device}"
    lines = [f"{head}, median of {counted(result.rounds, 'round')}", "", "| loop | images/s | ratio |", "|---|---|---|"]
    lines += [f"| {loop.loop} | {loop.images_per_second:.1f} | {loop.ratio:.2f}x |" for loop in result.loops]
    return "\n".join(lines)


def main(
    spec: str = "robnet_free", *, steps: int = 7, batch: int = 64, rounds: int = 5, output: Path | None = None
) -> None:
    """Time both loops and print the table.

    Args:
        spec: A bundled spec or the path of one.
        steps: Of PGD.
        batch: Images in an update.
        rounds: How often each loop is timed.
        output: Where the results document is saved, if anywhere.
    """
    result = measure(load_spec(spec), steps=steps, batch=batch, rounds=rounds)
    print(table(result))
    if output is not None:
        result.save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
