"""The specs that a search picks (paper, appendix F), with their provenance."""

from __future__ import annotations

from collections.abc import Iterable

from robnet_zoo.core.wording import counted
from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import Genotype, Provenance
from robnet_zoo.search.config import Pick
from robnet_zoo.search.result import Candidate, StudyResult

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
    provenance = Provenance(
        source=f"robnet-zoo search: the most robust of {finetuned:,} finetuned candidates among {len(group):,}",
        paper=PAPER,
        search=f"{config.name}/{result.kind}/{chosen.group}/{chosen.index}",
        seed=config.seed,
        protocol=_protocol(result, chosen),
        weights_sha256=result.supernet_state_sha256,
    )
    return result.space.genotype(chosen.codes, name=pick.name, network=config.full, provenance=provenance), chosen


def _protocol(result: StudyResult, chosen: Candidate) -> str:
    evaluation, network = result.config.evaluation, result.space.network
    assert chosen.after is not None
    return (
        f"{chosen.after.robust:.1%} robust and {chosen.after.clean:.1%} clean on {result.validation:,} held-out images "
        f"of {result.data}, PGD-{evaluation.steps} in steps of {evaluation.step} at {evaluation.eps}, after "
        f"{counted(evaluation.finetune.epochs, 'epoch')} of finetuning on {result.training:,} images, at "
        f"{counted(network.channels, 'channel')}, {counted(network.depth, 'cell')} and {network.input_size[1]} pixels"
    )
