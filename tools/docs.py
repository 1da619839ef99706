"""Write the tables of README and docs from the results documents: `python -m tools.docs`."""

from __future__ import annotations

import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from robnet_zoo.attacks import ATTACKS, AdaptiveApgd
from robnet_zoo.benchmarks import ALARMS
from robnet_zoo.benchmarks.checks.results import Severity
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Measurement, Result, results_in, worst_case
from robnet_zoo.benchmarks.speed import attacks as attack_speed
from robnet_zoo.benchmarks.speed import forms as speed
from robnet_zoo.benchmarks.speed import onnx as onnx_speed
from robnet_zoo.benchmarks.speed import search as search_speed
from robnet_zoo.benchmarks.speed import threads as threads_speed
from robnet_zoo.benchmarks.speed import training as training_speed
from robnet_zoo.core.files import write_atomically
from robnet_zoo.core.statistics import with_interval
from robnet_zoo.errors import ReportError
from robnet_zoo.genotype.blueprint import multiply_adds, parameters
from robnet_zoo.genotype.specs import load_spec, spec_names
from robnet_zoo.reports import reproduce as reproduced_report
from robnet_zoo.reports import search as search_report
from robnet_zoo.reports.cards import card
from robnet_zoo.reports.markdown import cell_text, table_lines
from robnet_zoo.reports.robustness.labelled import labelled
from robnet_zoo.reports.robustness.precisions import precisions as precision_tables
from robnet_zoo.reports.search.findings import judged_row
from robnet_zoo.reports.search.lookup import lookup_table
from robnet_zoo.reports.search.scores import score_summary, score_table
from robnet_zoo.reports.search.searched import scale
from robnet_zoo.reports.search.tables import side_by_side
from robnet_zoo.reproduce.result import ReproductionResult
from robnet_zoo.search.analysis.findings import findings
from robnet_zoo.search.analysis.observations import Observed
from robnet_zoo.search.analysis.tables import SpaceFindings, study_findings
from robnet_zoo.search.lookup import LookupResult
from robnet_zoo.search.ranking import RankingResult
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.selection import picks
from robnet_zoo.training import TrainingEstimate, duration
from robnet_zoo.training.result import TrainingResult
from robnet_zoo.zoo import weights
from tools import cells, committed, corpus
from tools import pilots as pilot_runs
from tools.bundle import lineage
from tools.disagreements import DisagreementsResult

OURS = ("apgd_ce", "apgd_dlr_t")
LOOKS = ("straight_through", "twin", "square")
SEARCHES = tuple(committed.SEARCH / f"small.{kind}.json" for kind in ("cell_based", "cell_free"))
ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DARTS_TABLE = "zcprob_darts.json"
ROBUSTNESS, TRAINING, ONNX, SEARCH, REPRODUCE, CELLS, FINDINGS = (
    ROOT / "docs" / f"{page}.md"
    for page in ("robustness", "training", "onnx", "search", "reproduce", "cells", "findings")
)
SEARCH_REPORT = ROOT / "docs" / "search_small.html"
TABLE1_REPORT = ROOT / "docs" / "table1_small.html"


def models() -> str:
    """Return the table of the bundled specs, with their exact sizes."""
    lines = ["| model | parameters | multiply-adds | budget | density | weights |", "|---|---|---|---|---|---|"]
    entries = weights.manifest().entries
    for name in spec_names():
        spec = load_spec(name)
        tags = ", ".join(f"`{entry.tag}`" for entry in entries if entry.model == name) or "–"
        lines.append(
            f"| `{name}` | {parameters(spec):,} | {multiply_adds(spec) / 1e6:,.1f} M | {spec.budget} "
            f"| {spec.density:.2f} | {tags} |"
        )
    return "\n".join(lines)


