"""Genotypes of aw_nas: the published counts, the function, what is read, and what is refused with its reason."""

import json

import pytest

from robnet_zoo.converters.literature import MSROBNETS
from robnet_zoo.converters.msrobnet import convert_msrobnet
from robnet_zoo.converters.original.codes import from_original_json
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.blueprint import parameters

NODES = "init_node~2+|none~0|ResSepConv~1|+|skip_connect~0|none~1|sep_conv_3x3~2|"
TEXT = f"DenseRobGenotype(normal_0='{NODES}', reduce_1='{NODES}')"
SMALL_HASH = convert_msrobnet(TEXT, layout="0 1 0").hash


@pytest.fixture(scope="module")
def published(official):
    return json.loads((official / "msrobnet.json").read_text())


@pytest.mark.parametrize("name", MSROBNETS)
def test_parameters_are_those_counted_on_the_original_network(published, name):
    counts = {channels: parameters(convert_msrobnet(name, channels=int(channels))) for channels in ("8", "36")}
    spec = convert_msrobnet(name)
    counts[str(spec.network.channels)] = parameters(spec)
    assert counts == published[name]["parameters_by_channels"]
    assert spec.network.channels == (published[name]["init_channels"] or 36)


@pytest.mark.parametrize("name", MSROBNETS)
def test_a_file_with_layouts_gives_the_bundled_spec_and_so_does_the_text_with_one(official, published, name):
    spec = convert_msrobnet(name)
    assert convert_msrobnet(str(official / "msrobnet.json"), pick=name).hash == spec.hash
    layout = " ".join(map(str, published[name]["cell_layout"]))
    text = published[name]["genotype"]
    assert convert_msrobnet(text, layout=layout, channels=spec.network.channels).hash == spec.hash


def test_cells_are_those_of_the_codes_that_the_original_was_run_with(official):
    codes = from_original_json(official / "msrobnet_1560_c8.json")
    assert convert_msrobnet("msrobnet_1560", channels=8).hash == codes.hash


def test_operations_are_those_of_the_text_and_reductions_where_the_layout_has_them():
    spec = convert_msrobnet(TEXT, layout="0 1 0")
    assert spec.operations == ("identity", "sep_conv_3x3")
    assert spec.cells["normal_0"].alpha == ((0, 0), (1, 1), (1, 0), (0, 0), (0, 1))
    assert spec.layout == ("normal_0", "reduce_1", "normal_0")
    assert spec.network.reductions == (1,)


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("one.txt", TEXT, {"layout": "0,1,0"}),
        ("one.py", f"import os\nMINE = aw_nas.{TEXT}\n", {"layout": "0 1 0"}),
        ("quoted.py", f'A = "{TEXT}"\n', {"layout": "0 1 0"}),
        ("two.py", f"A = {TEXT.replace('none', 'skip_connect')}\nB = {TEXT}", {"layout": "0 1 0", "pick": "B"}),
        ("one.json", json.dumps({"genotype": TEXT, "cell_layout": [0, 1, 0]}), {}),
        ("two.json", json.dumps({"A": {}, "B": {"genotype": TEXT, "cell_layout": [0, 1, 0]}}), {"pick": "B"}),
    ],
)
def test_files_of_every_form_give_the_same_spec(tmp_path, file, content, options):
    if file == "two.json":
        content = content.replace("{}", json.dumps({"genotype": TEXT}), 1)
    (tmp_path / file).write_text(content)
    assert convert_msrobnet(str(tmp_path / file), **options).hash == SMALL_HASH


