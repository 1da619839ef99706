"""Results of searches that never ran: real architectures with accuracies that a test makes up."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import islice

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.search.analysis import Observation, Observed
from robnet_zoo.search.config import Branch, CandidateGroup, Evaluation, Pick, SearchConfig
from robnet_zoo.search.result import Accuracy, Candidate, StandaloneResult, StudyResult, TrainedCandidate
from robnet_zoo.search.sampling import Sampling, draws
from robnet_zoo.search.space import Kind, SearchSpace
from robnet_zoo.training.recipe import Recipe

FULL = load_spec("robnet_large").network
SMALL = FULL.model_copy(update={"channels": 4, "depth": 6, "reductions": (2, 4)})
EVALUATION = Evaluation(finetune=Recipe(name="finetune", epochs=3, validation=0), images=1234, validation=500, steps=7)

Outcome = tuple[Accuracy | None, Accuracy | None, Sequence[float]]  # before and after finetuning, FSP distances
Effect = Callable[[Genotype, random.Random], Outcome]
Robust = Callable[[Genotype, random.Random], float]


def by_density(sign: float, noise: float = 0.02) -> Robust:
    """Return robust accuracy that grows with density, or falls for a negative sign."""
    return lambda spec, draw: 0.4 + sign * 0.3 * (spec.density - 0.5) + draw.gauss(0, noise)


def by_convs(direct: float, skip: float, noise: float = 0.005) -> Robust:
    """Return robust accuracy to which each convolution per cell adds `direct` or `skip`."""

    def robust(spec: Genotype, draw: random.Random) -> float:
        depth = len(spec.layout)
        return 0.2 + direct * spec.direct_convs / depth + skip * spec.skip_convs / depth + draw.gauss(0, noise)

    return robust


def by_nothing(_: Genotype, draw: random.Random) -> float:
    """Return robust accuracy that is noise alone."""
    return 0.4 + draw.gauss(0, 0.02)


def with_distances(signs: Sequence[float], *, sign: float = 1.0) -> Effect:
    """Return an effect with a gap and, for each cell, a distance that follows the gap by the cell's sign."""

    def measured(_: Genotype, draw: random.Random) -> Outcome:
        gap = 0.2 + 0.05 * draw.random()
        before = Accuracy(clean=0.5 + 0.01 * draw.random(), robust=0.5 - gap)
        return before, None, [0.1 + sign * slope * (gap - 0.2) + 0.01 * draw.random() for slope in signs]

    return measured


def observe(result: StudyResult) -> tuple[Observation, ...]:
    """Return the observations of all candidates."""
    return Observed.from_result(result).observations


def made(effect: Robust, *, gain: float = 0.1) -> Effect:
    """Return an effect with robust accuracy after finetuning by `effect`, and about `gain` less before it."""

    def measured(spec: Genotype, draw: random.Random) -> Outcome:
        after = min(max(effect(spec, draw), 0.0), 0.9)
        before = min(max(after - gain + draw.gauss(0, 0.02), 0.0), 0.9)
        return Accuracy(clean=before + 0.1, robust=before), Accuracy(clean=after + 0.1, robust=after), ()

    return measured


def study(
    effect: Effect,
    *,
    n: int = 200,
    kind: Kind = "cell_based",
    groups: Sequence[CandidateGroup] | None = None,
    picks: Sequence[Pick] = (),
    description: str = "",
    data: str = "made_up.npz",
) -> StudyResult:
    """Return a result whose candidates are drawn by groups and measured by `effect`.

    n: how many candidates the only group has; by default it is uniform. picks: which specs are picked.
    """
    groups = (CandidateGroup(name="uniform", count=max(n, 1)),) if groups is None else tuple(groups)
    config = SearchConfig(
        name="made_up",
        description=description,
        seed=7,
        full=FULL.model_copy(update={"depth": SMALL.depth, "reductions": SMALL.reductions}),
        evaluation=EVALUATION,
        branches=(
            Branch(
                kind=kind,
                network=SMALL,
                supernet=Recipe(name="supernet", epochs=30, validation=0),
                groups=groups,
                picks=tuple(picks),
            ),
        ),
    )
    space, candidates = config.space(kind), list[Candidate]()
    for group in groups:
        for index, spec in enumerate(drawn(space, group)):
            before, after, fsp = effect(spec, random.Random(f"{group.name} {index}"))
            candidates.append(
                Candidate(
                    group=group.name,
                    index=index,
                    codes=space.codes(spec),
                    hash=spec.hash,
                    before=before,
                    after=after,
                    fsp=tuple(fsp),
                )
            )
    return StudyResult(
        config=config,
        kind=kind,
        supernet_state_sha256="ab12cd34" * 8,
        data=data,
        data_sha256="00" * 32,
        training=1234,
        validation=500,
        software={"torch": "0"},
        device="none",
        candidates=tuple(candidates[: n if len(groups) == 1 else len(candidates)]),
    )


def standalone(result: StudyResult, robust: Callable[[Candidate], float]) -> StandaloneResult:
    """Return all candidates of a study with a robust accuracy after training alone, and a clean one 0.1 above it."""
    accuracies = [robust(candidate) for candidate in result.candidates]
    return StandaloneResult(
        search=result.config.name,
        kind=result.kind,
        supernet_state_sha256=result.supernet_state_sha256,
        data=result.data,
        data_sha256=result.data_sha256,
        training=result.training,
        validation=result.validation,
        recipe=result.branch.supernet,
        software={},
        device="none",
        candidates=tuple(
            TrainedCandidate(
                candidate=candidate, standalone=Accuracy(clean=min(share + 0.1, 1), robust=share), seconds=1
            )
            for candidate, share in zip(result.candidates, accuracies, strict=True)
        ),
    )


def drawn(space: SearchSpace, group: CandidateGroup) -> list[Genotype]:
    """Return the architectures of a group. Groups that are drawn in the same way share the work."""
    stream, specs = _stream(space, group.sampling, group.name)
    specs.extend(islice(stream, max(group.count - len(specs), 0)))
    return specs[: group.count]


@cache
def _stream(space: SearchSpace, sampling: Sampling, seed: str) -> tuple[Iterator[Genotype], list[Genotype]]:
    return draws(space, sampling, seed=seed), []
