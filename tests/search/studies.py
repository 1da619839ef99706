"""Results of searches that never ran: real architectures, with accuracies that a test makes up."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.search.config import Branch, CandidateGroup, Evaluation, SearchConfig
from robnet_zoo.search.result import Accuracy, Candidate, StudyResult
from robnet_zoo.search.sampling import sample
from robnet_zoo.search.space import Kind, SearchSpace
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.zoo.registry import load_spec

FULL = load_spec("robnet_large").network
SMALL = FULL.model_copy(update={"channels": 4, "depth": 6, "reductions": (2, 4)})
EVALUATION = Evaluation(finetune=Recipe(name="finetune", epochs=3, validation=0), images=1234, validation=500, steps=7)

Measured = tuple[Accuracy | None, Accuracy | None, Sequence[float]]
Effect = Callable[[Genotype, random.Random], Measured]


def made(effect: Callable[[Genotype, random.Random], float], *, gain: float = 0.1) -> Effect:
    """Robust accuracy after finetuning as a function of the architecture; before it, about `gain` less."""

    def measured(spec: Genotype, draw: random.Random) -> Measured:
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
    description: str = "",
    data: str = "made_up.npz",
) -> StudyResult:
    """A result whose candidates are drawn as groups say (by default n of them uniformly) and measured by `effect`."""
    groups = (CandidateGroup(name="uniform", count=max(n, 1)),) if groups is None else tuple(groups)
    config = SearchConfig(
        name="made_up",
        description=description,
        seed=7,
        full=FULL.model_copy(update={"depth": SMALL.depth, "reductions": SMALL.reductions}),
        evaluation=EVALUATION,
        branches=(
            Branch(kind=kind, network=SMALL, supernet=Recipe(name="supernet", epochs=30, validation=0), groups=groups),
        ),
    )
    space, found = config.space(kind), list[Candidate]()
    for group in groups:
        drawn = sample(space, group.sampling, group.count, seed=group.name)
        found += [candidate(space, group.name, index, codes, effect) for index, codes in enumerate(drawn)]
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
        candidates=tuple(found[: n if len(groups) == 1 else len(found)]),
    )


def candidate(space: SearchSpace, group: str, index: int, codes: tuple[str, ...], effect: Effect) -> Candidate:
    """A candidate, measured."""
    spec = space.genotype(codes, name="made_up")
    before, after, fsp = effect(spec, random.Random(f"{group} {index}"))
    return Candidate(group=group, index=index, codes=codes, hash=spec.hash, before=before, after=after, fsp=tuple(fsp))
