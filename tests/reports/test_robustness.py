"""The report: every figure is a document's, the paper's stand apart, and the page is fit for phones and the dark."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import random
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from robnet_zoo.attacks import AnyAttack, Bim, DeepFool, Fgsm, MiFgsm, Pgd
from robnet_zoo.benchmarks.protocol import Protocol, load_protocol
from robnet_zoo.benchmarks.result import (
    Alarm,
    DataIdentity,
    Example,
    Measurement,
    ModelIdentity,
    Result,
    Shard,
    worst_case,
)
from robnet_zoo.core.statistics import compare, wilson
from robnet_zoo.errors import ReportError
from robnet_zoo.reports import robustness as report
from robnet_zoo.reports.robustness.labelled import labelled
from robnet_zoo.reports.robustness.published import published
from robnet_zoo.reports.robustness.tables import beside_the_paper
from robnet_zoo.zoo.baselines import BASELINES
from robnet_zoo.zoo.registry import load_spec

CIFAR = "cifar10_test.npz"
XSS = '<script>alert("x")</script>&|[a](javascript:b)'


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def identity(name: str, *, parameters: int | None = None, spec_hash: str | None = None) -> ModelIdentity:
    return ModelIdentity(name=name, state_sha256=sha(name), parameters=parameters, spec_hash=spec_hash)


def renamed(model: ModelIdentity, name: str) -> ModelIdentity:
    """The same architecture, trained anew."""
    return model.model_copy(update={"name": name, "state_sha256": sha(name)})


def measurement(attack: str, share: float, n: int, *, steps: int = 0, unconfirmed: int = 0) -> Measurement:
    """Outcomes of which about `share` are right; models differ in which."""
    draw = random.Random(f"{attack} {share} {n}")
    correct = tuple(int(draw.random() < share) for _ in range(n))
    return Measurement(
        attack=attack,
        accuracy=sum(correct) / n,
        interval=wilson(sum(correct), n),
        correct=correct,
        forwards=tuple(steps if right else 1 for right in correct),
        backwards=tuple(steps if right else 1 for right in correct),
        judged=(2,) * n,
        unconfirmed=(unconfirmed,) + (0,) * (n - 1),
        seconds=0.25 * n * max(steps, 1),
    )


def result(
    model: ModelIdentity | str,
    *shares: float,
    attacks: tuple[AnyAttack, ...] = (Fgsm(), Pgd()),
    source: ModelIdentity | None = None,
    n: int = 200,
    eps: str = "8/255",
    data: str = CIFAR,
    unconfirmed: int = 0,
    **fields: object,
) -> Result:
    """A document whose first share is of clean images, the others of the attacks."""
    shares = shares or (0.8, *(0.5 - 0.02 * i for i in range(len(attacks))))
    clean = measurement("clean", shares[0], n)
    attacked = [
        measurement(attack.title, share, n, steps=getattr(attack, "steps", 1), unconfirmed=unconfirmed)
        for attack, share in zip(attacks, shares[1:], strict=True)
    ]
    measurements = (clean, *attacked)
    threat = "white_box" if source is None else "transfer"
    return Result(
        protocol=Protocol(name="paper", threat=threat, eps=eps, attacks=attacks),
        model=model if isinstance(model, ModelIdentity) else identity(model),
        source=source,
        data=DataIdentity(name=data, sha256=sha(data), n=fields.pop("of", n)),
        software={"torch": "2.14.1"},
        device="AMD EPYC, 2 threads",
        measurements=measurements,
        worst_case=worst_case(measurements),
        **fields,
    )


def png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return base64.b64encode(file.getvalue()).decode()


def example(sample: int = 7, attack: str = "pgd20") -> Example:
    clean = np.random.default_rng(sample).integers(20, 230, (32, 32, 3)).astype(np.uint8)
    shift = np.where(np.indices((32, 32)).sum(0) % 2, 8, -8)[:, :, None]
    images = {"clean": png(clean), "adversarial": png((clean + shift).astype(np.uint8))}
    return Example(sample=sample, attack=attack, label=3, before=3, after=5, **images)


@pytest.fixture(scope="module")
def everything() -> list[Result]:
    """Documents that fill every section."""
    free = identity("robnet_free.cifar10", parameters=5_439_790, spec_hash=load_spec("robnet_free").hash)
    large = identity("robnet_large.cifar10", parameters=6_842_710, spec_hash=load_spec("robnet_large").hash)
    micro = identity("robnet_micro.cifar10", parameters=21_650, spec_hash=load_spec("robnet_micro").hash)
    resnet = identity("resnet18.cifar10", parameters=11_173_962)
    attacks = (Fgsm(), Pgd(), Pgd(steps=100), DeepFool(), MiFgsm())
    models = {free: 0.52, large: 0.47, micro: 0.30, resnet: 0.43}
    copies = {model: renamed(model, model.name.replace(".", ".copy.")) for model in models}
    transfer = (Fgsm(), Pgd(steps=100))
    alarm = Alarm(name="more_steps_less_success", text="pgd100: 34.0 %, pgd20: 30.0 %.")
    found = [
        result(model, share + 0.3, *(share + 0.01 * i for i in (6, 1, 0, 5, 2)), attacks=attacks, n=1000)
        for model, share in models.items()
    ]
    found[0] = found[0].model_copy(update={"examples": tuple(map(example, range(5)))})
    found[2] = found[2].model_copy(update={"alarms": (alarm,)})
    found += [result(free, 0.82, 0.75 - 0.02 * k, 0.72 - 0.03 * k, eps=f"{k}/255", n=1000) for k in (2, 4, 12, 16)]
    found += [result(micro, 0.60, 0.55 - 0.02 * k, 0.52 - 0.03 * k, eps=f"{k}/255", n=1000) for k in (2, 4, 12)]
    found += [
        result(target, a + 0.3, 0.62 + 0.02 * i, 0.60 + 0.02 * i - 0.01 * j, attacks=transfer, source=source, n=1000)
        for i, (target, a) in enumerate(models.items())
        for j, source in enumerate(copies.values())
    ]
    found.append(result(large, n=120, of=1000, complete=False, unconfirmed=3))
    return found


@pytest.fixture(scope="module")
def page(everything, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(everything, path)
    return path


class Tree(HTMLParser):
    """The elements of a page: (name, attributes, names of those around it), and rows of tables as texts."""

    VOID = ("meta", "img", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "small":
            self.rows[-1][-1] += "\n"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data.strip("\n")

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]

    def row(self, *start: str) -> list[str]:
        """The first row whose cells begin with these texts."""
        return next(row for row in self.rows if all(a.startswith(b) for a, b in zip(row, start, strict=False)))


def html(results: list[Result], tmp_path: Path) -> Tree:
    report.write(results, tmp_path / "report.html")
    return Tree((tmp_path / "report.html").read_text())


def ids(tree: Tree) -> list[str]:
    return [attributes["id"] for attributes in tree.named("section")]


def test_sections_stand_in_the_order_in_which_they_are_read(page):
    expected = "alarms summary paper comparisons parameters steps eps transfer cost pictures provenance"
    assert ids(Tree(page.read_text())) == expected.split()


def test_sections_without_data_are_left_out(tmp_path):
    tree = html([result("alone", attacks=(Fgsm(),), data="digits")], tmp_path)
    assert ids(tree) == ["alarms", "summary", "cost", "provenance"]


def test_the_page_is_well_formed(page):
    tree = Tree(page.read_text())
    assert (tree.wrong, tree.open) == ([], [])
    every = [attributes["id"] for _, attributes, _ in tree.elements if "id" in attributes]
    assert len(every) == len(set(every))
    assert {link["href"].removeprefix("#") for link in tree.named("a")} == set(ids(tree))


def test_the_page_loads_nothing_from_elsewhere(page):
    text = page.read_text()
    tree = Tree(text)
    loading = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    addresses = [value for _, attributes, _ in tree.elements for key, value in attributes.items() if key in loading]
    assert addresses
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    assert not re.search(r"url\(|@import|https?:|fetch\(|XMLHttpRequest|import\(", text)


def test_every_table_head_names_its_scope_and_every_drawing_itself(page):
    tree = Tree(page.read_text())
    assert all(head.get("scope") in ("col", "row") for head in tree.named("th"))
    assert all(image.get("alt") for image in tree.named("img"))
    assert all(drawing.get("aria-label") or drawing.get("aria-hidden") for drawing in tree.named("svg"))
    assert len(tree.named("caption")) == len(tree.named("table"))
    assert all("th" in around for name, _, around in tree.elements if name == "button")


@pytest.mark.parametrize("suffix", [".html", ".md"])
def test_a_name_is_never_markup(tmp_path, suffix):
    first = result(XSS, alarms=(Alarm(name="zero_gradients", text=XSS),), examples=(example(attack=XSS),))
    second = result(identity("b", parameters=5), source=identity(XSS + "2"), data=XSS)
    others = [result(identity("c" + XSS, parameters=9), eps=eps) for eps in ("4/255", "2/255")]
    path = tmp_path / f"report{suffix}"
    report.write([first, second, *others], path)
    text = path.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    if suffix == ".html":
        tree = Tree(text)
        assert (len(tree.named("script")), tree.wrong) == (1, [])
    else:
        assert "](javascript" not in text.replace("\\]", "")
        heads = [line.count("|") for line in text.splitlines() if line.startswith("|")]
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("|")]
        assert max(heads) > max(cells), "the name's own bar is there, escaped"


def test_figures_of_the_summary_are_the_documents(everything, page):
    rows = Tree(page.read_text()).rows
    for document in (one for one in everything if one.source is None):
        n = len(document.measurements[0].correct)
        expected = []
        for one in (*document.measurements, document.worst_case):
            low, high = wilson(sum(one.correct), n)
            expected.append(f"{100 * sum(one.correct) / n:.1f}\n{100 * low:.1f} – {100 * high:.1f}")
        name = f"{document.model.name}\n{CIFAR}"
        eps = document.protocol.eps
        assert any(row[0] == name and row[3] == eps and set(expected) <= set(row) for row in rows)


def test_the_second_digit_is_shown_where_there_are_images_for_it(tmp_path):
    tree = html([result("many", 0.8, 0.5, attacks=(Fgsm(),), n=10_000)], tmp_path)
    figure = tree.row("many", "–", "10,000")[4].split("\n")[0]
    assert re.fullmatch(r"\d\d\.\d\d", figure)


def test_the_same_documents_give_the_same_bytes(everything, page, tmp_path):
    report.write([*everything, everything[0]], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_alarms_come_first_and_name_their_model(page):
    text = page.read_text()
    alarms = text[text.index('id="alarms"') : text.index('id="summary"')]
    assert "more_steps_less_success" in alarms
    assert "pgd100: 34.0 %, pgd20: 30.0 %." in alarms
    assert "PGD with more steps, and nothing else changed, leaves more images right." in alarms
    assert "robnet_micro.cifar10" in alarms
    assert "120 of 1,000 images" in alarms
    assert "6 successes on 2 of 240 attacked images were not confirmed by the original; they count as none." in alarms
    assert "fgsm 3 on 1 of 120, pgd20 3 on 1 of 120 images." in alarms
    assert alarms.index("more_steps_less_success") < alarms.index("incomplete") < alarms.index(">note<")
    assert "No alarms" not in alarms


def test_without_alarms_a_quiet_line_stands_there(tmp_path):
    report.write([result("calm", unconfirmed=2)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "No alarms" in text
    assert 'class="notice serious"' not in text


def test_an_incomplete_document_is_in_no_chart_and_not_beside_the_paper(tmp_path):
    partial = [result("resnet18", shard=Shard(index=0, count=2), of=400)]
    tree = html(partial, tmp_path)
    assert ids(tree) == ["alarms", "summary", "cost", "provenance"]
    assert tree.row("resnet18", "–")[2] == "200\nof 400"


def test_ours_stand_below_the_printed_row_of_their_architecture(page):
    rows = Tree(page.read_text()).rows
    ours = next(i for i, row in enumerate(rows) if row[:2] == [f"robnet_free.cifar10\n{CIFAR}", "measured here"])
    assert rows[ours - 1][:8] == ["RobNet-free", "paper", "5.49 M", "82.79", "58.38", "52.74", "52.57", "57.24"]
    assert rows[ours][2] == "5.44 M\n5,439,790"
    other = next(i for i, row in enumerate(rows) if row[:2] == [f"robnet_micro.cifar10\n{CIFAR}", "measured here"])
    assert other > ours, "what the paper does not have comes last"


@pytest.mark.parametrize(
    ("change", "stands"),
    [
        ({}, True),
        ({"eps": "4/255"}, False),
        ({"data": "cifar100_test.npz"}, False),
        ({"data": "CIFAR-10 training images"}, False),
        ({"data": "CIFAR-10 test images"}, True),
        ({"attacks": (Pgd(step="1/255"),)}, False),
        ({"attacks": (Pgd(steps=40),)}, False),
        ({"attacks": (Pgd(restarts=5),)}, False),
        ({"attacks": (Pgd(norm="l2"),)}, False),
        ({"attacks": (Bim(name="pgd20"),)}, False),
        ({"attacks": (Pgd(name="anything", step="02/255"),)}, True),
    ],
)
def test_only_what_was_measured_as_the_paper_did_stands_beside_it(tmp_path, change, stands):
    tree = html([result("resnet18", **({"attacks": (Pgd(),)} | change))], tmp_path)
    assert ("paper" in ids(tree)) == stands


@pytest.mark.parametrize("table", published().tables, ids=lambda table: f"{table.number} {table.data}")
def test_the_bundled_protocol_of_a_table_fills_its_columns(table):
    protocol = load_protocol("pgd100" if table.number in (3, 4, 7) else f"table{table.number}")
    assert (protocol.eps, protocol.threat) == (table.eps, table.threat)
    for column in table.columns:
        fitting = [attack.title for attack in protocol.attacks if column.fits(attack)]
        assert len(fitting) == (column.attack is not None), column.label


@pytest.mark.parametrize(
    ("data", "tables"),
    [
        ("imagenet_val", [6]),
        ("Tiny-ImageNet validation images", [3]),
        ("TinyImageNet", [3]),
        ("ImageNet train", []),
        ("CIFAR-10 test images", [1, 4, 7]),
        ("cifar10-test1k.npz", [1, 4, 7]),
        ("CIFAR-100 test images", [3]),
        ("SVHN test images", [3]),
        ("SVHN training images", []),
        ("digits", []),
    ],
)
def test_a_table_takes_results_on_its_own_data(data, tables):
    white_box = [table for table in published().tables if table.threat == "white_box"]
    fitting = [table.number for table in white_box if table.fits(result("a", eps=table.eps, data=data))]
    assert fitting == tables


def test_a_name_alone_does_not_make_a_robnet(tmp_path):
    impostor = identity("robnet_free", spec_hash=load_spec("robnet_micro").hash)
    rows = html([result(impostor)], tmp_path).rows
    printed = next(i for i, row in enumerate(rows) if row[:2] == ["RobNet-free", "paper"])
    assert rows[printed + 1][1] == "measured here"
    assert printed == max(i for i, row in enumerate(rows) if len(row) > 1 and row[1] == "paper"), (
        "after all printed ones"
    )
    resnets = [row[1] for row in html([result("ResNet-18")], tmp_path).rows if row[0].startswith("ResNet-18")]
    assert resnets[-2:] != ["paper", "paper"]


@pytest.mark.parametrize(
    ("data", "fit"),
    [
        ("SVHN test images", {}),
        ("CIFAR-100 test images", {"num_classes": 100}),
        ("Tiny-ImageNet validation images", {"num_classes": 200, "input_size": (3, 64, 64)}),
    ],
)
def test_a_spec_that_was_fitted_to_other_data_stands_in_table_3(tmp_path, data, fit):
    spec_hash = load_spec("robnet_large").fitted(**fit).hash
    found = html([result(identity("run", spec_hash=spec_hash), attacks=(Pgd(steps=100),), data=data)], tmp_path).rows
    printed = next(i for i, row in enumerate(found) if row[:2] == ["RobNet-large", "paper"])
    assert found[printed + 1][:2] == [f"run\n{data}", "measured here"]


@pytest.mark.parametrize(
    ("model", "tables"),
    [
        (identity("resnet18_cifar"), [1]),
        (identity("resnet18_cifar_mean"), [1, 4]),
        (identity("vgg16_cifar"), [1, 7]),
        (identity("x", spec_hash=load_spec("robnet_large").denoised("dot_product").hash), [1, 4]),
        (identity("x", spec_hash=load_spec("robnet_large").hash), [1]),
    ],
    ids=lambda value: str(value) if isinstance(value, list) else value.name,
)
def test_tables_that_repeat_rows_of_table_1_stand_where_they_say_more(model, tables):
    (entry,) = labelled([result(model, attacks=(Pgd(steps=100),))])
    titles = [table.title for table in beside_the_paper([entry])]
    assert [int(title.split()[1].rstrip(".")) for title in titles] == tables


@pytest.mark.parametrize("name", BASELINES)
def test_every_comparison_network_has_its_row(name):
    rows = [table.row_of(identity(name)) for table in published().tables if table.number == 7]
    assert rows != [None]


def test_transfers_fill_the_column_of_their_source(page):
    text = page.read_text()
    table = text[text.index("Table 8.") :]
    rows = Tree("<table>" + table[table.index("<thead>") : table.index("</table>")] + "</table>").rows
    heads = rows[0]
    ours = next(row for row in rows if row[0].startswith("robnet_free") and row[1] == "measured here")
    filled = [head for head, cell in zip(heads, ours, strict=True) if head.startswith("from ") and cell != "–"]
    assert filled == ["from ResNet-18", "from RobNet-large", "from RobNet-free"]


def test_a_copy_with_the_same_weights_is_no_copy(tmp_path):
    model = identity("resnet18")
    other = identity("resnet18").model_copy(update={"state_sha256": sha("other")})
    attacks = (Fgsm(), Pgd(steps=100))
    assert "paper" not in ids(html([result(model, source=model, attacks=attacks)], tmp_path))
    assert "paper" in ids(html([result(model, source=other, attacks=attacks)], tmp_path))


def test_the_matrix_has_the_number_of_every_pair(everything, page):
    text = page.read_text()
    matrix = text[text.index('class="heat"') :]
    rows = Tree("<table>" + matrix[matrix.index("<thead>") : matrix.index("</table>")] + "</table>").rows
    found = {float(cell.split("\n")[0]) for row in rows[1:] for cell in row[1:]}
    expected = {round(100 * one.accuracy("fgsm"), 1) for one in everything if one.source is not None}
    assert found == expected
    assert len(rows) == 5
    assert all(len(row) == 5 for row in rows)


def test_pairs_are_compared_by_mcnemar(tmp_path):
    first, second = result("a", 0.9, 0.7, attacks=(Fgsm(),)), result("b", 0.6, 0.3, attacks=(Fgsm(),))
    row = next(
        row for row in html([first, second], tmp_path).rows if row[:3] == ["a", "b", f"fgsm\neps 8/255, {CIFAR}"]
    )
    expected = compare(first.measurement("fgsm").correct, second.measurement("fgsm").correct)
    assert row[3:5] == [str(expected.first), str(expected.second)]
    assert float(row[6].removeprefix("< ")) == pytest.approx(expected.p, abs=1e-4)
    assert row[7] == "first is better"


@pytest.mark.parametrize("change", [{"data": "other"}, {"n": 100}])
def test_models_on_other_images_are_not_compared(tmp_path, change):
    assert "comparisons" not in ids(html([result("a"), result("b", **change)], tmp_path))


def test_attacks_of_one_name_and_other_parameters_are_two_columns(tmp_path):
    first, second = result("a", attacks=(Pgd(),)), result("b", attacks=(Pgd(step="1/255"),))
    heads = html([first, second], tmp_path).row("model", "parameters")
    assert heads[4:] == ["clean", "pgd20 (step 2/255)", "pgd20 (step 1/255)", "worst case"]


def test_models_of_one_name_and_other_weights_are_told_apart(tmp_path):
    other = identity("a").model_copy(update={"state_sha256": "0" * 64})
    tree = html([result("a"), result(other)], tmp_path)
    assert tree.row("a (00000000)")
    assert tree.row(f"a ({sha('a')[:8]})")


def test_points_of_the_chart_stand_where_their_figures_are(tmp_path):
    big, small = identity("big", parameters=10_000_000), identity("small", parameters=10_000)
    shares = {big: (0.9, 0.7), small: (0.6, 0.3)}
    report.write([result(model, *shares[model], attacks=(Fgsm(),)) for model in shares], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    mark = r'<title>(big|small), .*?: ([\d.]+) %.*?<circle class="mark series-0" cx="([\d.]+)" cy="([\d.]+)"'
    tick = r'class="tick" x="32" y="([\d.]+)" text-anchor="end">(\d+)<'
    marks = {name: tuple(map(float, place)) for name, *place in re.findall(mark, text)}
    ticks = [(float(y) - 4, float(value)) for y, value in re.findall(tick, text)]
    (y_low, low), (y_high, high) = ticks[0], ticks[-1]
    for value, _, y in marks.values():
        assert low + (y_low - y) / (y_low - y_high) * (high - low) == pytest.approx(value, abs=0.1)
    assert marks["big"][1] > marks["small"][1] + 200


def test_lines_go_from_the_fewest_steps_to_the_most(tmp_path):
    attacks = (Pgd(steps=100), Pgd(steps=7), Pgd(steps=20))
    document = result("a", 0.9, 0.3, 0.6, 0.5, attacks=attacks)
    rows = html([document], tmp_path).rows
    heads = rows.index(["model", "steps", "accuracy"])
    accuracies = [100 * document.accuracy(f"pgd{steps}") for steps in (7, 20, 100)]
    assert [row[1] for row in rows[heads + 1 : heads + 4]] == ["7", "20", "100"]
    assert [float(row[2].split("\n")[0]) for row in rows[heads + 1 : heads + 4]] == pytest.approx(accuracies)
    (line,) = re.findall(r'<path class="line series-0" stroke-dasharray="" d="M(\d.*?)"', section(tmp_path, "steps"))[
        :1
    ]
    points = [tuple(map(float, point.split())) for point in line.split("L")]
    assert points == sorted(points)
    assert [y for _, y in points] == sorted(y for _, y in points), "fewer images right stands lower"


def test_attacks_that_differ_in_more_than_steps_share_no_line(tmp_path):
    attacks = (Pgd(), Pgd(steps=100, step="1/255"), Pgd(steps=40, loss="margin"))
    assert "steps" not in ids(html([result("a", attacks=attacks)], tmp_path))


def test_accuracy_against_eps_begins_with_the_clean_images(tmp_path):
    documents = [result("a", 0.9, 0.9 - 0.05 * k, attacks=(Fgsm(),), eps=f"{k}/255") for k in (8, 2)]
    rows = html([*documents, result("b", attacks=(Fgsm(),))], tmp_path).rows
    heads = rows.index(["model", "eps", "accuracy"])
    assert [row[:2] for row in rows[heads + 1 : heads + 4]] == [["a", "0"], ["a", "2/255"], ["a", "8/255"]]
    accuracies = [documents[0].accuracy("clean"), documents[1].accuracy("fgsm"), documents[0].accuracy("fgsm")]
    assert [float(row[2].split("\n")[0]) / 100 for row in rows[heads + 1 : heads + 4]] == pytest.approx(accuracies)
    assert 'class="mark series-1"' not in section(tmp_path, "eps"), "one eps alone makes no line"


def section(folder: Path, key: str) -> str:
    text = (folder / "report.html").read_text()
    return text[text.index(f'<section id="{key}"') :].partition("</section>")[0]


def test_csv_has_a_row_a_model_and_attack(everything, tmp_path):
    report.write(everything, tmp_path / "report.csv")
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert len(rows) == sum(len(one.measurements) + 1 for one in everything)
    expected = everything[0].measurement("pgd100")
    row = next(row for row in rows if row["attack"] == "pgd100")
    assert (int(row["n"]), int(row["right"])) == (1000, sum(expected.correct))
    assert (float(row["accuracy"]), float(row["low"]), float(row["high"])) == (expected.accuracy, *expected.interval)
    assert (row["eps"], row["seed"], row["forwards"]) == ("8/255", "0", str(sum(expected.forwards)))
    assert row["state_sha256"] == everything[0].model.state_sha256
    assert row["data_sha256"] == everything[0].data.sha256
    assert [row["whole"] for row in rows[-4:]] == ["0"] * 4


def test_markdown_has_the_summary(everything, tmp_path):
    report.write(everything, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    heads = next(line for line in lines if line.startswith("| model | parameters"))
    row = next(line for line in lines if line.startswith(f"| robnet_free.cifar10 ({CIFAR}) | 5,439,790"))
    assert heads.count("|") == row.count("|")
    one = everything[0].measurement("pgd100")
    low, high = one.interval
    assert f"{100 * one.accuracy:.1f} ({100 * low:.1f} – {100 * high:.1f})" in row


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ReportError, match=r"expected a file that ends in \.html, \.md, \.csv, got '\.pdf'"):
        report.write([result("a")], tmp_path / "report.pdf")


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="expected at least one result with an image measured, got 0"):
        report.write([], tmp_path / "report.html")


def test_an_example_is_shown_with_its_difference_enlarged(tmp_path):
    tree = html([result("a", examples=(example(),))], tmp_path)
    clean, difference, attacked = (decoded(image["src"]) for image in tree.named("img"))
    assert (np.abs(attacked.astype(int) - clean) == 8).all()
    assert np.array_equal(difference, 128 + 12 * (attacked.astype(int) - clean))
    text = (tmp_path / "report.html").read_text()
    assert "difference × 12" in text
    assert "at most 8/255" in text
    assert "seen as class 3, then as class 5" in text


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


def test_only_the_first_examples_are_shown_and_the_rest_counted(page):
    assert len(Tree(page.read_text()).named("img")) == 3 * 3
    assert "2 more are in the documents" in page.read_text()


def test_an_example_that_is_no_picture_is_an_error_that_names_it(tmp_path):
    broken = example().model_copy(update={"clean": '"><script>'})
    with pytest.raises(ReportError, match="a, pgd20, eps 8/255, image 7: expected a PNG in base64"):
        report.write([result("a", examples=(broken,))], tmp_path / "report.html")


def test_the_paper_agrees_with_itself():
    """Its tables repeat each other: a figure copied wrongly stands alone."""
    tables = {number: published().table(number) for number in (1, 2, 6, 7, 8)}
    first, seventh = ({row.model: row for row in tables[number].rows} for number in (1, 7))
    for row in published().table(4).rows:
        if "Denoise" not in row.model:
            assert row.values == seventh[row.model].values
    labels = [column.label for column in tables[1].columns]
    for model, row in first.items():
        assert seventh[model].values == (row.values[0], row.values[labels.index("PGD-100")])
        assert seventh[model].parameters == row.parameters
        assert list(row.values) == sorted(row.values, reverse=True) or row.values[0] == max(row.values)
    for index, row in enumerate(tables[8].rows):
        copy = next(other for other in tables[2].rows if other.model == row.model)
        assert row.values[index] == copy.values[1] == min(row.values), "an independent copy is the strongest source"
        assert tables[8].columns[index].source == row.model


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[Any]:
    """Headless Chromium with the page of `everything` open."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium and chromedriver are not installed, and CI must not skip them")
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"):
        options.add_argument(f"--{argument}")
    for argument in ("background-networking", "component-update", "sync", "dev-shm-usage"):
        options.add_argument(f"--disable-{argument}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        opened.get(page.as_uri())
        yield opened
    finally:
        opened.quit()


def column_of_summary(browser: Any, label: str) -> tuple[str, list[str]]:
    """(aria-sort, the column's figures from top to bottom)."""
    return browser.execute_script(
        """
        const table = document.querySelector("#summary table");
        const head = [...table.tHead.rows[0].cells].find((cell) => cell.textContent === arguments[0]);
        const cells = [...table.tBodies[0].rows].map((row) => row.cells[head.cellIndex].cloneNode(true));
        cells.forEach((cell) => cell.querySelectorAll("small").forEach((detail) => detail.remove()));
        return [head.getAttribute("aria-sort"), cells.map((cell) => cell.textContent)];
        """,
        label,
    )


@pytest.mark.parametrize("label", ["pgd100", "parameters", "model", "eps"])
def test_a_click_sorts_a_column_and_a_second_one_turns_it_around(browser, label):
    button = browser.find_element("xpath", f"//section[@id='summary']//button[text()='{label}']")
    before = sorted(column_of_summary(browser, label)[1])
    ways = []
    for _ in range(2):
        browser.execute_script("arguments[0].scrollIntoView({ block: 'center', inline: 'nearest' })", button)
        button.click()
        way, cells = column_of_summary(browser, label)
        known = [cell for cell in cells if cell != "–"]
        keys = known if label == "model" else [float(cell.removesuffix("/255").replace(",", "")) for cell in known]
        assert keys == sorted(keys, reverse=way == "descending")
        assert cells == known + ["–"] * (len(cells) - len(known)), "what is missing stays last"
        assert sorted(cells) == before
        ways.append(way)
    assert set(ways) == {"ascending", "descending"}
    assert len(browser.find_elements("css selector", "#summary [aria-sort]")) == 1
    assert browser.find_element("id", "announcement").get_attribute("textContent") == f"Sorted by {label}, {ways[-1]}."


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_the_page_never_scrolls_sideways(browser, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_script("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    outside = browser.execute_script(
        """
        const inside = (element) => element.closest(".scroll, .unseen, svg");
        return [...document.querySelectorAll("body *")]
          .filter((element) => !inside(element) && element.getBoundingClientRect().right > innerWidth + 0.5)
          .map((element) => element.outerHTML.slice(0, 80));
        """
    )
    assert outside == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def contrasts(browser: Any, scheme: str) -> tuple[float, float, str]:
    """(the page's luminance, the least contrast of a text with what it stands on, that text), as WCAG 2.2 has them."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    return browser.execute_script(
        """
        const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const colours = new Map();
        const rgba = (colour) => {
          if (!colours.has(colour)) {
            context.clearRect(0, 0, 1, 1);
            context.fillStyle = colour;
            context.fillRect(0, 0, 1, 1);
            colours.set(colour, [...context.getImageData(0, 0, 1, 1).data]);
          }
          return colours.get(colour);
        };
        const luminance = ([r, g, b]) => [r, g, b]
          .map((value) => value / 255)
          .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
          .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
        const below = (element) => {
          const colour = rgba(getComputedStyle(element).backgroundColor);
          return colour[3] === 255 || !element.parentElement ? colour : below(element.parentElement);
        };
        let least = [Infinity, ""];
        const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
          const text = walker.currentNode, element = text.parentElement;
          if (!text.data.trim() || element.closest("script, title")) continue;
          const style = getComputedStyle(element);
          const colour = rgba(element.closest("svg") ? style.fill : style.color);
          const [light, dark] = [luminance(colour), luminance(below(element))].sort((a, b) => b - a);
          const contrast = (light + 0.05) / (dark + 0.05);
          if (contrast < least[0]) least = [contrast, text.data];
        }
        return [luminance(rgba(getComputedStyle(document.body).backgroundColor)), ...least];
        """
    )


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_text_can_be_read_by_day_and_in_the_dark(browser, scheme, dark):
    page, least, text = contrasts(browser, scheme)
    assert page < 0.05 if dark else page > 0.8
    assert least >= 4.5, text


def test_the_browser_loads_nothing_and_has_nothing_to_complain_of(browser):
    loaded = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    assert all(address.startswith("data:") for address in browser.execute_script(loaded))
    assert browser.get_log("browser") == []


def exported(kind: str, model: ModelIdentity) -> ModelIdentity:
    update = {"kind": "onnx", "precision": kind, "exported_from": model.state_sha256}
    return renamed(model, f"{kind}.onnx").model_copy(update=update)


def test_what_each_precision_loses_stands_beside_the_model_it_was_exported_from(tmp_path):
    model = identity("micro")
    found = [result(exported("int8", model), 0.7, 0.4, 0.3), result(model, 0.8, 0.5, 0.4)]
    found += [
        result(exported("fp32", model), 0.8, 0.5, 0.4),
        result(exported("fp32", identity("other")), 0.9, 0.6, 0.5),
    ]
    tree = html(found, tmp_path)
    assert "precisions" in ids(tree)
    clean, attacked = ([each.accuracy(name) for each in found] for name in ("clean", "pgd20"))
    start = tree.rows.index(tree.row("precision", "model"))
    rows = tree.rows[start : start + 4]
    assert [row[0] for row in rows] == ["precision", "torch", "fp32", "int8"]
    assert rows[1][2] == f"{100 * clean[1]:.1f}"
    assert rows[2][2].split("\n")[1] == "0.0"
    column = rows[0].index("pgd20")
    lost = 100 * (attacked[0] - attacked[1])
    assert lost < 0
    assert rows[3][column].split("\n") == [f"{100 * attacked[0]:.1f}", f"−{-lost:.1f}"]


def test_files_of_different_models_or_measured_differently_are_not_set_beside_each_other(tmp_path):
    model = identity("micro")
    found = [result(model), result(exported("int8", identity("other"))), result(exported("fp32", model), eps="4/255")]
    assert "precisions" not in ids(html(found, tmp_path))
