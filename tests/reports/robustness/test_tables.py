"""The tables: every figure is a document's, and the paper's stand apart."""

from __future__ import annotations

import re

import pytest

from robnet_zoo.attacks import AutoAttack, Bim, Fgsm, Pgd, SquareL2
from robnet_zoo.core.statistics import wilson
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.reports.robustness.labelled import labelled
from robnet_zoo.reports.robustness.tables import beside_the_paper, cost, radii, summary
from tests.reports.documents import CIFAR, identity, in_turn, result, sha
from tests.reports.pages import Tree, html, ids


def test_figures_of_the_summary_are_the_documents(everything, page):
    rows = Tree(page.read_text()).rows
    for document in (each for each in everything if each.source is None):
        n = len(document.measurements[0].correct)
        expected = []
        for measurement in (*document.measurements, document.worst_case):
            low, high = wilson(sum(measurement.correct), n)
            expected.append(f"{100 * sum(measurement.correct) / n:.1f}\n{100 * low:.1f} – {100 * high:.1f}")
        name = f"{document.model.name}\n{CIFAR}"
        eps = document.protocol.eps
        assert any(row[0] == name and row[3] == eps and set(expected) <= set(row) for row in rows)


def test_attacks_that_took_turns_are_named_below_the_summary():
    apart = result("model", attacks=(Fgsm(), Pgd()))
    assert summary(labelled([apart])).note == ""
    note = "Protocol paper: in turn, each on what those before it left: fgsm, pgd20"
    assert summary(labelled([apart, in_turn(apart)])).note == note
    assert note.partition(": ")[2] in str(in_turn(apart))


def test_the_second_digit_is_shown_where_there_are_images_for_it(tmp_path):
    tree = html([result("many", 0.8, 0.5, attacks=(Fgsm(),), n=10_000)], tmp_path)
    figure = tree.row("many", "–", "10,000")[4].split("\n")[0]
    assert re.fullmatch(r"\d\d\.\d\d", figure)


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


def test_what_an_attack_found_in_turn_does_not_stand_beside_the_paper():
    document = result("resnet18", attacks=(Pgd(steps=40), Pgd()))
    assert len(beside_the_paper(labelled([document]))) == 1
    assert beside_the_paper(labelled([in_turn(document)])) == []


def test_networks_of_others_do_not_stand_beside_the_paper_alone(tmp_path):
    foreign, own = result("theirs.onnx"), result(identity("mine", spec_hash="0" * 64))
    assert beside_the_paper(labelled([foreign])) == []
    for entries in ([own], [foreign, own], [foreign, result("resnet18")]):
        (table,) = beside_the_paper(labelled(entries))
        assert sum(row.origin == "measured here" for row in table.rows) == len(entries)


def test_a_device_stands_once_where_there_is_one():
    documents = [result(name) for name in "ab"]
    table = cost(labelled(documents))
    assert table.columns[-1].label != "device"
    assert "Device: AMD EPYC, 2 threads; bfloat16" in table.note
    slower = documents[1].model_copy(update={"device": "a phone"})
    assert cost(labelled([documents[0], slower])).rows[-1].cells[-1].text == "a phone"


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
    rows = html([result(identity("run", spec_hash=spec_hash), attacks=(Pgd(steps=100),), data=data)], tmp_path).rows
    printed = next(i for i, row in enumerate(rows) if row[:2] == ["RobNet-large", "paper"])
    assert rows[printed + 1][:2] == [f"run\n{data}", "measured here"]


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
    shown = {float(cell.split("\n")[0]) for row in rows[1:] for cell in row[1:]}
    expected = {round(100 * each.accuracy("fgsm"), 1) for each in everything if each.source is not None}
    assert shown == expected
    assert len(rows) == 5
    assert all(len(row) == 5 for row in rows)


L2 = (Pgd(norm="l2", step="1/8"), SquareL2())


