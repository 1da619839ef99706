"""A result as RobustBench keeps its own: the JSON of its `model_info/DATASET/THREAT/MODEL.json`.

The keys, their order and their types are those of its leaderboard's generator (robustbench/leaderboard/template.py):
figures are texts in percent with two decimals, eps a text as the leaderboard spells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from robnet_zoo.attacks.autoattack import AutoAttack
from robnet_zoo.benchmarks.checks.results import kind_of
from robnet_zoo.benchmarks.result import Measurement, Result
from robnet_zoo.core.units import fraction
from robnet_zoo.errors import RobustBenchError

Dataset = Literal["cifar10", "cifar100", "imagenet"]
Threat = Literal["Linf", "L2"]

BUDGETS = MappingProxyType(
    {
        ("cifar10", "Linf"): "8/255",
        ("cifar10", "L2"): "0.5",
        ("cifar100", "Linf"): "8/255",
        ("imagenet", "Linf"): "4/255",
    }
)
"""eps of its leaderboards, in its spelling."""
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CLASSES = MappingProxyType({"cifar10": 10, "cifar100": 100, "imagenet": 1000})
TEST_IMAGES = MappingProxyType({"cifar10": 10_000, "cifar100": 10_000, "imagenet": 5_000})  # that it evaluates on


def model_info(
    result: Result,
    *,
    link: str,
    name: str,
    authors: str,
    venue: str,
    dataset: Dataset = "cifar10",
    threat: Threat = "Linf",
    architecture: str | None = None,
    additional_data: bool = False,
    reported: float | None = None,
) -> dict[str, str | bool | int]:
    """Return RobustBench's entry for a result, ready for `json.dumps(..., indent=2)`.

    A footnote says which images it is of, where they are not the whole test set, and which flags AutoAttack raised.

    Args:
        result: a complete result with the standard AutoAttack in this threat's norm and eps.
        link: of the paper.
        name: the title of the paper.
        authors: of the paper, separated by commas.
        venue: of the paper.
        dataset: the data set whose test images were measured.
        threat: the norm of the attacks.
        architecture: by default from the model's name, RobNet-free for robnet_free.
        additional_data: whether more than the data set's training images were used.
        reported: the robust accuracy that the paper reports, as a share; by default this one.

    Raises: RobustBenchError if the result is anything else, or `reported` is no share.
    """
    if reported is not None and not 0 <= reported <= 1:  # NaN too
        raise RobustBenchError(f"expected the reported accuracy as a share, from 0 to 1, got {reported:g}")
    attacked = _standard(result, dataset=dataset, threat=threat)
    robust = _percent(attacked.accuracy)
    info: dict[str, str | bool | int] = {
        "link": link,
        "name": name,
        "authors": authors,
        "additional_data": additional_data,
        "number_forward_passes": 1,
        "dataset": dataset,
        "venue": venue,
        "architecture": _architecture(result.model.name) if architecture is None else architecture,
        "eps": BUDGETS[dataset, threat],
        "clean_acc": _percent(result.accuracy("clean")),
        "reported": robust if reported is None else _percent(reported),
        "autoattack_acc": robust,
    }
    notes = []
    if result.data.n != TEST_IMAGES[dataset]:
        notes.append(_few(result, dataset))
    if attacked.flags:
        notes.append(f"AutoAttack raised flags: {', '.join(attacked.flags)}.")
    return info | ({"footnote": " ".join(notes)} if notes else {})


def issue_text(
    info: Mapping[str, str | bool | int], result: Result, *, checkpoint: str, threat: Threat = "Linf"
) -> str:
    """Return the text of the issue that asks RobustBench for a new model, under the headings of its template.

    Whether a model joins its zoo and under which licence stays open: the boxes are left for whoever sends it.

    Args:
        info: the entry of the model (`model_info`).
        result: the document that the entry is of.
        checkpoint: a link to weights and code.
        threat: the norm that the entry is of.
    """
    lines = [
        "# Paper Information",
        "",
        f"- **Paper Title**: {info['name']}",
        f"- **Paper URL**: {info['link']}",
        f"- **Paper authors**: {info['authors']}",
        f"- **Venue**: {info['venue']}",
        "",
        "# Leaderboard Claim(s)",
        "",
        "## Model 1",
        "",
        f"- **Architecture**: {info['architecture']}",
        f"- **Dataset**: {info['dataset']}",
        f"- **Threat Model**: {threat}",
        f"- **eps**: {info['eps']}",
        f"- **Clean accuracy**: {info['clean_acc']}",
        f"- **Robust accuracy**: {info['autoattack_acc']}",
        f"- **Additional data**: {str(info['additional_data']).lower()}",
        "- **Evaluation method**: AutoAttack, standard version",
        f"- **Checkpoint and code**: {checkpoint}",
        "",
        "# Model Zoo:",
        "",
        "- [ ] I want to add my models to the Model Zoo (check if true)",
        "- [ ] I use an architecture that is **not** included among those of the Model Zoo (check if true)",
        "- [ ] I agree to release my model(s) under MIT license (check if true) **OR**",
        "- [ ] I want my models to be released under a custom license, located here: ",
        "",
        "# Additional information",
        "",
        *_measured(result),
    ]
    if "footnote" in info:
        lines.append(f"- {info['footnote']}")
    return "\n".join(lines) + "\n"


def evaluation_text(
    result: Result, *, model: str, authors: str, link: str, dataset: Dataset = "cifar10", threat: Threat = "Linf"
) -> str:
    """Return the text of the issue that sends RobustBench another evaluation of a model of its zoo.

    Args:
        result: a complete white-box result in this threat's norm and eps, by any attacks.
        model: the model's name in its zoo.
        authors: of the evaluation.
        link: to the tensor of adversarial images.
        dataset: the data set whose test images were measured.
        threat: the norm of the attacks.

    Raises: RobustBenchError if the result is anything else.
    """
    _check(result, dataset=dataset, threat=threat)
    attacks = result.protocol.attacks
    if other := [attack.title for attack in attacks if attack.ball != threat.lower()]:
        expected = f"expected attacks in {threat.lower()} alone, got {', '.join(other)} too"
        raise RobustBenchError(f"{result.model.name}: {expected}")
    robust = (result.worst_case or result.measurement(attacks[-1].title)).accuracy
    method = "; ".join(f"{attack.title}: {attack.model_dump_json(exclude_none=True)}" for attack in attacks)
    lines = [
        "## Target model",
        f"+ **Model identifier(s):** {model}",
        f"+ **Leaderboard(s):** {dataset}, {threat}, eps = {BUDGETS[dataset, threat]}",
        "",
        "## New evaluation",
        f"+ **Link to adversarial images:** {link}",
        f"+ **Robust accuracy:** {_percent(robust)}",
        f"+ **Author(s):** {authors}",
        f"+ **Description of the method used:** an image counts as right if every attack leaves it right; {method}",
        "",
        "## Additional information",
        "",
        *_measured(result),
    ]
    if result.data.n != TEST_IMAGES[dataset]:
        lines.append(f"- {_few(result, dataset)}")
    return "\n".join(lines) + "\n"


def _measured(result: Result) -> list[str]:
    """Return what was measured, on what and with what, a line each."""
    software = ", ".join(f"{name} {version}" for name, version in result.software.items())
    return [
        f"- weights: sha256 {result.model.weights}, {result.model.parameters} parameters",
        f"- images: {result.data.name}, n = {result.data.n}, sha256 {result.data.sha256}",
        f"- measured with: {software}; {result.device}",
        *(f"- {kind_of(alarm).severity.word.lower()}: {alarm}" for alarm in result.alarms),
    ]


def _few(result: Result, dataset: Dataset) -> str:
    return f"Evaluated on {result.data.n} images ({result.data.name}) instead of {TEST_IMAGES[dataset]}."


def _standard(result: Result, *, dataset: Dataset, threat: Threat) -> Measurement:
    """Return the measurement that counts: the standard AutoAttack's."""
    _check(result, dataset=dataset, threat=threat)
    protocol, model = result.protocol, result.model.name
    wrapped = [attack for attack in protocol.attacks if isinstance(attack, AutoAttack)]
    standard = [attack for attack in wrapped if attack.version == "standard" and attack.norm == threat.lower()]
    if not standard:
        got = ", ".join(f"{attack.version} in {attack.norm}" for attack in wrapped) or "no AutoAttack"
        raise RobustBenchError(f"{model}: expected the standard AutoAttack in {threat.lower()}, got {got}")
    return result.measurement(standard[0].title)