def cell(nodes: str) -> str:
    return f"DenseRobGenotype(normal_0='{nodes}')"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("DenseRobGenotype()", {}, "expected DenseRobGenotype(normal_0='...', ...)"),
        ("Genotype(normal=[])", {}, "expected DenseRobGenotype(normal_0='...', ...), got none"),
        ("DenseRobGenotype(first='x')", {}, "expected cells such as normal_0 or reduce_1, each number once, got"),
        (TEXT.replace("reduce_1", "reduce_0"), {}, 'each number once, got "reduce_0"'),
        (TEXT.replace(")", ", **more)"), {}, "each number once"),
        (cell("init_node~1+|none~0|"), {}, 'normal_0: expected init_node~2 first, for two inputs, got "init_node~1"'),
        (cell("init_node~2"), {}, "normal_0: expected 1 to 32 nodes, got 0"),
        (cell("init_node~2+none~0|none~1"), {}, "normal_0: node 2: expected operations between bars"),
        (cell("init_node~2+|skip_conect~0|none~1|"), {}, "did you mean 'skip_connect'?"),
        (cell("init_node~2+|none~0|none~0|"), {}, "expected an operation from each of the nodes 0 to 1, got [0, 0]"),
        (
            cell("init_node~2+|none~0|none~1|"),
            {},
            "cells.normal_0.alpha: expected one or more operations, got zeros alone",
        ),
        ("DenseRobGenotype(normal_0=open('x'))", {}, "got Call, which is not executed"),
        ("DenseRobGenotype(normal_0=[1])", {}, "normal_0: expected a text, got [1]"),
        ("DenseRobGenotype(", {}, "not Python: '(' was never closed at line 1"),
        (TEXT, {"layout": "0 2"}, "layout: expected numbers of cells, out of 0, 1, got 2"),
        (TEXT, {"layout": ""}, "layout: expected numbers of cells, out of 0, 1, got none"),
        (TEXT, {"channels": 0}, "network.channels: expected at least 1, got 0"),
        ("msrobnet_15", {}, "neither a bundled genotype nor a file nor its text, did you mean 'msrobnet_1560'?"),
        ("nowhere.json", {}, "nowhere.json: cannot be read"),
    ],
)
def test_what_is_wrong_is_named_in_a_line(text, options, message):
    with pytest.raises(DocumentError) as raised:
        convert_msrobnet(text, **options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "expected an object with a genotype, a text, got []"),
        ("{}", "expected a genotype and a cell_layout, got none"),
        ('{"genotype": 1}', "expected an object with a genotype"),
        (json.dumps({"genotype": f"A = {TEXT}\nB = {TEXT}"}), "expected one genotype in a text, got A, B"),
        (json.dumps({"genotype": repr(f"A = {TEXT}; B = {TEXT}")}), "expected DenseRobGenotype("),
        (json.dumps({"genotype": TEXT, "cell_layout": 3}), "cell_layout: expected a list of numbers, got 3"),
        (json.dumps({"genotype": TEXT, "cell_layout": [0, 1.0]}), "layout: expected numbers of cells"),
        (json.dumps({"genotype": TEXT, "init_channels": "8"}), 'network.channels: expected an integer, got "8"'),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path, content, message):
    (tmp_path / "file.json").write_text(content)
    with pytest.raises(DocumentError) as raised:
        convert_msrobnet(str(tmp_path / "file.json"))
    assert message in str(raised.value)


def test_a_docstring_that_names_the_genotype_is_none(tmp_path):
    (tmp_path / "text.py").write_text(f'"""DenseRobGenotype of ours: see below."""\nMINE = {TEXT}\n')
    assert convert_msrobnet(str(tmp_path / "text.py"), layout="0 1 0").hash == SMALL_HASH


def test_nothing_in_a_text_is_executed(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "text.py").write_text(f"open({str(ran)!r}, 'w')\nMINE = {TEXT}")
    assert convert_msrobnet(str(tmp_path / "text.py"), layout="0 1 0").hash == SMALL_HASH
    assert not ran.exists()


def test_a_file_may_have_parentheses_in_its_name_and_a_byte_order_mark(tmp_path):
    (tmp_path / "geno (1).py").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert convert_msrobnet(str(tmp_path / "geno (1).py"), layout="0 1 0", name="geno").hash == SMALL_HASH


def test_a_text_that_is_nested_deeply_is_one_line(tmp_path):
    (tmp_path / "deep.py").write_text(f"G = DenseRobGenotype(normal_0='a', x={'+'.join(['1'] * 600)})")
    with pytest.raises(DocumentError, match="expected cells such as normal_0"):
        convert_msrobnet(str(tmp_path / "deep.py"))


def test_a_published_name_is_one_genotype():
    with pytest.raises(DocumentError, match='pick: expected none for msrobnet_1560, which is one genotype, got "A"'):
        convert_msrobnet("msrobnet_1560", pick="A")
