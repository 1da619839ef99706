"""Say whether chance parts `strong` and AutoAttack on an image: `python -m tools.disagreements --help`.

Where one of them fools a model on an image and the other does not, the latter attacks that image again with other
seeds. What it then finds, it missed by the draw of its starts. `tools.docs` makes the table of docs/robustness.md from
the documents, one for each model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field

from robnet_zoo import data
from robnet_zoo.attacks import AutoAttack
from robnet_zoo.benchmarks import Protocol, Result, Target, evaluate, load_target
from robnet_zoo.benchmarks.result import Bit, DataIdentity, ModelIdentity, worst_case
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.data import Images
from robnet_zoo.errors import ResultError
from tools import committed
from tools.strengths import MASKED_NAME, masked

Side = Literal["strong", "autoattack"]


class Disagreement(Document):
    """An image that one side did not fool the model on. fooled: whether it does with each of the seeds from 1 on."""

    sample: Annotated[int, Field(ge=0)]
    missed_by: Side
    fooled: Tuple[Bit]


class DisagreementsResult(Document):
    """The images of a document on which `strong` and AutoAttack disagree, attacked again."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    protocol: Protocol
    model: ModelIdentity
    data: DataIdentity
    device: str
    software: dict[str, str]
    images: Tuple[Disagreement]


def missed(result: Result) -> list[tuple[int, Side]]:
    """Return the images on which the two disagree, with the side that did not fool the model."""
    theirs = result.measurement("autoattack").correct
    ours = worst_case(result.in_turn).correct
    sides: dict[tuple[int, int], Side] = {(1, 0): "strong", (0, 1): "autoattack"}
    pairs = enumerate(zip(ours, theirs, strict=True))
    return [(sample, sides[pair]) for sample, pair in pairs if pair in sides]


def again(
    result: Result, target: Target, images: Images, *, samples: Sequence[int], side: Side, seeds: int
) -> list[Disagreement]:
    """Attack images again, in one batch, as a side did, with the seeds 1 to `seeds`."""
    attacks = [each for each in result.protocol.attacks if isinstance(each, AutoAttack) == (side == "autoattack")]
    index = torch.tensor(samples)
    chosen = replace(images, pixels=images.pixels[index], labels=images.labels[index])
    fooled: list[list[Bit]] = [[] for _ in samples]
    for seed in range(1, seeds + 1):
        changes = {"attacks": attacks, "in_turn": None, "seed": seed, "n": None}
        outcome = evaluate(target, chosen, result.protocol.model_copy(update=changes), progress=False)
        for own, right in zip(fooled, worst_case(outcome.measurements).correct, strict=True):
            own.append(0 if right else 1)
    return [
        Disagreement(sample=sample, missed_by=side, fooled=tuple(own))
        for sample, own in zip(samples, fooled, strict=True)
    ]


def main(document: Path, *, images: str, seeds: int = 8, output: Path | None = None) -> None:
    """Attack again where the two disagree.

    Args:
        document: A result of the protocol strong_autoattack, of a model that has a name or behind rounded pixels.
        images: The data that it was measured on, as `robnet-zoo benchmark --data` takes it.
        seeds: How many other seeds.
        output: The results; by default among the committed ones, under the document's name.
    """
    result = Result.load(document)
    whole = data.load(images)[: result.data.n]
    name = result.model.name
    target = masked() if name == MASKED_NAME else load_target(name, dtype=result.protocol.dtype)
    if (target.identity.weights, whole.sha256) != (result.model.weights, result.data.sha256):
        raise ResultError(f"{document}: expected its own weights and images, got {target.name} and {whole.name}")
    parts: list[Disagreement] = []
    for side in get_args(Side):
        if samples := [sample for sample, by in missed(result) if by == side]:
            parts += again(result, target, whole, samples=samples, side=side, seeds=seeds)
    parts.sort(key=lambda part: part.sample)
    DisagreementsResult(
        protocol=result.protocol,
        model=result.model,
        data=result.data,
        device=device(target.device),
        software=software(),
        images=tuple(parts),
    ).save(committed.DISAGREEMENTS / document.name if output is None else output)
    for part in parts:
        print(f"image {part.sample}, missed by {part.missed_by}: found with {sum(part.fooled)} of {seeds} other seeds")


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
