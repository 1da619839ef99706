"""Measure the sandwich rule and in-place distillation against single paths: `python -m tools.sandwich --help`.

Searches differ in nothing but what an update of the supernet trains and in the number of epochs, so that each trains
equally many architectures on equally many attacked batches. The yardstick is the rank correlation between the robust
accuracy that a candidate inherits and the one that it reaches alone, from random weights, on other held-out images. The
document has the rows of every seed that it was measured with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import cyclopts
from pydantic import Field

from robnet_zoo.benchmarks.protocol import Sha256
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.units import LinfPixels, Share, fraction
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import SearchError
from robnet_zoo.genotype.genotype import NetworkConfig
from robnet_zoo.search.analysis.inheritance import Inheritance, inheritance
from robnet_zoo.search.config import Branch, CandidateGroup, Evaluation, Sandwich, SearchConfig, load_config
from robnet_zoo.search.pipeline import Search
from robnet_zoo.search.result import Accuracy, StandaloneResult, StudyResult
from robnet_zoo.search.standalone import train_standalone
from robnet_zoo.training import Recipe, TrainingAttack
from robnet_zoo.training.recipe import Augmentation

RULES: Mapping[str, Sandwich | None] = MappingProxyType(
    {
        "path": None,
        "sandwich": Sandwich(distillation=False),
        "distilled": Sandwich(),
        "whole_first": Sandwich(whole_first=0.5),
    }
)
NETWORK = NetworkConfig(
    stem="cifar", channels=8, depth=4, reductions=(1, 2), num_classes=10, input_size=(3, 8, 8), affine=False
)
app = cyclopts.App(help=__doc__)


class RuleResult(Document):
    """What one supernet of a rule is worth.

    Args:
        rule: a key of RULES.
        seed: of the search and its supernet.
        epochs: of the supernet.
        supernet: the accuracy of the whole.
        inherited, finetuned, alone: the mean robust accuracies of the candidates.
        orders: their rank correlations.
    """

    rule: str
    seed: Annotated[int, Field(ge=0)]
    epochs: Annotated[int, Field(ge=1)]
    supernet: Accuracy | None = None
    inherited: Share
    finetuned: Share
    alone: Share
    orders: Inheritance


class SandwichResult(Document):
    """Rules beside each other, with the same candidates for a seed.

    Args:
        data, data_sha256: of the images.
        training, validation: on how many of them a supernet is trained, and a candidate measured.
        eps: of all attacks.
        epochs, alone_epochs: of the sandwiches, and of candidates that are trained alone.
        candidates: how many, of each seed.
        software, device: what measured them.
        rows: by seed and rule.
    """

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    data: str
    data_sha256: Sha256
    training: Annotated[int, Field(ge=1)]
    validation: Annotated[int, Field(ge=1)]
    eps: LinfPixels
    epochs: Annotated[int, Field(ge=1)]
    alone_epochs: Annotated[int, Field(ge=1)]
    candidates: Annotated[int, Field(ge=4)]
    software: dict[str, str]
    device: str
    rows: Tuple[RuleResult] = ()


def members(sandwich: Sandwich | None) -> float:
    """Return how many architectures an update trains, in the mean of a run."""
    if sandwich is None:
        return 1
    return sandwich.whole_first + (1 - sandwich.whole_first) * (2 + sandwich.random)


def config(
    rule: str,
    *,
    epochs: int,
    candidates: int,
    seed: int = 0,
    eps: str = "16/255",
    images: int | None = None,
    validation: int = 64,
) -> SearchConfig:
    """Return the search of a rule on images of 8 pixels.

    Args:
        rule: a key of RULES.
        epochs: of the sandwiches; rules that train fewer architectures in an update have as many more.
        candidates: how many are drawn, uniformly.
        seed: of the search and of its supernet.
        eps: of all attacks.
        images: how many of the training images the supernet sees; by default all.
        validation: how many held-out images measure a candidate.
    """
    sandwich = RULES[rule]
    attack = TrainingAttack(kind="n_fgsm", eps=eps, step=eps, steps=1, dtype="float32", statistics="batch")
    plain = Augmentation(crop=1, flip=False)
    supernet = Recipe(
        name=rule,
        epochs=round(epochs * members(Sandwich()) / members(sandwich)),
        batch=64,
        lr=0.1,
        attack=attack,
        augmentation=plain,
        dtype="float32",
        validation=0,
        seed=seed,
    )
    finetune = supernet.model_copy(update={"name": "finetune", "epochs": 2, "lr": 0.02, "seed": 0})
    branch = Branch(
        kind="cell_based",
        network=NETWORK,
        supernet=supernet,
        groups=(CandidateGroup(name="uniform", count=candidates),),
        sandwich=sandwich,
    )
    return SearchConfig(
        name=f"pixels_8_{rule}",
        seed=seed,
        full=load_config("small").full,
        images=images,
        evaluation=Evaluation(
            finetune=finetune,
            images=640,
            calibration=4,
            validation=validation,
            eps=eps,
            step=str(fraction(eps) / 4),
            steps=7,
        ),
        branches=(branch,),
    )


def beside(result: StudyResult, alone: StandaloneResult) -> StandaloneResult:
    """Return the candidates that were trained alone with what they inherit in another study of the same candidates."""
    trained = [
        each.model_copy(update={"candidate": candidate})
        for each, candidate in zip(alone.candidates, result.candidates, strict=False)
    ]
    assert [each.candidate.codes for each in alone.candidates] == [each.candidate.codes for each in trained]
    return alone.model_copy(update={"candidates": tuple(trained)})


def judged(rule: str, result: StudyResult, alone: StandaloneResult) -> RuleResult:
    """Return what a rule's supernet is worth, by its study and its candidates that were trained alone."""
    trained = beside(result, alone)
    means = [
        sum(accuracies) / len(accuracies)
        for accuracies in (
            [each.before.robust for each in result.candidates if each.before],
            [each.after.robust for each in result.candidates if each.after],
            [each.standalone.robust for each in trained.candidates],
        )
    ]
    return RuleResult(
        rule=rule,
        seed=result.config.seed,
        epochs=result.branch.supernet.epochs,
        supernet=result.supernet_accuracy,
        inherited=means[0],
        finetuned=means[1],
        alone=means[2],
        orders=inheritance(trained),
    )


