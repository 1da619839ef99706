"""Codes and specs turn into each other without loss, and bad codes are named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robnet_zoo.converters.original.codes import (
    convert_codes,
    from_codes,
    from_original_json,
    to_codes,
    to_original_json,
)
from robnet_zoo.errors import ArgumentError, DocumentError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec

LARGE = ["11", "11", "11", "11", "11", "01", "11", "01", "10", "11", "01", "01", "01", "11"]
PUBLISHED = {  # published name -> (bundled spec, the original's parameter count)
    "robnet_free_cifar10": ("robnet_free", 5_439_790),
    "robnet_large_cifar10": ("robnet_large", 6_842_710),
    "robnet_large_v2_cifar10": ("robnet_large_v2", 33_326_666),
    "robnet_large_imagenet": ("robnet_large_imagenet", 12_756_448),
}
ANY_CODE, ON = st.sampled_from(["00", "01", "10", "11"]), st.sampled_from(["01", "10", "11"])
# The first edge into each node is on, because a node that nothing feeds has no value.
CELL = st.tuples(*[ON if edge in (0, 2, 5, 9) else ANY_CODE for edge in range(14)]).map(list)
# The previous cell is always read too: edge 1->2 is on.
READING_CELL = st.tuples(CELL, ON).map(lambda drawn: [drawn[0][0], drawn[1], *drawn[0][2:]])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_codes_give_the_bundled_spec_and_the_published_parameter_count(official, name):
    bundled, count = PUBLISHED[name]
    spec = from_original_json(official / "architecture_codes.json", name=name)
    assert spec.hash == load_spec(bundled).hash
    assert parameters(spec) == count


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_codes_come_back(official, name):
    published = json.loads((official / "architecture_codes.json").read_text())
    codes = published["robnet_free" if "free" in name else "robnet_large"]
    assert to_codes(from_original_json(published, name=name)) == codes


@pytest.mark.parametrize("file", ["free_c8", "free_svhn100_c8", "large_c8", "large_imagenet_c8"])
def test_codes_beside_a_checkpoint_come_back(official, file):
    written = json.loads((official / f"{file}.json").read_text())
    spec = from_original_json(official / f"{file}.json")
    assert to_codes(spec) == written["codes"]
    assert (spec.name, spec.network.channels, spec.network.num_classes) == (
        file,
        written["model_param"]["C"],
        written["model_param"]["num_classes"],
    )


@pytest.mark.parametrize("name", [bundled for bundled, _ in PUBLISHED.values()])
def test_bundled_spec_becomes_a_codes_file_and_the_same_spec_again(tmp_path, name):
    spec = load_spec(name)
    spec.save(tmp_path / "spec.json")
    (tmp_path / "codes.json").write_text(convert_codes(tmp_path / "spec.json"))
    convert_codes(tmp_path / "codes.json", name=name).save(tmp_path / "again.json")
    again = load_spec(tmp_path / "again.json")
    assert (again.name, again.hash) == (spec.name, spec.hash)


PYTHON = f"""import os
os.mkdir("ran")  # a file is read and not run
robnet_large_v1 = robnet_large_v2 = {[LARGE]!r}
mine: list = {[LARGE] * 3!r}
again = mine
epochs = 3
built = {[LARGE]!r} * 20
"""


@pytest.mark.parametrize(
    ("options", "bundled"),
    [
        ({"name": "robnet_large_v1"}, "robnet_large"),
        ({"name": "robnet_large_v2"}, "robnet_large_v2"),
        (
            {"name": "robnet_large_v1", "channels": 48, "num_classes": 1000, "stem": "imagenet"},
            "robnet_large_imagenet",
        ),
    ],
)
def test_a_python_file_of_the_original_gives_the_bundled_specs_and_is_not_run(tmp_path, monkeypatch, options, bundled):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "architecture_code.py").write_text(PYTHON)
    spec = convert_codes(tmp_path / "architecture_code.py", **options)
    assert (spec.name, spec.hash) == (options["name"], load_spec(bundled).hash)
    assert convert_codes(tmp_path / "architecture_code.py", name="again").network.depth == 3
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (PYTHON, None, "expected one of several code lists, by name, got none, expected one of robnet_large_v1"),
        (PYTHON, "robnet_large", 'expected the name of code lists, got "robnet_large"'),
        (
            PYTHON,
            "built",
            "built: line 7: expected texts, integers, lists, tuples .*, got BinOp, which is not executed",
        ),
        (PYTHON, "epochs", "epochs: expected lists of codes, got 3"),
        ("x = y", "x", "x: expected lists of codes, got the unknown y"),
        ("import os", None, "expected code lists with a name, got none"),
        ("x = [['11']]\nx.append(['00'])", None, "x: expected lists that are written out at once, got .* in line 2"),
        ("x = [['11']]", None, r"x: codes\[0\]: expected 14 codes, one an edge, got 1"),
        ("x = [", None, "not Python: .* at line 1"),
    ],
)
def test_python_files_without_codes_are_refused_in_a_line(tmp_path, text, name, message):
    (tmp_path / "codes.py").write_text(text)
    with pytest.raises(DocumentError, match=message) as raised:
        convert_codes(tmp_path / "codes.py", name=name)
    assert "\n" not in str(raised.value)


def test_a_json_file_brings_its_own_parameters(official):
    with pytest.raises(ArgumentError, match=r"free_c8\.json: expected neither channels, .*, as a JSON file has them"):
        convert_codes(official / "free_c8.json", channels=8)


def test_spec_that_the_original_cannot_build_has_no_codes_file(tmp_path):
    data = load_spec("robnet_large").model_dump(mode="json", exclude_none=True)
    data["network"] |= {"reductions": [5, 13], "input_size": [3, 64, 64]}
    (tmp_path / "spec.json").write_text(json.dumps(data))
    with pytest.raises(DocumentError) as raised:
        convert_codes(tmp_path / "spec.json")
    assert raised.value.problems == (
        "network.reductions: expected [6, 13], as in the original, got [5, 13]",
        "network.input_size: expected [3, 32, 32], as in the original, got [3, 64, 64]",
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(READING_CELL, min_size=1, max_size=6))
def test_any_codes_come_back(codes):
    assert to_codes(from_codes(codes, name="drawn", channels=4, depth=len(codes))) == codes


def test_equal_codes_written_out_for_each_depth_stay_written_out():
    assert to_codes(from_codes([LARGE] * 5, name="five", channels=4, depth=5)) == [LARGE] * 5


def test_one_cell_is_shared_by_all_depths():
    spec = from_codes([LARGE], name="shared", channels=4, depth=8)
    assert spec.layout == ("cell",) * 8
    assert spec.network.reductions == (2, 5)


def test_order_of_operations_in_the_spec_does_not_change_the_codes():
    spec = from_codes([LARGE], name="shared", channels=4, depth=3)
    data = spec.model_dump(mode="json", exclude_none=True)
    data["operations"].reverse()
    data["cells"]["cell"]["alpha"] = [row[::-1] for row in data["cells"]["cell"]["alpha"]]
    assert to_codes(spec.parse(data)) == [LARGE]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([LARGE[:13]], r"small: codes\[0\]: expected 14 codes, one an edge, got 13"),
        ([[*LARGE[:3], "12", *LARGE[4:]]], r"codes\[0\]\[3\]: expected one of 00, 01, 10, 11, got \"12\""),
        ([[*LARGE[:3], 11, *LARGE[4:]]], r"codes\[0\]\[3\]: expected one of .*, got 11"),
        ([[*LARGE[:3], ["11"], *LARGE[4:]]], r"codes\[0\]\[3\]: expected one of .*, got \[\"11\"\]"),
        ([LARGE] * 7, r"codes: expected 1 cell \(shared\) or 8 \(one a depth\), got 7"),
        ([], r"codes: expected 1 cell \(shared\) or 8 \(one a depth\), got 0"),
        (LARGE, r"codes\[0\]: expected a list of 14 codes, got \"11\""),
        ("11", r"codes: expected a list of lists of codes, got \"11\""),
        ([["00"] * 14], r"small: cells.cell.alpha: expected one or more operations, got zeros alone"),
    ],
)
def test_bad_codes_are_named(codes, message):
    with pytest.raises(DocumentError, match=message):
        from_codes(codes, name="small", channels=4, depth=8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": True}, r"expected one list of codes, which all cells share \(share is true\), got 3"),
        ({"steps": 5}, r"model_param: steps: expected 4, got 5"),
        ({"width": 5}, r"model_param: unknown key \"width\""),
        ({"C": "8"}, r"model_param: C: expected .*integer, got \"8\""),
        ({"layers": 4}, r"codes: expected 1 cell \(shared\) or 4 \(one a depth\), got 3"),
    ],
)
def test_parameters_that_do_not_fit_are_named(change, message):
    parameters = {"C": 8, "num_classes": 10, "layers": 3} | change
    with pytest.raises(DocumentError, match=message):
        from_original_json({"codes": [LARGE] * 3, "model_param": parameters})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("robnet_larg_cifar10", "did you mean 'robnet_large_cifar10'?"),
        (None, "expected a name, expected one of robnet_large_cifar10"),
    ],
)
def test_unknown_name_suggests_the_nearest(name, message):
    many = {"robnet_large": [LARGE], "model_param": {"robnet_large_cifar10": {"C": 8, "num_classes": 10, "layers": 20}}}
    with pytest.raises(DocumentError) as raised:
        from_original_json(many, name=name)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"operations": ["identity", "max_pool_3x3"]},
            r"cells\.cell\.alpha\[0\]: expected only identity and sep_conv_3x3, got max_pool_3x3",
        ),
        (
            {"cells": {"cell": {"alpha": [[1, 1]] * 14, "concat": [4, 5]}}},
            r"cells\.cell\.concat: expected all nodes, as in the original, got \[4, 5\]",
        ),
        (
            {"cells": {"cell": {"alpha": [[1, 1]] * 9, "concat": [2, 3, 4]}}},
            r"cells\.cell\.alpha: expected 14 edges, as in the original, got 9",
        ),
    ],
)
def test_spec_without_codes_is_refused(change, message):
    spec = from_codes([LARGE], name="shared", channels=4, depth=3)
    with pytest.raises(DocumentError, match=message):
        to_codes(spec.parse(spec.model_dump(mode="json", exclude_none=True) | change))


def with_denoise(spec: Genotype, **denoise: object) -> Genotype:
    return spec.model_copy(update={"network": spec.network.model_copy(update={"denoise": denoise})})


def test_original_has_no_codes_for_denoising() -> None:
    with pytest.raises(DocumentError, match=r"network\.denoise: expected null, as in the original"):
        to_original_json(with_denoise(load_spec("robnet_large"), after=[5], form="mean"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codes": None}, "codes: expected a list of lists of codes, got null"),
        ({"codes": 5}, "codes: expected a list of lists of codes, got 5"),
        ({"layers": 10**17}, "depth: expected at most 1,000 cells, got 100000000000000000"),
    ],
)
def test_codes_of_odd_kinds_are_one_line(tmp_path, changes, message):
    parameters = {"C": 36, "num_classes": 10, "layers": changes.get("layers", 20), "share": False}
    document = {"codes": changes.get("codes", [["01"] * 14] * 2), "model_param": parameters}
    (tmp_path / "codes.json").write_text(json.dumps(document))
    with pytest.raises(DocumentError, match=message):
        from_original_json(tmp_path / "codes.json")
