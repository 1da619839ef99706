"""Exports beside the model: a row a form, with sizes, latencies, parity and accuracies."""

import pytest

from robnet_zoo.benchmarks.exports import ExportedForm, ExportsResult
from robnet_zoo.benchmarks.likeness import Gap
from robnet_zoo.converters.onnx import Latency
from robnet_zoo.errors import DocumentError
from robnet_zoo.reports.robustness import robustness_report, write
from robnet_zoo.reports.robustness.exports import exports
from robnet_zoo.reports.robustness.labelled import labelled
from tests.reports.documents import identity, renamed, result

MODEL = identity("micro")
FILE = renamed(MODEL, "int8.onnx").model_copy(
    update={
        "kind": "onnx",
        "precision": "int8",
        "exported_from": MODEL.state_sha256,
        "state_sha256": None,
        "file_sha256": "b" * 64,
    }
)


def latencies(*milliseconds):
    return tuple(
        Latency(batch=batch, milliseconds=each, threads=1) for batch, each in zip((1, 64), milliseconds, strict=True)
    )


def document(exported):
    forms = (
        ExportedForm(form="torch", model=MODEL, bytes=4_000_000, latencies=latencies(4.0, 80.0)),
        ExportedForm(
            form="int8",
            model=FILE,
            file="int8.onnx",
            bytes=1_250_000,
            latencies=latencies(1.5, 20.0),
            logits=Gap(difference=0.5, largest=20.0),
            gradients=Gap(why_not="int8.onnx has none"),
            agreement=0.95,
        ),
    )
    return ExportsResult(model=MODEL, data=exported.data, rounds=9, software={}, device="a processor", forms=forms)


def test_a_form_stands_with_what_it_costs_and_what_it_loses():
    results = [result(MODEL, 0.8, 0.5, 0.4), result(FILE, 0.7, 0.4, 0.3)]
    (table,) = exports([document(results[0])], labelled(results))
    rows = [dict(zip((column.label for column in table.columns), row.cells, strict=True)) for row in table.rows]
    assert [row["form"].text for row in rows] == ["torch", "int8"]
    assert [row["MB"].text for row in rows] == ["4.00", "1.25"]
    assert [row["ms, batch 1"].text for row in rows] == ["4.00", "1.50"]
    assert [row["ms, batch 64"].text for row in rows] == ["80.00", "20.00"]
    assert [row["logits"].text for row in rows] == ["–", "2.5e-02"]
    assert [row["gradients"].text for row in rows] == ["–", "–"]
    assert rows[1]["same class, %"].text == "95.0"
    lost = 100 * (results[1].accuracy("pgd20") - results[0].accuracy("pgd20"))
    assert lost < 0
    assert (rows[0]["pgd20"].detail, rows[1]["pgd20"].detail) == ("", f"−{-lost:.1f}")
    assert "9 rounds" in table.note
    assert "a processor" in table.note


def test_a_report_shows_exports_once_and_a_csv_file_has_their_columns(tmp_path):
    results = [result(MODEL, 0.8, 0.5, 0.4), result(FILE, 0.7, 0.4, 0.3), result(identity("other"), 0.9, 0.6, 0.5)]
    report = robustness_report(results, [document(results[0])])
    sections = {section.key for section in report.sections}
    assert "exports" in sections
    assert "precisions" not in sections  # the same figures
    by_model = {row["model"]: row for row in report.rows}
    assert by_model["int8.onnx"]["milliseconds_batch_64"] == 20.0
    assert by_model["int8.onnx"]["agreement"] == 0.95
    assert by_model["other"]["bytes"] is None
    assert "bytes" not in robustness_report(results).rows[0]
    for ending in (".html", ".md", ".csv"):
        write(results, tmp_path / f"report{ending}", exported=[document(results[0])])
        assert "1.25" in (tmp_path / f"report{ending}").read_text() or ending == ".csv"


def test_exports_that_are_given_twice_are_shown_once():
    results = [result(MODEL, 0.8, 0.5, 0.4), result(FILE, 0.7, 0.4, 0.3)]
    (section,) = (
        section
        for section in robustness_report(results, [document(results[0])] * 2).sections
        if section.key == "exports"
    )
    assert len(section.elements) == 1


@pytest.mark.parametrize("forms", [(), (1,), (0, 1, 1), (0, 0)])
def test_exports_without_the_model_in_torch_or_with_a_form_twice_are_refused(forms):
    whole = document(result(MODEL))
    with pytest.raises(DocumentError, match="forms: expected torch, then files, each once, got "):
        whole.model_copy(update={"forms": tuple(whole.forms[index] for index in forms)})


def test_exports_that_were_not_attacked_are_shown_without_accuracies():
    other = result(identity("other"), 0.9, 0.6, 0.5)
    (table,) = exports([document(other)], labelled([other]))
    assert table.columns[-1].label == "same class, %"