def table(result: SandwichResult) -> str:
    """Return a row for each rule: its supernets, and how what candidates inherit ranks them, in Markdown.

    Figures are means over the seeds, but for the rank correlations, which are those of each seed.
    """
    heads = ["an update trains", "epochs", "supernet, clean", "supernet, robust", "inherited robust"]
    heads += ["finetuned robust", "inherited and alone", "finetuned and alone", "inherited and finetuned"]
    seeds = list(dict.fromkeys(row.seed for row in result.rows))
    told = f"{result.candidates} candidates for seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    lines = [
        f"{told}, {_percent([row.alone for row in result.rows])} robust when trained alone for "
        f"{counted(result.alone_epochs, 'epoch')}; {result.training:,} images of {result.data} at 8 pixels, eps "
        f"{result.eps}, {result.validation:,} held-out images; {result.device}",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for rule in dict.fromkeys(row.rule for row in result.rows):
        rows = [row for row in result.rows if row.rule == rule]
        whole = [row.supernet for row in rows if row.supernet is not None]
        cells = [rule, str(rows[0].epochs)]
        cells += [_percent([each.clean for each in whole]), _percent([each.robust for each in whole])]
        cells += [_percent([row.inherited for row in rows]), _percent([row.finetuned for row in rows])]
        for name in ("inherited", "finetuned", "before_after"):
            orders = [getattr(row.orders, name) for row in rows]
            cells.append(", ".join("–" if order is None else f"{order.value:+.2f}" for order in orders))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _percent(shares: list[float]) -> str:
    return f"{sum(shares) / len(shares):.1%}" if shares else "–"


def _written(document: Path, expected: Mapping[str, object]) -> SandwichResult | None:
    """Return what is in a document, if there is one. Raises SearchError if a field has not the value expected of it."""
    if not document.exists():
        return None
    written = SandwichResult.load(document)
    for name, value in expected.items():
        if getattr(written, name) != value:
            got = getattr(written, name)
            raise SearchError(f"{document}: expected no document or one whose {name} is {value}, got {got}")
    return written


def _beside_others(document: Path, result: SandwichResult) -> SandwichResult:
    """Return a result with the rows that a document has of other seeds. Raises SearchError for one of another kind."""
    written = _written(document, {name: getattr(result, name) for name in type(result).model_fields if name != "rows"})
    if written is None:
        return result
    others = [row for row in written.rows if row.seed not in {row.seed for row in result.rows}]
    return result.model_copy(update={"rows": tuple(sorted([*others, *result.rows], key=lambda row: row.seed))})


@app.default
def measure(
    *,
    output: Path,
    document: Path | None = None,
    data: str = "digits",
    epochs: int = 5,
    candidates: int = 20,
    alone: int = 20,
    seed: int = 0,
    eps: str = "16/255",
    images: int | None = None,
    validation: int = 64,
) -> None:
    """Run the searches, or what is left of them, train the candidates alone and print a table.

    Args:
        output: A folder for the searches and for what is trained alone.
        document: A file for the figures, to which those of other seeds are added; by default there is none.
        data: Training images, which are made small: 8 pixels a side.
        epochs: Of the sandwiches; single paths have four times as many.
        candidates: How many are drawn, the same for each rule.
        alone: The epochs of candidates that are trained alone.
        seed: Of the searches and their supernets.
        eps: Of all attacks.
        images: How many training images the supernets see; by default all.
        validation: How many held-out images measure a candidate; as many others measure those trained alone.
    """
    asked = {
        "validation": validation,
        "eps": eps,
        "epochs": epochs,
        "alone_epochs": alone,
        "candidates": candidates,
    }
    if document is not None:
        _written(document, asked)
    results = {}
    for rule in RULES:
        chosen = config(
            rule, epochs=epochs, candidates=candidates, seed=seed, eps=eps, images=images, validation=validation
        )
        search = Search(chosen, data, output / rule, None, shown=True)
        search.run()
        results[rule] = StudyResult.load(search.documents["cell_based"])
    first = results["path"]
    recipe = first.branch.supernet.overridden({"name": "alone", "epochs": alone})
    trained = train_standalone(first, data, output / "alone", count=candidates, recipe=recipe)
    measured = SandwichResult(
        data=trained.data,
        data_sha256=trained.data_sha256,
        training=trained.training,
        **asked,
        software=trained.software,
        device=trained.device,
        rows=tuple(judged(rule, result, trained) for rule, result in results.items()),
    )
    if document is not None:
        measured = _beside_others(document, measured)
        measured.save(document)
    print(table(measured))


if __name__ == "__main__":
    app()
