"""Candidates a minute whose FSP distances are computed: `python -m robnet_zoo.benchmarks.speed.search`.

Two ways to the same FSP distances (paper, equation 4) of the same cell-free candidates of RobNet-free's size: a mask
over the supernet, and a network that is compiled for the candidate and inherits by key. Then follows what is the same
for both: PGD on some images, and the features of every cell before and after. They take turns, round after round; a
figure is the median of the rounds. Weights are random; the time does not depend on them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from robnet_zoo.attacks import pgd
from robnet_zoo.benchmarks.speed.forms import random_batch, with_statistics
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.core.timing import in_turns
from robnet_zoo.core.wording import counted
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile, for_inference, subnetwork
from robnet_zoo.nn.network import Network
from robnet_zoo.search.fsp import fsp_distances
from robnet_zoo.search.sampling import Sampling, sample
from robnet_zoo.search.space import SearchSpace

MASK, BUILT = "mask over the supernet", "compiled anew, weights by key"
EPS, STEP = 8 / 255, 2 / 255


class WaySpeed(Document):
    """One way to a candidate's network. network_seconds, seconds: of each round, until the network is there, and until
    its distances are."""

    way: str
    network_seconds: Tuple[float]
    seconds: Tuple[float]
    candidates_per_minute: float
    network_ratio: Annotated[float, Field(description="to the way that compiles, of the time to a network")]


class SearchSpeedResult(Document):
    """A results document of this benchmark."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    spec: str
    images: int
    steps: int
    rounds: int
    device: str
    software: dict[str, str]
    largest_difference: float  # of a distance between the two ways, as a share of it
    ways: Tuple[WaySpeed]


def measure(spec: Genotype, *, images: int = 16, steps: int = 7, rounds: int = 5) -> SearchSpeedResult:
    """Time both ways for random candidates in the network of a spec on this machine's CPU.

    Args:
        spec: gives the network; the candidates are cell-free.
        images: the number of random images.
        steps: of PGD.
        rounds: how often each way is timed.
    """
    space = SearchSpace(kind="cell_free", network=spec.network)
    pixels, labels = random_batch(spec, images, torch.Generator().manual_seed(0))
    supernet = with_statistics(compile(space.supernet()), pixels).eval()
    drawn = [space.genotype(codes, name="candidate") for codes in sample(space, Sampling(), rounds + 1, seed="speed")]

    def mask(candidate: Genotype) -> Network:
        return subnetwork(supernet, candidate)

    def built(candidate: Genotype) -> Network:
        network, state = compile(candidate), supernet.state_dict()
        network.load_state_dict({key: state[key] for key in network.state_dict()})
        return network.eval()

    def distances(network: Network) -> Tensor:
        fast = for_inference(network, dtype=resolve_dtype("bfloat16"))
        generator = torch.Generator().manual_seed(0)
        adversarial = pgd(fast, pixels, labels, eps=EPS, step=STEP, steps=steps, generator=generator)
        return fsp_distances(network, pixels, adversarial) / images

    ways = {MASK: mask, BUILT: built}
    masked, inherited = (distances(way(drawn[0])) for way in ways.values())
    networks = in_turns({name: _each(way, drawn) for name, way in ways.items()}, rounds=rounds)
    whole: dict[str, Callable[[Genotype], object]] = {
        name: lambda candidate, way=way: distances(way(candidate))  # type: ignore[misc]  # of a default, not inferred
        for name, way in ways.items()
    }
    scores = in_turns({name: _each(score, drawn) for name, score in whole.items()}, rounds=rounds)
    medians = {name: statistics.median(seconds) for name, seconds in networks.items()}
    return SearchSpeedResult(
        spec=spec.name,
        images=images,
        steps=steps,
        rounds=rounds,
        device=device(),
        software=software(),
        largest_difference=float(((masked - inherited).abs() / inherited).max()),
        ways=tuple(
            WaySpeed(
                way=name,
                network_seconds=tuple(round(value, 5) for value in networks[name]),
                seconds=tuple(round(value, 4) for value in scores[name]),
                candidates_per_minute=round(60 / statistics.median(scores[name]), 1),
                network_ratio=round(medians[BUILT] / medians[name], 1),
            )
            for name in ways
        ),
    )


def _each(work: Callable[[Genotype], object], drawn: Sequence[Genotype]) -> Callable[[], object]:
    """Return a function that does the work on the next candidate whenever it is called."""
    left = iter(drawn)
    return lambda: work(next(left))


def table(result: SearchSpeedResult) -> str:
    """Return the result as a Markdown table."""
    measured = f"PGD-{result.steps} on {counted(result.images, 'image')}"
    head = f"cell-free candidates of {result.spec}'s size, {measured}, {result.device}"
    lines = [f"{head}, median of {counted(result.rounds, 'round')}", ""]
    lines += ["| way | ms to a network | ratio | candidates scored a minute |", "|---|---|---|---|"]
    for way in result.ways:
        milliseconds = 1000 * statistics.median(way.network_seconds)
        lines.append(f"| {way.way} | {milliseconds:.0f} | {way.network_ratio:.1f}x | {way.candidates_per_minute:.1f} |")
    return "\n".join(lines)


def main(
    spec: str = "robnet_free", *, images: int = 16, steps: int = 7, rounds: int = 5, output: Path | None = None
) -> None:
    """Time both ways and print the table.

    Args:
        spec: A bundled spec or the path of one.
        images: The number of random images.
        steps: Of PGD.
        rounds: How often each way is timed.
        output: Where the results document is saved, if anywhere.
    """
    result = measure(load_spec(spec), images=images, steps=steps, rounds=rounds)
    print(table(result))
    if output is not None:
        result.save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
