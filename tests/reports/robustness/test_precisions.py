"""What each precision of an exported file loses."""

from __future__ import annotations

from robnet_zoo.benchmarks.result import (
    ModelIdentity,
)
from tests.reports.documents import identity, renamed, result
from tests.reports.pages import html, ids


def exported(kind: str, model: ModelIdentity) -> ModelIdentity:
    update = {"kind": "onnx", "precision": kind, "exported_from": model.state_sha256}
    return renamed(model, f"{kind}.onnx").model_copy(update=update)


def test_what_each_precision_loses_stands_beside_the_model_it_was_exported_from(tmp_path):
    model = identity("micro")
    documents = [result(exported("int8", model), 0.7, 0.4, 0.3), result(model, 0.8, 0.5, 0.4)]
    documents += [
        result(exported("fp32", model), 0.8, 0.5, 0.4),
        result(exported("fp32", identity("other")), 0.9, 0.6, 0.5),
    ]
    tree = html(documents, tmp_path)
    assert "precisions" in ids(tree)
    clean, attacked = ([each.accuracy(name) for each in documents] for name in ("clean", "pgd20"))
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
    documents = [
        result(model),
        result(exported("int8", identity("other"))),
        result(exported("fp32", model), eps="4/255"),
    ]
    assert "precisions" not in ids(html(documents, tmp_path))
