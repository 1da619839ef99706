"""What a search does, as a document; the bundled ones are `configs/*.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.core.bundled import Bundled
from robnet_zoo.core.documents import Document, Place, Problem, Tuple, exactly, problems_error
from robnet_zoo.core.units import Pixels
from robnet_zoo.genotype.genotype import Name, NetworkConfig
from robnet_zoo.search.sampling import Sampling
from robnet_zoo.search.space import Kind, SearchSpace
from robnet_zoo.training.recipe import Recipe

Sampler = Literal["tpe", "nsga2"]


class Evaluation(Document):
    """How a candidate is judged, on images that no training has seen.

    It inherits the supernet's weights, and its batch norms the statistics of `calibration` batches of training images
    under attack, as those of the supernet are a mixture over all sub-networks (Guo et al., 2020, section 3.4). Then it
    is measured, trained on the first `images` training images by `finetune`, and measured again (paper, section 3.2).
    Measured is the accuracy on the first `validation` held-out images, clean and under PGD with a random start, `steps`
    steps of `step` in the ball of `eps`.
    """

    finetune: Recipe
    images: Annotated[int, Field(ge=2)] = 45_000
    calibration: Annotated[int, Field(ge=0, description="batches; 0 keeps the supernet's statistics")] = 8
    validation: Annotated[int, Field(ge=1)] = 1000
    eps: Pixels = "8/255"
    step: Pixels = "2/255"
    steps: Annotated[int, Field(ge=1)] = 20

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = _recipe_problems(self.finetune, ("finetune",))
        if self.images < self.finetune.batch:
            found.append(
                (("images",), f"expected at least a batch of finetune, {self.finetune.batch}, got {self.images}")
            )
        if found:
            raise problems_error(found)
        return self


class Filter(Document):
    """Which candidates are finetuned, by their FSP distance (paper, section 3.5 and appendix F).

    The distance of each cell is measured on the first `images` held-out images; the mean over the `last` cells must
    not be above `threshold`, or, where that is none, among the `keep` lowest of all candidates. The paper's own 0.006
    kept 68 of 300; it belongs to its network and its weights.
    """

    images: Annotated[int, Field(ge=1)] = 500
    last: Annotated[int, Field(ge=1)] = 10
    threshold: Annotated[float | None, Field(gt=0)] = None
    keep: Annotated[float, Field(gt=0, le=1)] = 68 / 300


class CandidateGroup(Document):
    """Candidates that are drawn alike.

    sampling: which ones, all drawn beforehand. sampler: instead, Optuna's choice from what is known by then: `tpe`
    seeks robust accuracy, `nsga2` robust accuracy and few multiply-adds. filter: of cell-free candidates.
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
    """A spec that comes out: of a group, the architecture with the highest robust accuracy after finetuning."""

    name: Name
    group: Name


class Branch(Document):
    """A supernet, the groups of candidates from it, and the specs that are picked from those.

    network: what the supernet and the candidates are compiled in. epochs and all else of `supernet` are a training
    recipe's, each update of a random path; it validates nothing, as a supernet as a whole is no network to be used.
    """

    kind: Kind
    network: NetworkConfig
    supernet: Recipe
    groups: Annotated[Tuple[CandidateGroup], Field(min_length=1)]
    picks: Tuple[Pick] = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [group.name for group in self.groups]
        found: list[tuple[tuple[str | int, ...], str]] = [
            (("groups", index, "name"), f"expected each name once, got {name!r} again")
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        for index, group in enumerate(self.groups):
            if group.filter is not None and self.kind == "cell_based":
                found.append((("groups", index, "filter"), "expected none, as FSP is of cell_free candidates, got one"))
        found += _recipe_problems(self.supernet, ("supernet",))
        for index, pick in enumerate(self.picks):
            if pick.group not in names:
                found.append((("picks", index, "group"), f"expected one of {', '.join(names)}, got {pick.group!r}"))
        if found:
            raise problems_error(found)
        return self


def _recipe_problems(recipe: Recipe, place: Place) -> list[Problem]:
    """What a recipe in a search may not ask for: images are held out to judge candidates, not to choose weights by."""
    found: list[Problem] = []
    if recipe.validation:
        found.append(
            ((*place, "validation"), f"expected 0, as held-out images judge candidates, got {recipe.validation}")
        )
    if recipe.attack.kind == "free":
        found.append(((*place, "attack", "kind"), "expected pgd or n_fgsm, got free"))
    return found


class SearchConfig(Document):
    """A whole search: from data to specs.

    full: what the picked specs are compiled in, and what `Sampling.parameters` counts; where it is deeper than the
    network that a cell was chosen for each depth of, each cell is repeated (`SearchSpace.genotype`).
    images: how many of the training images are used, the first ones; a supernet trains on nine tenths of them.
    Candidates are judged on the last tenth of the data (`Images.split`), which nothing is trained on. Images are
    brought to the size of a branch's network.
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
            self.space(branch.kind).supernet()  # finds an unknown operation, or a network that no spec can have
        self._space("cell_based", self.full).supernet()
        names = [pick.name for branch in self.branches for pick in branch.picks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise problems_error([(("branches",), f"expected picks of different names, got {twice[0]!r} twice")])
        return self

    def space(self, kind: Kind) -> SearchSpace:
        """The search space of a branch."""
        return self._space(kind, self.branch(kind).network)

    def _space(self, kind: Kind, network: NetworkConfig) -> SearchSpace:
        return SearchSpace(kind=kind, nodes=self.nodes, operations=self.operations, network=network)

    def branch(self, kind: Kind) -> Branch:
        """The branch of a kind. Raises KeyError."""
        for branch in self.branches:
            if branch.kind == kind:
                return branch
        raise KeyError(kind)


CONFIGS = Bundled(SearchConfig, Path(__file__).parent / "configs", "search config")
config_names, load_config = CONFIGS.names, CONFIGS.load
