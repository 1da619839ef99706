"""DARTS-style genotypes: the published counts, the function, what is read, and what is refused with its reason."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robnet_zoo.converters.darts import convert_darts, equals, from_darts, genotypes_of, listing, published
from robnet_zoo.converters.literature import GENOTYPES
from robnet_zoo.errors import DocumentError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.nn.compiler import compile

# Millions of parameters, C = 36, 20 cells, 10 classes, without the auxiliary head, as the literature's tables print
# them; for DARTS_V1, which they do not tell from DARTS_V2, the count by hand below stands alone.
PUBLISHED = {"darts_v2": 3.3, "pdarts": 3.4, "pc_darts": 3.6, "advrush": 4.2, "racl": 3.6}
PUBLISHED_IMAGENET = {"darts_v2": 4.7, "pdarts": 4.9, "pc_darts_imagenet": 5.3}  # C = 48, 14 cells, 1000 classes
SMALL = {  # two nodes, every kind of entry
    "normal": [("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("none", 0)],
    "normal_concat": [2, 3],
    "reduce": [("max_pool_3x3", 1), ("skip_connect", 0), ("avg_pool_3x3", 0), ("sep_conv_5x5", 2)],
    "reduce_concat": [3],
}
TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('dil_conv_5x5', 2), ('none', 0)], "
    "normal_concat=range(2, 4), "
    "reduce=[('max_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('sep_conv_5x5', 2)], reduce_concat=[3])"
)


# Counts


def convolution(kernel: int, c: int) -> int:
    """Return the number of parameters of a depthwise and a 1x1 convolution, and of a norm with scale and shift."""
    return kernel * kernel * c + c * c + 2 * c


def darts_by_hand(normal: int, reduce: int) -> int:
    """Return the number of parameters for C = 36 and 20 cells.

    `normal`, `reduce`: how many (depthwise, 1x1, norm) a cell has; a separable convolution is two, a dilated one one.
    """
    total = 3 * 9 * 108 + 2 * 108  # the stem, 3 -> 108
    # Channels of the cell before the last, of the last, and of a node here; reductions are at depths 6 and 13.
    cells = [(108, 108, 36), (108, 144, 36), *[(144, 144, 36)] * 4]
    cells += [(144, 144, 72), (144, 288, 72), *[(288, 288, 72)] * 5]
    cells += [(288, 288, 144), (288, 576, 144), *[(576, 576, 144)] * 5]
    for depth, (before, last, c) in enumerate(cells):
        total += before * c + 2 * c + last * c + 2 * c  # 1x1 or factorized, and a norm
        total += (reduce if depth in (6, 13) else normal) * convolution(3, c)
    return total + 576 * 10 + 10


def test_parameters_of_darts_v2_are_those_counted_by_hand() -> None:
    # Normal: five separable convolutions and one dilated; reduce: pools, and identities at stride 1.
    assert parameters(convert_darts("darts_v2")) == darts_by_hand(normal=11, reduce=0) == 3_349_342


def test_parameters_of_darts_v1_are_those_counted_by_hand() -> None:
    # Normal: five separable convolutions; reduce: as above.
    assert parameters(convert_darts("darts_v1")) == darts_by_hand(normal=10, reduce=0) == 3_169_414


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_parameters_round_to_the_published_count(name: str, millions: float) -> None:
    spec = convert_darts(name)
    assert round(parameters(spec) / 1e6, 1) == millions
    with torch.device("meta"):
        assert sum(weights.numel() for weights in compile(spec).parameters()) == parameters(spec)


@pytest.mark.parametrize(("name", "millions"), PUBLISHED_IMAGENET.items())
def test_parameters_on_imagenet_round_to_the_published_count(name: str, millions: float) -> None:
    spec = convert_darts(name, channels=48, depth=14, num_classes=1000, stem="imagenet")
    assert round(parameters(spec) / 1e6, 1) == millions


# Of each bundled genotype, the one with its parameters in the golden file, whose other genotypes have no name here.
FAMILY = {
    **{name: f"lrnas:{key}" for name, key in {"nasnet": "NASNet", "amoebanet": "AmoebaNet", "rnas_h": "RNAS"}.items()},
    "darts_v2": "lrnas:DARTS",
    "advrush": "lrnas:ADVRUSH",
    "pdarts": "lrnas:PDARTS",
    "racl": "lrnas:RACL",
    "e2rnas": "lrnas:E2RNAS",
    "eoinas": "lrnas:EoiNAS",
    "idarts": "lrnas:iDARTS",
    "relativenas": "lrnas:RelativeNAS",
    "lrnas_c10": "lrnas:search_cifar10",
    "lrnas_c100": "lrnas:search_cifar100",
    "snas": "rnas:SNAS",
    "pnas": "rnas:PNAS",
    "darts_v1": "rnas:DARTS",
    "pc_darts": "rnas:PC_DARTS",
    "rnas_l": "rnas:RNAS_L",
    "wsrnet_basic": "wsr:cna_r",
    "wsrnet_r": "wsr:cna_r",
    "wsrnet_m": "wsr:cna_m",
    "wsrnet_n": "wsr:cna_n",
    "wsrnet_m_1": "wsr:cna_m_1",
    "wsrnet_plus": "wsr:WsrNet_Plus",
    "rep": "trnas:REP_PGD",
    "rntk": "trnas:RNTK",
    "trnas_c10": "trnas:TRNAS_c10",
    "trnas_imagenet": "trnas:TRNAS_imagenet",
}


@pytest.fixture(scope="module")
def family(official: Path) -> dict[str, dict]:
    return json.loads((official / "darts_family.json").read_text())


@pytest.mark.parametrize("name", GENOTYPES)
def test_a_bundled_genotype_is_the_published_one_with_its_count(name: str, family: dict[str, dict]) -> None:
    if name == "pc_darts_imagenet":
        pytest.skip("the golden file does not have it")
    entry = family[FAMILY[name]]
    fields = {key: entry[key] for key in ("normal", "normal_concat", "reduce", "reduce_concat")}
    spec = from_darts(fields, name="x", channels=36, depth=20, num_classes=10, stem="cifar")
    assert convert_darts(name).hash == spec.hash
    assert parameters(spec) == entry["parameters_C36_L20"]


def test_every_bundled_genotype_names_its_paper_and_year() -> None:
    for name, entry in GENOTYPES.items():
        spec = published(name)
        assert spec.name == name
        venue = re.search(r"arXiv:[\d.]+|(?:AAAI|ECCV|ICCV|TNNLS|TKDE)\b.*\d{4}", spec.provenance.paper)
        assert venue, name
        assert 2018 <= entry.year <= 2025


def test_genotypes_of_one_function_are_told() -> None:
    pairs = {"wsrnet_basic": ["wsrnet_r"], "wsrnet_m_1": ["wsrnet_plus"]}
    both = pairs | {other: [name] for name, (other,) in pairs.items()}
    assert {name: others for name, others in equals().items() if others} == both
    rows = {row.split()[0]: row for row in listing().splitlines()}
    assert "the same function as wsrnet_plus" in rows["wsrnet_m_1"]
    assert rows["idarts"].endswith("two papers have that name, and its code does not say which one it is from")


def test_a_published_genotype_is_one_and_none_is_picked_from_it():
    with pytest.raises(DocumentError, match='pick: expected none for advrush, which is one genotype, got "other"'):
        convert_darts("advrush", pick="other")


def test_the_table_has_a_row_for_each_genotype_with_its_year_and_count() -> None:
    _, *rows = str(convert_darts("list")).splitlines()
    assert [row.split()[0] for row in rows] == list(GENOTYPES)
    assert next(row for row in rows if row.startswith("lrnas_c10 ")).split()[1:3] == ["2025", "2,179,702"]


# The function, against DARTS' network written down once more


def norm(x: Tensor, weights: Mapping[str, Tensor], key: str) -> Tensor:
    mean, variance = weights[f"{key}.running_mean"], weights[f"{key}.running_var"]
    return F.batch_norm(x, mean, variance, weights[f"{key}.weight"], weights[f"{key}.bias"])


def halved(x: Tensor, weights: Mapping[str, Tensor], key: str) -> Tensor:
    x = F.relu(x)
    even = F.conv2d(x, weights[f"{key}.1.conv_1.weight"], stride=2)
    odd = F.conv2d(x[:, :, 1:, 1:], weights[f"{key}.1.conv_2.weight"], stride=2)
    return norm(torch.cat([even, odd], 1), weights, f"{key}.2")


def operation(name: str, x: Tensor, stride: int, weights: Mapping[str, Tensor], key: str) -> Tensor:
    if name == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride, 1)
    if name == "avg_pool_3x3":
        return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
    if name == "skip_connect":
        return x if stride == 1 else halved(x, weights, key)
    if name == "conv_7x1_1x7":
        row, column = weights[f"{key}.1.weight"], weights[f"{key}.2.weight"]
        x = F.conv2d(F.relu(x), row, None, (1, stride), (0, 3))
        return norm(F.conv2d(x, column, None, (stride, 1), (3, 0)), weights, f"{key}.3")
    c, size = x.shape[1], int(name[-1])
    dilation = 2 if name.startswith("dil") else 1
    x = F.conv2d(F.relu(x), weights[f"{key}.1.weight"], None, stride, dilation * (size - 1) // 2, dilation, c)
    x = norm(F.conv2d(x, weights[f"{key}.2.weight"]), weights, f"{key}.3")
    if dilation == 1:  # separable convolutions are applied twice
        x = F.conv2d(F.relu(x), weights[f"{key}.5.weight"], None, 1, (size - 1) // 2, 1, c)
        x = norm(F.conv2d(x, weights[f"{key}.6.weight"]), weights, f"{key}.7")
    return x


def darts(genotype: Mapping[str, list], depth: int, weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return the logits of the network that DARTS evaluates, in eval mode.

    A node whose second operation repeats the first has the number after the next in our keys.
    """
    before = last = norm(F.conv2d(images, weights["stem.0.0.weight"], padding=1), weights, "stem.0.1")
    reduced = False  # whether the last cell was a reduction
    for at in range(depth):
        reduction = at in (depth // 3, 2 * depth // 3)
        entries, concat = (genotype[f"{'reduce' if reduction else 'normal'}{end}"] for end in ("", "_concat"))
        key = f"cells.{at}.preprocess.0"
        first = F.conv2d(F.relu(before), weights[f"{key}.1.weight"]) if not reduced else None
        nodes = [halved(before, weights, key) if first is None else norm(first, weights, f"{key}.2")]
        key = f"cells.{at}.preprocess.1"
        nodes.append(norm(F.conv2d(F.relu(last), weights[f"{key}.1.weight"]), weights, f"{key}.2"))
        numbers = [0, 1]
        for node in range(2, 2 + len(entries) // 2):
            pair = entries[2 * node - 4 : 2 * node - 2]
            numbers.append(numbers[-1] + 1 + (pair[0] == pair[1] and pair[0][0] != "none"))
            total = torch.zeros_like(nodes[1][:, :, ::2, ::2] if reduction else nodes[1])
            for index, (name, source) in enumerate(pair):
                if name != "none":
                    ours = "identity" if name == "skip_connect" else name
                    stride = 2 if reduction and source < 2 else 1
                    target = numbers[node] - (index == 1 and pair[0] == pair[1])
                    key = f"cells.{at}.edges.{numbers[source]}->{target}.{ours}"
                    total = total + operation(name, nodes[source], stride, weights, key)
            nodes.append(total)
        before, last, reduced = last, torch.cat([nodes[node] for node in concat], 1), reduction
    return F.linear(last.mean((2, 3)), weights["classifier.weight"], weights["classifier.bias"])


TWICE = {  # operations twice on an edge: with weights of their own, without any, and between nodes
    "normal": [
        *[("sep_conv_3x3", 0), ("sep_conv_3x3", 0), ("max_pool_3x3", 2), ("max_pool_3x3", 2)],
        *[("dil_conv_3x3", 3), ("sep_conv_3x3", 1)],
    ],
    "normal_concat": [2, 4],
    "reduce": [("skip_connect", 1), ("skip_connect", 1), ("dil_conv_3x3", 2), ("dil_conv_3x3", 0)],
    "reduce_concat": [2, 3],
}
# Every operation, two operations on an edge, nodes that are not concatenated or zero, an operation twice.
WRITTEN = ["advrush", "racl", "amoebanet", "idarts", "lrnas_c10", "lrnas_c100", "nasnet"]


@pytest.mark.parametrize("name", [*WRITTEN, "small", "twice"])
def test_logits_are_those_of_the_network_of_darts(name: str) -> None:
    genotype = {"small": SMALL, "twice": TWICE}.get(name) or GENOTYPES[name].genotype
    torch.manual_seed(0)
    model = compile(from_darts(genotype, name="x", channels=4, depth=5, num_classes=10, stem="cifar")).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.2, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = darts(genotype, 5, model.state_dict(), images)
        torch.testing.assert_close(model(images), expected, rtol=1e-9, atol=1e-9)
    assert expected.std() > 1e-3


# What is read


SMALL_HASH = from_darts(SMALL, name="x", channels=8, depth=4, num_classes=10, stem="cifar").hash


@pytest.mark.parametrize(
    ("file", "content", "options"),
    [
        ("one.txt", TEXT, {}),
        ("one.py", f"from collections import namedtuple\nPRIMITIVES = ['none']\nMINE = {TEXT}\n", {}),
        ("two.py", f"A = Genotype([], [], [], [])\nMINE = {TEXT}\nB = MINE\n", {"pick": "B"}),
        ("call.py", f"MINE = genotypes.{TEXT}\n", {}),
        ("mapping.txt", repr(SMALL), {}),
        ("one.json", json.dumps(SMALL), {}),
        ("two.json", json.dumps({"A": {}, "B": SMALL}), {"pick": "B"}),
    ],
)
def test_files_of_every_form_give_the_same_spec(tmp_path, file, content, options) -> None:
    (tmp_path / file).write_text(content)
    assert convert_darts(str(tmp_path / file), channels=8, depth=4, **options).hash == SMALL_HASH


@pytest.mark.parametrize("text", [TEXT, repr(SMALL), json.dumps(SMALL)])
def test_text_itself_gives_the_same_spec(text: str) -> None:
    assert convert_darts(text, channels=8, depth=4).hash == SMALL_HASH


def test_fields_by_position_are_those_by_name() -> None:
    (fields,) = genotypes_of("Genotype([('none', 0)], range(2, 4), (), [1])").values()
    assert fields == {"normal": [["none", 0]], "normal_concat": [2, 3], "reduce": [], "reduce_concat": [1]}


# What is refused


def changed(**fields: object) -> str:
    return repr(SMALL | fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (changed(reduce=SMALL["reduce"][:3]), "reduce: expected two entries a node, got 3"),
        (changed(normal=[]), "normal: expected two entries a node, got 0"),
        (
            changed(normal=[("sep_conv_3x3", 0), ("skip_conect", 1)]),
            "normal[1][0]: unknown operation \"skip_conect\", did you mean 'skip_connect'?",
        ),
        (changed(normal=[("sep_conv_3x3", 0), ("skip_connect", 2)]), "normal[1][1]: expected a node before 2, got 2"),
        (changed(normal=[("sep_conv_3x3", -1), ("skip_connect", 0)]), "line 1: expected texts, integers"),
        (changed(normal_concat=[3, 2]), "normal_concat: expected nodes from 2 to 3 in ascending order, got [3, 2]"),
        (changed(normal_concat=[1, 2]), "normal_concat: expected nodes from 2 to 3 in ascending order, got [1, 2]"),
        (changed(reduce_concat=[2, 4]), "reduce_concat: expected nodes from 2 to 3 in ascending order, got [2, 4]"),
        (changed(normal=[("none", 0), ("none", 1)] * 2), "network.stem: expected layout[0] or layout[1] to read"),
        (changed(normal=[("sep_conv_3x3", 0.5)] * 4), "line 1: expected texts, integers"),
        (changed(normal=[("sep_conv_3x3", True)] * 4), "normal[0][1]: expected an integer, got true"),
        (changed(extra=[]), 'unknown key "extra"'),
        ("Genotype(normal=[])", "normal_concat: missing"),
        ("Genotype(normal=range(0, 9, 0))", "line 1: expected texts, integers, lists, tuples and range(...), got Call"),
        ("Genotype(normal=[x for x in (1,)])", "got ListComp, which is not executed"),
        ("Genotype(normal=", "not Python: '(' was never closed at line 1"),
        ("f(1)", "expected Genotype(normal=[...], ...) or a mapping of its fields, got none"),
        (f"A = {TEXT}\nB = {TEXT}", "expected one of several genotypes, by name, expected one of A, B"),
        ("darts_v3", "neither a bundled genotype nor a file nor its text, did you mean 'darts_v"),
        ("nowhere.py", "nowhere.py: cannot be read"),
    ],
)
def test_what_cannot_be_expressed_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as raised:
        convert_darts(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_nothing_in_a_text_is_executed(tmp_path) -> None:
    ran = tmp_path / "ran"
    run = f"open({str(ran)!r}, 'w')"
    (tmp_path / "text.py").write_text(f"{run}\nMINE = {TEXT}")
    assert convert_darts(str(tmp_path / "text.py"), channels=8, depth=4).hash == SMALL_HASH
    for text in (f"Genotype(normal=[{run}])", f"Genotype({run}, [], [], [])"):
        with pytest.raises(DocumentError, match="got Call, which is not executed"):
            convert_darts(text)
    assert not ran.exists()


@pytest.mark.parametrize(
    "text",
    [
        "1" + "+1" * 60_000 + "#(",
        "-" * 100_000 + "1#(",
        "f" + "()" * 50_000,
        "[" * 5_000 + "(",
        "Genotype(\0)",
        "(" * 2**18,
        "Genotype(normal=range(0, 1000000000000000000), normal_concat=[], reduce=[], reduce_concat=[])",
    ],
)
def test_hostile_text_is_an_error_of_one_line(text: str) -> None:
    with pytest.raises(DocumentError) as raised:
        convert_darts(text)
    assert len(str(raised.value)) < 300


def test_a_file_may_have_parentheses_in_its_name(tmp_path):
    fields = ", ".join(f"{name}={value!r}" for name, value in GENOTYPES["darts_v2"].genotype.items())
    (tmp_path / "geno (1).py").write_text(f"G = Genotype({fields})")
    assert (
        convert_darts(str(tmp_path / "geno (1).py"), name="geno", depth=3).hash
        == convert_darts("darts_v2", depth=3).hash
    )


def test_more_cells_than_a_spec_has_are_refused_before_they_are_listed():
    with pytest.raises(DocumentError, match="depth: expected at most 1,000 cells, got 1000000000"):
        convert_darts("darts_v2", depth=10**9)
