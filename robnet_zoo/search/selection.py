"""The specs that come out of a search (paper, appendix F), with where they are from."""

from __future__ import annotations

from collections.abc import Iterable

from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import Genotype, Provenance
from robnet_zoo.search.config import Pick
from robnet_zoo.search.result import Candidate, StudyResult

PAPER = "Guo et al., When NAS Meets Robustness, CVPR 2020, section 3 and appendix F"


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The one with the highest robust accuracy after finetuning; of equal ones the higher clean accuracy decides, then
    the order. Raises SearchError if none was finetuned."""
    done = [(each.after.robust, each.after.clean, -each.index, each) for each in candidates if each.after is not None]
    if not done:
        raise SearchError("expected candidates that were finetuned, got none")
    return max(done, key=lambda each: each[:3])[3]


def picks(result: StudyResult) -> list[tuple[Genotype, Candidate]]:
    """The specs that the config of a result asks for, in the config's full network, each with its candidate.

    Raises SearchError where a group has no finetuned candidate yet.
    """
    return [_picked(result, pick) for pick in result.branch.picks]


def _picked(result: StudyResult, pick: Pick) -> tuple[Genotype, Candidate]:
    group, config = result.group(pick.group), result.config
    try:
        chosen = best(group)
    except SearchError as error:
        raise SearchError(f"{config.name}/{result.kind}/{pick.group}: {error}") from None
    finetuned = sum(each.after is not None for each in group)
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
        f"{evaluation.finetune.epochs} epochs of finetuning on {result.training:,} images, at {network.channels} "
        f"channels, {network.depth} cells and {network.input_size[1]} pixels"
    )
