"""The config of a search, a document. The bundled configs are `configs/*.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import Document, Place, Problem, Tuple, exactly, problems_error
from robnet_zoo.core.units import LinfPixels
from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import Name, NetworkConfig
from robnet_zoo.search.sampling import Sampling
from robnet_zoo.search.space import Kind, SearchSpace
from robnet_zoo.training.recipe import Recipe

Sampler = Literal["tpe", "nsga2"]


class Evaluation(Document):
    """The evaluation of a candidate, on images that no training has seen.

    It inherits the supernet's weights. Its batch norms get the statistics of some batches of training images under
    attack, since the supernet's are a mixture over all sub-networks (Guo et al., 2020, section 3.4). Then it is
    measured, finetuned and measured again (paper, section 3.2): the accuracy on held-out images, clean and under PGD
    with a random start.

    Args:
        finetune: the recipe of finetuning.
        images: how many of the training images, the first ones, finetuning uses.
        calibration: how many batches the norms' statistics are from; 0 keeps the supernet's.
        validation: how many of the held-out images, the first ones, measure accuracy.
        eps, step: of PGD, in image units.
        steps: how many steps PGD takes.
    """

    finetune: Recipe
    images: Annotated[int, Field(ge=2)] = 45_000
    calibration: Annotated[int, Field(ge=0, description="batches; 0 keeps the supernet's statistics")] = 8
    validation: Annotated[int, Field(ge=1)] = 1000
    eps: LinfPixels = "8/255"
    step: LinfPixels = "2/255"
    steps: Annotated[int, Field(ge=1)] = 20

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = _recipe_problems(self.finetune, ("finetune",))
        if self.finetune.attack.remembers:
            expected = "expected pgd or n_fgsm, by which the batch norms are calibrated too"
            problems.append((("finetune", "attack", "kind"), f"{expected}, got {self.finetune.attack.kind}"))
        if self.images < self.finetune.batch:
            problems.append(
                (("images",), f"expected at least a batch of finetune, {self.finetune.batch}, got {self.images}")
            )
        if problems:
            raise problems_error(problems)
        return self


class Filter(Document):
    """The choice of the candidates that are finetuned, by FSP distance (paper, section 3.5 and appendix F).

    Args:
        images: how many of the held-out images, the first ones, the distance of each cell is measured on.
        last: over how many of the last cells the distance is averaged.
        threshold: the highest mean distance that is kept. The paper's own 0.006 kept 68 of 300 candidates; it belongs
            to its network and its weights.
        keep: the share of candidates, those with the lowest distances, that is kept if there is no threshold.
    """

    images: Annotated[int, Field(ge=1)] = 500
    last: Annotated[int, Field(ge=1)] = 10
    threshold: Annotated[float | None, Field(gt=0)] = None
    keep: Annotated[float, Field(gt=0, le=1)] = 68 / 300


class CandidateGroup(Document):
    """Candidates that are drawn in the same way.

    Args:
        name: of the group.
        count: how many candidates it has.
        sampling: how they are drawn, all of them beforehand.
        sampler: chooses them instead, from the results so far, by Optuna: `tpe` seeks robust accuracy, `nsga2` robust
            accuracy and few multiply-adds.
        filter: which of them are finetuned, in a cell-free space.
    """

    name: Name
    count: Annotated[int, Field(ge=1, le=1_000_000)]
    sampling: Sampling = Sampling()
    sampler: Sampler | None = None
    filter: Filter | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sampler is not None and self.sampling != Sampling():
            raise problems_error([(("sampling",), f"expected none, as {self.sampler} chooses, got one")])
        if self.sampler is not None and self.filter is not None:
            raise problems_error([(("filter",), f"expected none, as {self.sampler} learns from all, got one")])
        return self


class Pick(Document):
    """A spec that the search writes: the architecture of a group with the highest robust accuracy after finetuning."""

    name: Name
    group: Name


class Sandwich(Document):
    """The sandwich rule (Yu and Huang, ICCV 2019), by which each update of a supernet trains several architectures.

    They are the whole supernet, random ones and the smallest, each attacked for itself; the loss is their mean.

    Args:
        random: how many are random.
        distillation: whether all but the whole supernet learn its answers under attack instead of the labels (in-place
            distillation).
        whole_first: the share of the run, at its start, in which the whole supernet is trained alone, as in progressive
            shrinking (Cai et al., "Once-for-All", ICLR 2020).
    """

    random: Annotated[int, Field(ge=1, le=100)] = 2
    distillation: bool = True
    whole_first: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @property
    def identity(self) -> dict[str, Any]:
        """Return what distinguishes it from others, as JSON: of fields that came later, those that are not default."""
        later = self.model_dump(mode="json", exclude_defaults=True)
        return {"random": self.random, "distillation": self.distillation} | later


class Branch(Document):
    """A supernet, the groups of candidates from it, and the specs that are picked from them.

    Args:
        kind: of the search space.
        network: what the supernet and the candidates are compiled in.
        supernet: a training recipe in which every update trains a random path. Its validation must be 0: the whole
            supernet is not a usable network.
        groups: of candidates.
        picks: the specs.
        sandwich: what an update of the supernet trains, if it is not one random path.
    """

    kind: Kind
    network: NetworkConfig
    supernet: Recipe
    groups: Annotated[Tuple[CandidateGroup], Field(min_length=1)]
    picks: Tuple[Pick] = ()
    sandwich: Sandwich | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [group.name for group in self.groups]
        problems: list[Problem] = [
            (("groups", index, "name"), f"expected each name once, got {name!r} again")
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        for index, group in enumerate(self.groups):
            if group.filter is not None and self.kind == "cell_based":
                problems.append(
                    (("groups", index, "filter"), "expected none, as FSP is of cell_free candidates, got one")
                )
        problems += _recipe_problems(self.supernet, ("supernet",))
        if self.supernet.compile:
            expected = "expected false, as each update trains another sub-network, got true"
            problems.append((("supernet", "compile"), expected))
        if self.supernet.objective.distillation is not None:
            expected = "expected none, as the average is of all sub-networks, got one"
            problems.append((("supernet", "objective", "distillation"), expected))
        if self.sandwich is not None and self.supernet.attack.remembers:
            expected = "expected pgd or n_fgsm for a sandwich, as each architecture has its own perturbation"
            problems.append((("supernet", "attack", "kind"), f"{expected}, got {self.supernet.attack.kind}"))
        for index, pick in enumerate(self.picks):
            if pick.group not in names:
                problems.append((("picks", index, "group"), f"expected one of {', '.join(names)}, got {pick.group!r}"))
        if problems:
            raise problems_error(problems)
        return self


def _recipe_problems(recipe: Recipe, path: Place) -> list[Problem]:
    """Return what a recipe asks for that a search cannot give: images are held out for candidates, not for weights."""
    problems: list[Problem] = []
    if recipe.validation:
        problems.append(
            ((*path, "validation"), f"expected 0, as held-out images judge candidates, got {recipe.validation}")
        )
    if recipe.attack.in_backward_pass:
        problems.append(((*path, "attack", "kind"), "expected pgd or n_fgsm, got free"))
    return problems


class SearchConfig(Document):
    """A whole search: from data to specs.

    Candidates are judged on the last tenth of the data (`Images.split`), on which nothing is trained. Images are
    resized to the network of a branch.

    Args:
        name, description: of the search.
        seed: of all its random numbers.
        nodes, operations: of the search space.
        full: the network of the picked specs, in which `Sampling.parameters` counts. If it is deeper than the network
            that a cell-free search chose a cell for each depth of, each cell is repeated (`SearchSpace.genotype`).
        images: how many of the training images, the first ones, are used; a supernet trains on nine tenths of them.
        evaluation: of candidates.
        branches: one for each kind of space.
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    name: Name
    description: str = ""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    nodes: Annotated[int, Field(ge=1, le=8)] = 4
    operations: Tuple[str] = ("identity", "sep_conv_3x3")
    full: NetworkConfig
    images: Annotated[int | None, Field(ge=10)] = None
    evaluation: Evaluation
    branches: Annotated[Tuple[Branch], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        kinds = [branch.kind for branch in self.branches]
        if len(set(kinds)) < len(kinds):
            raise problems_error([(("branches",), f"expected each kind once, got {', '.join(kinds)}")])
        for index, branch in enumerate(self.branches):
            if branch.kind == "cell_free" and self.full.depth % branch.network.depth:
                text = f"expected a depth that divides that of full, {self.full.depth}, as each cell is chosen, got"
                raise problems_error([(("branches", index, "network", "depth"), f"{text} {branch.network.depth}")])
            self.space(branch.kind).supernet()  # raises for unknown operations and impossible networks
        self._space("cell_based", self.full).supernet()
        names = [pick.name for branch in self.branches for pick in branch.picks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise problems_error([(("branches",), f"expected picks of different names, got {twice[0]!r} twice")])
        return self

    def space(self, kind: Kind) -> SearchSpace:
        """Return the search space of a branch. Raises SearchError if there is no such branch."""
        return self._space(kind, self.branch(kind).network)

    def _space(self, kind: Kind, network: NetworkConfig) -> SearchSpace:
        return SearchSpace(kind=kind, nodes=self.nodes, operations=self.operations, network=network)

    def branch(self, kind: Kind) -> Branch:
        """Return the branch of a kind. Raises SearchError if there is none."""
        for branch in self.branches:
            if branch.kind == kind:
                return branch
        kinds = ", ".join(branch.kind for branch in self.branches)
        raise SearchError(f"{self.name}: expected a branch of {kinds}, got {kind}")


CONFIGS = Bundled(SearchConfig, Path(__file__).parent / "configs", "search config")
config_names, load_config = CONFIGS.names, CONFIGS.load