def test_radii_and_norms_of_a_model_stand_side_by_side():
    documents = [
        result("a", 0.8, 0.4, 0.35, attacks=L2, eps="0.5"),
        result("a", 0.8, 0.5, 0.3, eps="8/255"),
        result("b", 0.7, 0.5, 0.2, eps="8/255"),
        result("b", 0.7, 0.6, 0.55, eps="0.0157"),
        result("a", 0.8, 0.2, attacks=(Pgd(steps=100),), eps="8/255"),
        result("c", eps="8/255"),
    ]
    table = radii(labelled(documents))
    assert [column.label for column in table.columns] == ["model", "images", "clean", "0.0157", "8/255", "0.5 (l2)"]
    by_model = {row.cells[0].text: row.cells[2:] for row in table.rows}
    assert set(by_model) == {"a", "b"}
    lowest = [
        min(m.accuracy for i in indices for m in (*documents[i].measurements[1:], documents[i].worst_case))
        for indices in ((1, 4), (0,))
    ]
    assert [cell.text for cell in by_model["a"][1:]] == ["–", *(f"{100 * share:.1f}" for share in lowest)]
    assert by_model["a"][2].detail.endswith(("pgd100", "worst case"))
    assert by_model["b"][3].text == "–"


def test_one_radius_needs_no_table_of_radii():
    assert radii(labelled([result("a"), result("b"), result("a", attacks=(Fgsm(), Pgd(steps=100)))])) is None


def test_one_radius_in_two_spellings_needs_no_table_of_radii_either():
    assert radii(labelled([result("a", attacks=L2, eps="0.5"), result("a", attacks=L2[:1], eps="1/2")])) is None
    spelt = [result("a", attacks=L2, eps="0.50"), result("a", attacks=L2[:1], eps="1/2"), result("a", eps="8/255")]
    table = radii(labelled(spelt))
    assert [column.label for column in table.columns[3:]] == ["8/255", "1/2 (l2)"]


def test_equal_radii_in_other_norms_are_other_conditions():
    linf, l2 = labelled([result("a", eps="0.5"), result("a", attacks=L2, eps="0.5")])
    assert (linf.radius, l2.radius) == ("0.5", "0.5 (l2)")
    assert linf.conditions != l2.conditions


def test_the_cost_of_images_that_withstood_stands_beside_autoattacks():
    table = cost(labelled([result("a", 0.8, 0.5, attacks=(Pgd(steps=30),))]))
    heads = [column.label for column in table.columns]
    (row,) = [row for row in table.rows if row.cells[1].text == "pgd30"]
    assert [row.cells[heads.index(name)].text for name in ("forwards, withstood", "backwards, withstood")] == [
        "30.0"
    ] * 2
    assert 1 < row.cells[heads.index("forwards")].value < 30
    counts = AutoAttack().cost(10)
    assert f"forwards {counts.forwards:,} times and backwards {counts.backwards:,} times" in table.note


def test_a_batch_attack_has_no_cost_of_the_images_that_withstood():
    table = cost(labelled([result("a", 0.8, 0.5, 0.4, attacks=(Pgd(), AutoAttack()), dtype="float32")]))
    rows = {row.cells[1].text: [cell.text for cell in row.cells[2:7]] for row in table.rows}
    assert "–" not in rows["pgd20"]
    assert [cell == "–" for cell in rows["autoattack"]] == [False, False, False, True, True]


def test_attacks_in_turn_have_a_row_of_what_they_cost_together():
    apart = result("a", 0.8, 0.5, 0.3, attacks=(Pgd(steps=30), Pgd(steps=10)))
    assert len(cost(labelled([apart])).rows) == 3
    table = cost(labelled([in_turn(apart)]))
    rows = {row.cells[1].text: [cell.value for cell in row.cells[2:]] for row in table.rows}
    together = rows["pgd30, then pgd10"]
    for column in (0, 1, 2, 5, 6):  # forwards, backwards, judged, seconds
        assert together[column] == pytest.approx(rows["pgd30"][column] + rows["pgd10 (after pgd30)"][column], rel=1e-3)
    both = [sum(pair) for pair in zip(*(part.backwards for part in apart.measurements[1:]), strict=True)]
    withstood = [passes for passes, right in zip(both, apart.worst_case.correct, strict=True) if right]
    assert together[4] == pytest.approx(sum(withstood) / len(withstood))
