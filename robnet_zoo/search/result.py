"""The results documents of a search. Analysis, report and specs are made from them alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from robnet_zoo.core.documents import Document, Tuple, exactly, renamed, version
from robnet_zoo.core.units import Share
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.search.config import Branch, SearchConfig
from robnet_zoo.search.space import Codes, Kind, SearchSpace
from robnet_zoo.training.recipe import Recipe


class Accuracy(Document):
    """The shares of the held-out images that are classified correctly: without an attack, and under PGD."""

    clean: Share
    robust: Share

    @property
    def gap(self) -> float:
        """Return the difference clean - robust (paper, figures 7 and 8)."""
        return self.clean - self.robust


class Candidate(Document):
    """An architecture with its measurements.

    Args:
        group, index: which of the config's candidates it is.
        codes: its α.
        hash: of its spec in the search's network.
        before, after: its accuracy before and after finetuning. `after` is None if the filter rejected it.
        fsp: the FSP distance of each cell (paper, equation 4) before finetuning, if the group has a filter.
        seconds: how long the work on it took.
    """

    group: str
    index: Annotated[int, Field(ge=0)]
    codes: Codes
    hash: str
    before: Accuracy | None = None
    after: Accuracy | None = None
    fsp: Tuple[float] = ()
    seconds: Annotated[float, Field(ge=0)] = 0.0


class StudyResult(Document):
    """All candidates of one branch of a search, by group and index.

    Args:
        config, kind: which branch of which search.
        supernet_state_sha256: of the supernet's state dict.
        supernet_accuracy: of the whole supernet, every element of α at 1, on the held-out images.
        data, data_sha256: of the images.
        training, validation: on how many of them candidates were finetuned and measured.
        software, device: what measured them.
    """

    max_bytes: ClassVar[int] = 64 * 2**20

    schema_version: Annotated[Literal[2], version(2, oldest=1)] = 2
    config: SearchConfig
    kind: Kind
    supernet_state_sha256: str
    supernet_accuracy: Accuracy | None = None
    data: str
    data_sha256: str
    training: Annotated[int, Field(ge=0)]
    validation: Annotated[int, Field(ge=1)]
    software: dict[str, str]
    device: str
    candidates: Tuple[Candidate]

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "supernet_sha256", "supernet_state_sha256")

    @property
    def space(self) -> SearchSpace:
        """Return the space of the candidates."""
        return self.config.space(self.kind)

    @property
    def branch(self) -> Branch:
        """Return the branch of the config."""
        return self.config.branch(self.kind)

    def spec(self, candidate: Candidate) -> Genotype:
        """Return a candidate's architecture in the network of the search."""
        return self.space.genotype(candidate.codes, name=f"{candidate.group}_{candidate.index}")

    def group(self, name: str) -> tuple[Candidate, ...]:
        """Return the candidates of a group, by index."""
        return tuple(candidate for candidate in self.candidates if candidate.group == name)


class TrainedCandidate(Document):
    """A candidate that was also trained on its own.

    Args:
        candidate: as the study has it, with the accuracy that it inherits and the one after finetuning.
        standalone: its accuracy after training from random weights.
        seconds: how long that took, since the last time that the command was started.
    """

    candidate: Candidate
    standalone: Accuracy
    seconds: Annotated[float, Field(ge=0)]


class StandaloneResult(Document):
    """Candidates of a study that were also trained on their own.

    Args:
        search, kind: the name of the study's config, and its branch.
        supernet_state_sha256: of the supernet that the candidates inherited from.
        data, data_sha256: of the images, which are those of the study.
        training, validation: on how many of them each candidate was trained and measured; they are not those that the
            study's accuracies are of.
        recipe: of the training.
        software, device: what measured them.
        candidates: in the order of the study.
    """

    max_bytes: ClassVar[int] = StudyResult.max_bytes

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    search: str
    kind: Kind
    supernet_state_sha256: str
    data: str
    data_sha256: str
    training: Annotated[int, Field(ge=0)]
    validation: Annotated[int, Field(ge=1)]
    recipe: Recipe
    software: dict[str, str]
    device: str
    candidates: Tuple[TrainedCandidate] = ()

    def continues(self, other: StandaloneResult) -> bool:
        """Return whether another result is of the same study and the same training, with any of its candidates."""
        parts = ("search", "kind", "supernet_state_sha256", "data_sha256", "recipe")
        return all(getattr(self, part) == getattr(other, part) for part in parts)