def _check(result: Result, *, dataset: Dataset, threat: Threat) -> None:
    """Raise RobustBenchError unless a result is complete, of a white box and of a leaderboard's images and eps."""
    protocol, model = result.protocol, result.model.name
    budget = BUDGETS.get((dataset, threat))
    if budget is None:
        known = ", ".join("/".join(leaderboard) for leaderboard in BUDGETS)
        raise RobustBenchError(f"expected a leaderboard of RobustBench's ({known}), got {dataset}/{threat}")
    names = result.data.classes
    if names and (len(names) != CLASSES[dataset] or (dataset == "cifar10" and set(names) != set(CIFAR10))):
        got = f"{result.data.name} with {len(names)} classes, such as {names[0]}"
        raise RobustBenchError(f"{model}: expected images of {dataset}, got {got}")
    if not result.complete or result.shard:
        share = f"shard {result.shard.index} of {result.shard.count}" if result.shard else "an interrupted run"
        raise RobustBenchError(f"{model}: expected a complete result, got {share}")
    if protocol.threat != "white_box":
        raise RobustBenchError(f"{model}: expected attacks on the model itself, got a transfer")
    if fraction(protocol.eps) != fraction(budget):
        raise RobustBenchError(f"{model}: expected eps {budget} for {dataset}/{threat}, got {protocol.eps}")


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _architecture(model: str) -> str:
    """Return the paper's name of a model: RobNet-free for `robnet_free.cifar10`. Other names stay."""
    stem = model.partition(".")[0]
    return "RobNet" + stem.removeprefix("robnet").replace("_", "-") if stem.startswith("robnet") else model