def accuracies() -> str:
    """Return the table of the bundled weights, measured on images that no training saw."""
    lines = ["| weights | images | eps | clean | FGSM | PGD-20 | `strong` |", "|---|---|---|---|---|---|---|"]
    for entry in weights.manifest().entries:
        name = f"{entry.model}.{entry.tag}"
        result, path = Result.load(committed.ROBUSTNESS / f"{name}.json"), committed.ROBUSTNESS / f"{name}.strong.json"
        figures = [with_interval(result.accuracy(attack), result.data.n) for attack in ("clean", "fgsm", "pgd20")]
        if path.is_file():
            strong = Result.load(path)
            figures.append(with_interval(strong.accuracy("worst_case"), strong.data.n))
        images = f"{result.data.name}, n = {result.data.n}"
        cells = (f"`{name}`", images, f"{result.protocol.eps}", *figures, *["–"] * (4 - len(figures)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def autoattacked() -> str:
    """Return the table of bundled weights measured under AutoAttack, beside PGD-20 on the same images."""
    lines = ["| weights | images | eps | clean | PGD-20 | AutoAttack |", "|---|---|---|---|---|---|"]
    for entry in weights.manifest().entries:
        name = f"{entry.model}.{entry.tag}"
        path = committed.ROBUSTNESS / f"{name}.autoattack.json"
        if not path.is_file():
            continue
        result, stated = Result.load(path), Result.load(committed.ROBUSTNESS / f"{name}.json")
        n = result.data.n
        (pgd,) = (measured.correct[:n] for measured in stated.measurements if measured.attack == "pgd20")
        shares = (result.accuracy("clean"), sum(pgd) / n, result.accuracy("autoattack"))
        figures = " | ".join(with_interval(share, n) for share in shares)
        lines.append(f"| `{name}` | {result.data.name}, n = {n} | {result.protocol.eps} | {figures} |")
    return "\n".join(lines)


def speeds() -> str:
    """Return the table of images a second of the forms of a network, from one run."""
    return speed.table(speed.SpeedResult.load(committed.SPEED / "forms.json"))


def training_speeds() -> str:
    """Return the table of images a second of adversarial training, beside a plain loop, from one run."""
    return training_speed.table(training_speed.TrainingSpeedResult.load(committed.SPEED / "training.json"))


def estimates() -> str:
    """Return the estimates of how long runs of the recipe for few cores take, made before they began."""
    return "\n\n".join(
        duration.table(TrainingEstimate.load(path))
        for path in sorted((committed.TRAINING / "estimates").glob("*.json"))
    )


def pilots() -> str:
    """Return the table of what changes of the recipe for few cores bring on a small network."""
    return pilot_runs.table(pilot_runs.PilotsResult.load(pilot_runs.DOCUMENT))


def attacks() -> str:
    """Return the table of the attacks, with their parameters and defaults."""
    lines = ["| kind | attack | parameters |", "|---|---|---|"]
    for attack in ATTACKS:
        fields = {key: value for key, value in attack.model_fields.items() if key not in ("kind", "name")}
        choices = {key: get_args(value.annotation) for key, value in fields.items()}
        parameters = [
            f"`{key}` {_defaults(choices[key], value.default)}"
            for key, value in fields.items()
            if len(choices[key]) != 1 or not value.default
        ]
        summary = inspect.cleandoc(attack.__doc__).partition("\n\n")[0].replace("\n", " ")
        lines.append(f"| `{attack.model_fields['kind'].default}` | {summary} | {', '.join(parameters)} |")
    return "\n".join(lines)


def _defaults(choices: Sequence[object], default: object) -> str:
    """Return in words what a parameter may be, if it is one of a few, or what it is by default."""
    if default is None:
        return "none"
    return " or ".join(map(str, choices)) if choices and default else str(default)


def agreements() -> str:
    """Return the table of our APGD beside its authors', on the same images."""
    lines = ["| model | images | eps | clean | theirs | our APGD-CE | our APGD-T | ours together |", "|---" * 8 + "|"]
    for path in results_in(committed.ROBUSTNESS / "apgd"):
        result = Result.load(path)
        both = worst_case([result.measurement(name) for name in OURS])
        figures = [result.accuracy(name) for name in ("clean", "theirs", *OURS)] + [both.accuracy]
        images = f"{result.data.name}, n = {result.data.n}"
        lines.append(f"| `{result.model.name}` | {images} | {_radius(result.protocol)} | {_shares(figures)} |")
    return "\n".join(lines)


def alarms() -> str:
    """Return the table of all kinds of alarms, worst first."""
    figures = {Severity.WRONG: "are wrong", Severity.DOUBT: "are in doubt", Severity.NOTE: "stand"}
    rows = (f"| `{name}` | {kind.meaning} | {figures[kind.severity]} |" for name, kind in ALARMS.items())
    return "\n".join(["| alarm | what was seen | figures |", "|---|---|---|", *rows])


def transfers() -> str:
    """Return what images made on one network leave right on another, by the attack that made them."""
    results = [Result.load(path) for path in results_in(committed.ROBUSTNESS / "transfer")]
    titles = [attack.title for attack in results[0].protocol.attacks]
    lines = [f"| source | target | {' | '.join(['clean', *(f'`{title}`' for title in titles)])} |"]
    lines.append("|---" * (len(titles) + 3) + "|")
    rows = [[result.accuracy(title) for title in ("clean", *titles)] for result in results]
    for result, row in zip(results, rows, strict=True):
        assert result.source is not None
        lines.append(f"| `{result.source.name}` | `{result.model.name}` | {_shares(row)} |")
    lines.append(f"| mean | | {_shares([sum(column) / len(rows) for column in zip(*rows, strict=True)])} |")
    gradients = [sum(results[0].measurement(title).backwards) / results[0].data.n for title in titles]
    lines.append(f"| gradients an image | | 0 | {' | '.join(f'{mean:.0f}' for mean in gradients)} |")
    return "\n".join(lines)


def _shares(figures: Sequence[float]) -> str:
    """Return the cells of shares, in percent."""
    return " | ".join(f"{figure:.1%}" for figure in figures)


def strengths() -> str:
    """Return the table of the attacks of `strong` beside AutoAttack: accuracies, disagreements and costs."""
    heads = ["model", "images", "eps", "clean", "`strong`", "AutoAttack", "AutoAttack alone", "`strong` alone"]
    heads += ["gradients an image", "ratio", "seconds", "ratio"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for path in results_in(committed.ROBUSTNESS / "strong"):
        result = Result.load(path)
        ours, theirs = result.in_turn, result.measurement("autoattack")
        together = worst_case(ours)
        n = len(together.correct)
        alone = list(zip(together.correct, theirs.correct, strict=True)).count((0, 1))
        gradients = [sum(sum(part.backwards) for part in parts) / n for parts in (ours, [theirs])]
        seconds = [sum(part.seconds for part in parts) for parts in (ours, [theirs])]
        cells = (
            f"`{result.model.name}`",
            f"{result.data.name}, n = {n}",
            _radius(result.protocol),
            _shares((result.accuracy("clean"), together.accuracy, theirs.accuracy)),
            _missed(together, theirs),
            f"{alone}",
            *_costs(gradients),
            *_costs(seconds),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _radius(protocol: Protocol) -> str:
    """Return the eps of a protocol, with its norm if that is not l-infinity."""
    norms = {attack.ball for attack in protocol.attacks} - {"linf"}
    return f"{protocol.eps}" + "".join(f" in {norm}" for norm in norms)


def _missed(ours: Measurement, theirs: Measurement) -> str:
    """Return how many of the images that ours leave AutoAttack fools, and by which of its parts."""
    parts = Counter(str(part) for right, part in zip(ours.correct, theirs.broken_by, strict=True) if right and part)
    named = ", ".join(f"{part} {count}" for part, count in parts.most_common())
    return f"{parts.total()} ({named})" if parts else "0"


def _costs(both: Sequence[float]) -> tuple[str, str]:
    """Return what `strong` and AutoAttack cost, and how many times as much the latter does."""
    return f"{both[0]:.0f} : {both[1]:.0f}", f"{both[1] / both[0]:.1f}"


def parts() -> str:
    """Return the tables of what each part of `strong` brings: what is left when it is taken away."""
    return "\n\n".join(map(_parts, results_in(committed.ROBUSTNESS / "strong" / "parts")))


def _parts(path: Path) -> str:
    whole_run = committed.ROBUSTNESS / "strong" / path.name  # on the same images
    result, theirs = Result.load(path), Result.load(whole_run).measurement("autoattack")
    heads = ["attack", "changed", "left", "left with Square", "AutoAttack alone", "gradients an image"]
    lines = [
        f"`{result.model.name}`, {result.data.name}, n = {result.data.n}, eps {_radius(result.protocol)}, "
        f"{sum(result.measurement('clean').correct)} images right without attack, {sum(theirs.correct)} after "
        "AutoAttack",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    whole = AdaptiveApgd().model_dump()
    for attack in result.protocol.attacks:
        part = result.measurement(attack.title)
        both = worst_case([part, result.measurement("square")])
        changes = {key: value for key, value in attack.model_dump().items() if whole.get(key, value) != value}
        changed = ", ".join(f"`{key}` {value}" for key, value in changes.items() if key not in ("kind", "name"))
        if not isinstance(attack, AdaptiveApgd):
            changed = f"another attack: `{attack.kind}`"
        cells = (
            f"`{attack.title}`",
            changed or "–",
            f"{sum(part.correct)}",
            f"{sum(both.correct)}",
            f"{list(zip(both.correct, theirs.correct, strict=True)).count((1, 0))}",
            f"{sum(part.backwards) / len(part.correct):.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def disagreements() -> str:
    """Return what each side finds with other seeds on the images that only the other side fooled the model on."""
    lines = ["| model | eps | image | missed by | found again |", "|---" * 5 + "|"]
    for path in sorted(committed.DISAGREEMENTS.glob("*.json")):
        result = DisagreementsResult.load(path)
        for each in result.images:
            side = {"strong": "`strong`", "autoattack": "AutoAttack"}[each.missed_by]
            times = f"with {sum(each.fooled)} of {len(each.fooled)} other seeds"
            lines.append(f"| `{result.model.name}` | {_radius(result.protocol)} | {each.sample} | {side} | {times} |")
    return "\n".join(lines)


def attack_speeds() -> str:
    """Return the table of PGD-100 on RobNet-free by this package and by others."""
    return attack_speed.table(attack_speed.AttackSpeedResult.load(committed.SPEED / "attacks.json"))


def shared_out_attack_speeds() -> str:
    """Return the tables of PGD-100 in one process a core, in one of all threads, and by others."""
    return _attack_speeds("processes_*.json")


def foreign_attack_speeds() -> str:
    """Return the tables of PGD-100 on models of timm, by both parts of this package and by others."""
    return _attack_speeds("attacks_*.json")


def _attack_speeds(pattern: str) -> str:
    documents = map(attack_speed.AttackSpeedResult.load, sorted(committed.SPEED.glob(pattern)))
    return "\n\n".join(map(attack_speed.table, documents))


def threads() -> str:
    """Return the images a second by how threads wait, from one run."""
    return threads_speed.table(threads_speed.ThreadsResult.load(committed.SPEED / "threads.json"))


def precisions() -> str:
    """Return the tables of what each precision of an exported file loses."""
    entries = labelled([Result.load(path) for path in results_in(committed.ROBUSTNESS / "onnx")])
    return "\n".join(line for table in precision_tables(entries) for line in table_lines(table)).rstrip()


def looks() -> str:
    """Return the tables of quantised files that were attacked in each way to look at them, and in all of them."""
    tables: dict[str, dict[str, dict[str, Result]]] = {}
    for path in results_in(committed.ROBUSTNESS / "looks"):
        result = Result.load(path)
        title = f"**eps {result.protocol.eps}, {result.data.name}, n = {result.data.n}**"
        tables.setdefault(title, {}).setdefault(result.model.name, {})[result.protocol.name] = result
    lines = []
    for title, by_file in tables.items():
        lines += [title, "", f"| file | clean | {' | '.join(LOOKS)} | worst case |", "|---" * (3 + len(LOOKS)) + "|"]
        for name, by_look in by_file.items():
            attacked = {look: _worst(by_look[look]) for look in LOOKS if look in by_look}
            shares = [f"{attacked[look].accuracy:.0%}" if look in attacked else "–" for look in LOOKS]
            together = worst_case(list(attacked.values()))
            clean = next(iter(by_look.values())).accuracy("clean")
            lines.append(f"| `{name}` | {clean:.0%} | {' | '.join(shares)} | {together.accuracy:.0%} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def _worst(result: Result) -> Measurement:
    """Return the worst case of a result, or its only attack."""
    return result.worst_case or result.measurements[-1]


def corpus_files() -> str:
    """Return the table of files that torch's exporters made of timm's architectures, and what became of them."""
    return corpus.table(corpus.CorpusResult.load(corpus.DOCUMENT))


def search_speeds() -> str:
    """Return the table of candidates a minute whose FSP distances are computed, from one run."""
    return search_speed.table(search_speed.SearchSpeedResult.load(committed.SPEED / "search.json"))


def searches() -> list[StudyResult]:
    """Return the results of the committed search."""
    return [StudyResult.load(path) for path in SEARCHES]


def search_findings() -> str:
    """Return the table of the paper's findings, and whether they hold in the committed search."""
    results = searches()
    lines = ["| finding | number | estimate (95 % interval) | candidates | verdict | role |", "|---" * 6 + "|"]
    for finding in findings([Observed.from_result(result) for result in results]):
        lines += [
            f"| {finding.number} | {' | '.join(map(cell_text, judged_row(evidence)))} |"
            for evidence in finding.evidence
        ]
        lines.append(f"| **{finding.number}** | **{finding.claim}** | | | **{finding.verdict}** | |")
    return "\n".join([*lines, "", *map(scale, results)])


def spaces() -> list[SpaceFindings]:
    """Return what each search space says: ours, and those of the tables that others published."""
    based, free = (Observed.from_result(result).uniform for result in searches())
    tables = [SpaceFindings.load(committed.TABLES / name) for name in ("nas_robbench_201.cifar10.json", DARTS_TABLE)]
    return [study_findings("RobNet's cells", based), study_findings("RobNet's, cell-free", free), *tables]


def space_findings() -> str:
    """Return the numbers that four search spaces have in common, side by side."""
    return side_by_side(spaces())


def lookups() -> str:
    """Return the best accuracies that methods of search know after some evaluations, in a table of cells."""
    return lookup_table(LookupResult.load(committed.LOOKUP / "nas_robbench_201.cifar10.json"))


def scores() -> str:
    """Return how cheap scores rank a table of cells."""
    result = RankingResult.load(committed.SCORES / DARTS_TABLE)
    return f"{score_table(result)}\n\n{score_summary(result)}"


def data_findings() -> str:
    """Return the same numbers for one search space on three data sets."""
    paths = [committed.TABLES / f"nas_robbench_201.{data}.json" for data in ("cifar10", "cifar100", "imagenet")]
    return side_by_side([SpaceFindings.load(path) for path in paths])


def search_picks() -> str:
    """Return the table of the specs that the committed search picked, at full width."""
    lines = ["| spec | parameters | multiply-adds | candidate | judged by |", "|---" * 5 + "|"]
    for spec, _ in (picked for result in searches() for picked in picks(result)):
        source, protocol = spec.provenance.source, spec.provenance.protocol
        lines.append(
            f"| `{spec.name}` | {parameters(spec):,} | {multiply_adds(spec) / 1e6:,.1f} M "
            f"| {(source or '').partition(': ')[2]} | {protocol} |"
        )
    return "\n".join(lines)


def table1() -> ReproductionResult:
    """Return the committed run of table 1."""
    return ReproductionResult.load(committed.REPRODUCE / "table1.small.json")


def table1_small() -> str:
    """Return the accuracies of the committed run of table 1, and whether the paper's order holds in them."""
    result = table1()
    (part,) = result.parts
    blocks = (reproduced_report.table(result, part), reproduced_report.order(result, part))
    return "\n".join(line for block in blocks for line in table_lines(block)).rstrip()


def onnx_speeds() -> str:
    """Return the table of images a second in ONNX Runtime and in torch, from one run."""
    return onnx_speed.table(onnx_speed.OnnxSpeedResult.load(committed.SPEED / "onnx.json"))


def model_cards(folder: Path = weights.FOLDER, results: Path = committed.RESULTS) -> dict[Path, str]:
    """Return the model cards, by file, of those weights in a folder whose training left a document.

    Raises: ReportError for results of other weights under the name of these.
    """
    cards = {}
    entries = weights.manifest(folder).entries
    for entry in entries:
        name, runs = f"{entry.model}.{entry.tag}", lineage(entry, entries, results=results)
        if runs:
            robustness = results / "robustness"
            paths = (robustness / f"{name}.json", *results_in(robustness, f"{name}.*.json"))
            measured = {path: Result.load(path) for path in paths}
            first = next(iter(measured.values()))
            for path, result in measured.items():
                if result.model.weights != first.model.weights:
                    raise ReportError(f"{path}: expected a result of the weights of {name}.json; measure them again")
            loaded = {path.name: TrainingResult.load(path) for path in runs}
            cards[folder / f"{name}.md"] = card(entry, loaded, list(measured.values()))
    return cards


TABLES: Mapping[Path, tuple[Callable[[], str], ...]] = MappingProxyType(
    {
        README: (models, accuracies, autoattacked, speeds),
        ROBUSTNESS: (
            attacks,
            transfers,
            agreements,
            strengths,
            disagreements,
            parts,
            attack_speeds,
            shared_out_attack_speeds,
            foreign_attack_speeds,
            threads,
            alarms,
        ),
        TRAINING: (pilots, estimates, training_speeds),
        ONNX: (precisions, looks, corpus_files, onnx_speeds),
        SEARCH: (search_findings, search_picks, search_speeds),
        REPRODUCE: (table1_small,),
        FINDINGS: (space_findings, data_findings, lookups, scores),
        CELLS: (cells.robust_cells, cells.reported, cells.drawings),
    }
)


def filled(path: Path) -> str:
    """Return a file's text with every `<!-- name -->` ... `<!-- /name -->` filled by the table of that name."""
    text = path.read_text()
    for table in TABLES[path]:
        name = table.__name__
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        lines = table().replace("\\", r"\\")
        text, times = re.subn(pattern, rf"\g<1>{lines}\n\g<2>", text, flags=re.DOTALL)
        if times != 1:
            raise ReportError(f"{path.name}: expected one `<!-- {name} -->` ... `<!-- /{name} -->`, got {times}")
    return text


if __name__ == "__main__":
    for document in TABLES:
        write_atomically(document, filled(document).encode())
        print(f"{document.name} is current", file=sys.stderr)
    for file, text in (model_cards() | cells.pictures()).items():
        file.parent.mkdir(exist_ok=True)
        write_atomically(file, text.encode())
        print(f"{file.name} is current", file=sys.stderr)
    studies = searches()
    search_report.write(studies, SEARCH_REPORT, picks=[picked for result in studies for picked in picks(result)])
    print(f"{SEARCH_REPORT.name} is current", file=sys.stderr)
    reproduced_report.write(table1(), TABLE1_REPORT)
    print(f"{TABLE1_REPORT.name} is current", file=sys.stderr)
