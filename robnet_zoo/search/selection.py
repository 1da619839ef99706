"""The specs that a search picks (paper, appendix F), with their provenance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from robnet_zoo.core.wording import counted
from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import Genotype, Provenance
from robnet_zoo.search.config import Pick, SearchConfig
from robnet_zoo.search.result import Candidate, StudyResult
from robnet_zoo.search.space import Kind

PAPER = "Guo et al., When NAS Meets Robustness, CVPR 2020, section 3 and appendix F"


def best(candidates: Iterable[Candidate]) -> Candidate:
    """Return the candidate with the highest robust accuracy after finetuning.

    Among equals, the higher clean accuracy decides, then the lower index. Raises SearchError if none was finetuned.
    """
    ranked = [
        (candidate.after.robust, candidate.after.clean, -candidate.index, candidate)
        for candidate in candidates
        if candidate.after is not None
    ]
    if not ranked:
        raise SearchError("expected candidates that were finetuned, got none")
    return max(ranked, key=lambda row: row[:3])[3]


def picks(result: StudyResult) -> list[tuple[Genotype, Candidate]]:
    """Return the specs that the config of a result asks for, each with its candidate.

    They are in the config's full network. Raises SearchError if a group has no finetuned candidate yet.
    """
    return [_picked(result, pick) for pick in result.branch.picks]


def _picked(result: StudyResult, pick: Pick) -> tuple[Genotype, Candidate]:
    group, config = result.group(pick.group), result.config
    try:
        chosen = best(group)
    except SearchError as error:
        raise SearchError(f"{config.name}/{result.kind}/{pick.group}: {error}") from None
    finetuned = sum(candidate.after is not None for candidate in group)
    source = f"the most robust of {finetuned:,} finetuned candidates among {len(group):,}"
    provenance = provenance_of(Judged.of_result(result), chosen, source=source)
    return result.space.genotype(chosen.codes, name=pick.name, network=config.full, provenance=provenance), chosen


@dataclass(frozen=True)
class Judged:
    """Candidates of a branch of a search, and what judged them.

    Args:
        config, kind: which branch of which search.
        candidates: those that are done.
        supernet: the `state_sha256` of the supernet whose weights they inherited.
        data: the name of the images.
        trained: on how many of them candidates were finetuned, in words.
    """

    config: SearchConfig
    kind: Kind
    candidates: tuple[Candidate, ...]
    supernet: str | None
    data: str
    trained: str

    @classmethod
    def of_result(cls, result: StudyResult) -> Judged:
        """Return the candidates of a results document."""
        trained = f"{result.training:,} images"
        return cls(result.config, result.kind, result.candidates, result.supernet_state_sha256, result.data, trained)


def provenance_of(judged: Judged, candidate: Candidate, *, source: str) -> Provenance:
    """Return the provenance of a candidate's spec.

    Args:
        judged: the search, and how its candidates were measured.
        candidate: that the spec is of.
        source: how it was chosen, in words.
    """
    config = judged.config
    return Provenance(
        source=f"robnet-zoo search: {source}",
        paper=PAPER,
        search=f"{config.name}/{judged.kind}/{candidate.group}/{candidate.index}",
        seed=config.seed,
        protocol=_protocol(judged, candidate),
        state_sha256=judged.supernet,
    )


def _protocol(judged: Judged, candidate: Candidate) -> str | None:
    """Return how a candidate was measured and what came out, or None if it was not measured."""
    evaluation, network = judged.config.evaluation, judged.config.space(judged.kind).network
    accuracy, after = candidate.after, f"after {counted(evaluation.finetune.epochs, 'epoch')} of finetuning"
    after += f" on {judged.trained}"
    if accuracy is None:
        accuracy, after = candidate.before, "with the supernet's weights"
    if accuracy is None:
        return None
    return (
        f"{accuracy.robust:.1%} robust and {accuracy.clean:.1%} clean on {evaluation.validation:,} held-out images "
        f"of {judged.data}, PGD-{evaluation.steps} in steps of {evaluation.step} at {evaluation.eps}, {after}, at "
        f"{counted(network.channels, 'channel')}, {counted(network.depth, 'cell')} and {network.input_size[1]} pixels"
    )
