"""Measure which attack transfers best, from networks of three kinds: `python -m tools.transfers --help`.

The images are held out of CIFAR-10's training images, since the protocol `transfer` takes what is best here.
`tools.docs` makes the table of docs/robustness.md from the documents, one for each pair of source and target.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from robnet_zoo import data
from robnet_zoo.benchmarks import evaluate_transfer, load_protocol, load_target
from robnet_zoo.errors import DataError
from tools import committed
from tools.strengths import REDUCED, trained

TRANSFER = committed.ROBUSTNESS / "transfer"
PROTOCOL = "transfer_attacks"
SOURCE = "robnet_micro.cifar10"  # and the reduced comparison networks
TARGET = "robnet_free.cifar10"  # and every source


def main(*, cifar: Path, work: Path, n: int = 300) -> None:
    """Attack three networks and have each of the others, and RobNet-free, judge the images.

    Args:
        cifar: A folder with cifar10_train.npz.
        work: A folder for the comparison networks, which are trained first; `tools.strengths` takes the same.
        n: How many of the last training images, of which no network here was trained on the last tenth.
    """
    _, held_out = data.load(cifar / "cifar10_train.npz", train=True).split()
    if not 1 <= n <= len(held_out):
        raise DataError(f"-n: expected from 1 to {len(held_out):,} images, which are held out, got {n}")
    images = replace(held_out[len(held_out) - n :], name=f"the last {n} of {held_out.name}")
    protocol = load_protocol(PROTOCOL)
    sources = [load_target(SOURCE), *(trained(model, cifar, work) for model in REDUCED)]
    judges = [*sources, load_target(TARGET)]
    for source in sources:
        targets = [target for target in judges if target is not source]
        outputs = [TRANSFER / f"{source.name}.to-{target.name}.json" for target in targets]
        results = evaluate_transfer(targets, source, images, protocol, outputs=outputs)
        for result, output in zip(results, outputs, strict=True):
            committed.without_pictures(result).save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
