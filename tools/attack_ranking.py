"""Say how attacks rank the candidates of a search: `python -m tools.attack_ranking --help`.

The first candidates of a branch are finetuned as the search does it. Cheap attacks judge them on some held-out images,
and `strong`'s gradient attack on as many others, so that no two share the noise of their images. The attack to search
with is the one whose accuracies rank candidates most like the strong one's, for its price. The document is saved behind
each candidate, and the same command goes on with what is left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field

from robnet_zoo.attacks import AdaptiveApgd, Apgd, Fgsm, Pgd
from robnet_zoo.benchmarks import Protocol, evaluate, of_module
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.progress import bar
from robnet_zoo.errors import SearchError
from robnet_zoo.search import Search, load_config
from robnet_zoo.search.analysis.estimates import spearman
from robnet_zoo.search.candidates import CandidateSet
from robnet_zoo.search.pipeline import BranchSearch
from robnet_zoo.zoo.weights import state_sha256
from tools import committed

DOCUMENT = committed.SEARCH / "attacks" / "small.json"
TRUTH = "adaptive_apgd"


class JudgedCandidate(Document):
    """A candidate after finetuning.

    codes: its cells'. correct: how many images are right, clean and by attack. backwards, seconds: for all images.
    """

    codes: Tuple[str]
    correct: dict[str, int]
    backwards: dict[str, int]
    seconds: dict[str, float]


class AttackRankingResult(Document):
    """Candidates under attacks. images: that each attack saw; TRUTH saw as many others."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    config: str
    kind: Literal["cell_based", "cell_free"]
    supernet_sha256: str
    data: str
    data_sha256: str
    images: Annotated[int, Field(ge=1)]
    cheap: Protocol
    strong: Protocol
    device: str
    software: dict[str, str]
    candidates: Tuple[JudgedCandidate]


def protocols(eps: str, step: str) -> tuple[Protocol, Protocol]:
    """Return the cheap attacks and the strong one."""
    cheap = (Fgsm(), *(Pgd(steps=steps, step=step) for steps in (7, 20)), Apgd(steps=50))
    return (
        Protocol(name="cheap", eps=eps, attacks=cheap, batch=100, dtype="float32"),
        Protocol(name="strong", eps=eps, attacks=(AdaptiveApgd(),), batch=100, dtype="float32"),
    )


def table(result: AttackRankingResult) -> str:
    """Return a row for each attack, in Markdown, below a line on all of them."""
    heads = ["attack", "gradients an image", "seconds a candidate", "mean accuracy"]
    heads.append(f"rank correlation with `{TRUTH}` on other images")
    judged, n = result.candidates, result.images
    truth = [candidate.correct[TRUTH] for candidate in judged]
    lines = [
        f"{len(judged)} {result.kind.replace('_', '-')} candidates of `{result.config}`, finetuned; {n:,} held-out "
        f"images of {result.data} an attack, eps {result.cheap.eps}; {result.device}",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for attack in ("clean", *(attack.title for attack in (*result.cheap.attacks, *result.strong.attacks))):
        right = [candidate.correct[attack] for candidate in judged]
        means = [sum(values) / len(judged) for values in (right, [candidate.backwards[attack] for candidate in judged])]
        seconds = sum(candidate.seconds[attack] for candidate in judged) / len(judged)
        order = (
            "–" if attack == TRUTH else f"{spearman(right, truth).value:+.2f} ({spearman(right, truth).interval:+.2f})"
        )
        lines.append(f"| {attack} | {means[1] / n:.1f} | {seconds:.1f} | {means[0] / n:.1%} | {order} |")
    return "\n".join(lines)


def judge(part: BranchSearch, codes: tuple[str, ...], cheap: Protocol, strong: Protocol, n: int) -> JudgedCandidate:
    """Finetune a candidate and attack it, on n held-out images and by the strong attack on the next n."""
    network = part.evaluator.finetuned(part.space.genotype(codes, name="candidate"))
    target, held_out = of_module(network, name="candidate", dtype="float32"), part.split[1]
    parts = [
        evaluate(target, images, protocol, progress=False).measurements
        for images, protocol in ((held_out[:n], cheap), (held_out[n : 2 * n], strong))
    ]
    measurements = [*parts[0], *parts[1][1:]]  # without attack, on the former images
    return JudgedCandidate(
        codes=codes,
        correct={measured.attack: sum(measured.correct) for measured in measurements},
        backwards={measured.attack: sum(measured.backwards) for measured in measurements},
        seconds={measured.attack: round(measured.seconds, 3) for measured in measurements},
    )


def main(
    *,
    data: str,
    search: Path,
    config: str = "small",
    kind: Literal["cell_based", "cell_free"] = "cell_based",
    candidates: int = 50,
    images: int = 500,
    document: Path = DOCUMENT,
) -> None:
    """Judge candidates by every attack and print the table.

    Args:
        data: Training images, of which the last tenth is held out.
        search: The folder of a search, whose supernet is trained if it is not yet.
        config: Of the search, by bundled name or path.
        kind: The branch.
        candidates: How many of its first group.
        images: How many an attack sees.
        document: The results; what it has is kept.
    """
    torch.set_num_threads(1)
    plan = load_config(config)
    whole = Search(plan, data, search)
    part = whole.part(kind)
    if 2 * images > (held_out := len(part.split[1])):
        raise SearchError(f"images: expected at most half of the {held_out:,} that are held out, got {images}")
    whole.claim()
    part.supernet()
    drawn = CandidateSet.of_group(plan, kind, part.branch.groups[0]).candidates or ()
    cheap, strong = protocols(plan.evaluation.eps, plan.evaluation.step)
    sha256 = state_sha256(part.evaluator.supernet.state_dict())
    judged: list[JudgedCandidate] = []
    if document.is_file():
        written = AttackRankingResult.load(document)
        before = (written.supernet_sha256, written.images, written.data_sha256, written.cheap, written.strong)
        if before != (sha256, images, whole.images.sha256, cheap, strong):
            raise SearchError(f"{document}: expected no document or one of this supernet, {images} images and attacks")
        judged += written.candidates
    with bar(total=candidates, done=len(judged), unit="candidates") as shown:
        for _, codes in drawn[len(judged) : candidates]:
            judged.append(judge(part, codes, cheap, strong, images))
            AttackRankingResult(
                config=plan.name,
                kind=kind,
                supernet_sha256=sha256,
                data=whole.images.name,
                data_sha256=whole.images.sha256,
                images=images,
                cheap=cheap,
                strong=strong,
                device=device(part.evaluator.device),
                software=software(),
                candidates=tuple(judged),
            ).save(document)
            shown.update(1)
    print(table(AttackRankingResult.load(document)))


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
