"""The tables and reports of the documentation are those that the committed documents give."""

import re

import pytest

from robnet_zoo.benchmarks.protocol import load_protocol
from robnet_zoo.benchmarks.result import Result
from robnet_zoo.genotype.specs import SPECS
from robnet_zoo.reports.page import html
from robnet_zoo.reports.reproduce import write
from robnet_zoo.reports.search import search_report
from robnet_zoo.reproduce.scale import load_scale
from robnet_zoo.search.config import load_config
from robnet_zoo.search.selection import picks
from tools import committed, docs


def test_a_model_becomes_a_measured_file_in_ten_lines():
    first = re.search(r"```python\n(.*?)```", docs.ONNX.read_text(), re.DOTALL)
    assert len(first[1].strip().splitlines()) == 10


@pytest.mark.parametrize("document", docs.TABLES, ids=lambda path: path.name)
def test_the_tables_of_the_documentation_are_current(document):
    assert docs.filled(document) == document.read_text(), "run `make docs`"


def test_the_committed_search_has_the_candidates_that_it_asked_for():
    based, free = docs.searches()
    assert len([candidate for candidate in based.candidates if candidate.after]) >= 300
    assert len([candidate for candidate in free.candidates if candidate.before]) >= 100
    for result in (based, free):
        assert result.config == load_config("small")
        assert len(result.candidates) == sum(group.count for group in result.branch.groups)


def test_the_specs_of_the_search_are_those_that_it_picked():
    picked = [spec for result in docs.searches() for spec, _ in picks(result)]
    members = ["robnet_small", "robnet_medium", "robnet_search_large", "robnet_search_free"]  # of appendix F
    assert [spec.name for spec in picked] == members
    for spec in picked:
        assert spec.dumps() == SPECS.path(spec.name).read_text()


def test_the_report_of_the_search_is_current_but_for_its_pictures():
    results = docs.searches()
    page = html(search_report(results, picks=[picked for result in results for picked in picks(result)]))
    old, new = (
        re.sub(r"<svg.*?</svg>", "<svg>", text, flags=re.DOTALL) for text in (docs.SEARCH_REPORT.read_text(), page)
    )
    assert old == new, "run `make docs`"  # matplotlib's versions draw differently


def test_the_committed_run_of_table_1_is_whole_and_its_report_current(tmp_path):
    result = docs.table1()
    assert result.complete
    assert (result.scale, result.seeds) == (load_scale("small"), (0, 1, 2))
    assert {row.label for row in result.plan.parts[0].rows} == {
        "ResNet-18",
        "DenseNet-121",
        "RobNet-large",
        "RobNet-free",
    }
    write(result, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == docs.TABLE1_REPORT.read_text(), "run `make docs`"


def test_our_apgd_stands_beside_its_authors_on_three_models():
    hashes = {Result.load(path).model.state_sha256 for path in (committed.ROBUSTNESS / "apgd").glob("*.json")}
    assert len(hashes) >= 3


@pytest.mark.parametrize("path", sorted((committed.ROBUSTNESS / "apgd").glob("*.json")), ids=lambda path: path.stem)
def test_our_apgd_finds_what_its_authors_find(path):
    result = Result.load(path)
    assert result.data.n == 500
    assert result.measurement("theirs").forwards[0] > 0
    ours = [min(pair) for pair in zip(*(result.measurement(name).correct for name in docs.OURS), strict=True)]
    assert abs(sum(ours) / len(ours) - result.accuracy("theirs")) <= 0.004


def test_documents_of_bundled_protocols_were_measured_by_the_attacks_that_these_have_now():
    results = [Result.load(path) for path in committed.ROBUSTNESS.rglob("*.json") if path.parent.name != "looks"]
    assert len(results) > 30
    for result in results:
        bundled = load_protocol(result.protocol.name)
        assert result.protocol.attacks == bundled.attacks, result.model.name
        assert result.protocol.in_turn == bundled.in_turn, result.model.name


STRONG = sorted((committed.ROBUSTNESS / "strong").glob("*.json"))


@pytest.mark.parametrize("path", STRONG, ids=lambda path: path.stem)
def test_strong_finds_what_autoattack_finds_at_a_tenth_of_its_gradients_and_seconds(path):
    result = Result.load(path)
    theirs = result.measurement("autoattack")
    assert sum(result.in_turn[-1].correct) <= sum(theirs.correct)
    assert sum(sum(part.backwards) for part in result.in_turn) <= sum(theirs.backwards) / 10
    assert sum(part.seconds for part in result.in_turn) <= theirs.seconds / 10


def test_strong_leaves_the_same_images_with_bfloat16_as_without():
    rough = Result.load(committed.ROBUSTNESS / "robnet_micro.cifar10.strong.json")
    exact = Result.load(committed.ROBUSTNESS / "strong" / "robnet_micro.cifar10.json")
    assert (rough.protocol.dtype, exact.protocol.dtype) == ("bfloat16", "float32")
    assert rough.in_turn[-1].correct[: exact.data.n] == exact.in_turn[-1].correct


def test_the_rows_of_strong_count_who_fools_what_the_other_leaves():
    (row,) = (row for row in docs.strengths().splitlines() if "`robnet_micro.digits`" in row and "40/255" in row)
    result = Result.load(committed.ROBUSTNESS / "strong" / "robnet_micro.digits.json")
    left, theirs = result.measurement("square").correct, result.measurement("autoattack")
    alone = [index for index, right in enumerate(left) if right and not theirs.correct[index]]
    (fooled,) = alone
    assert row.split(" | ")[6:8] == [f"1 ({theirs.broken_by[fooled]} 1)", "1"]
