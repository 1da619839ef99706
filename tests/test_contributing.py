"""The recipes of CONTRIBUTING.md, followed to the letter in a copy of the package: no other change is needed.

A step names a file and what to do there: write a new file, copy one with other values, or add an import or an entry.
What the steps add is then used through the API and the command.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import start

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"^\d\. `(?P<path>[^`]+)`, (?P<what>.*?)\n\n   ```\w+\n(?P<block>.*?)   ```$", re.DOTALL | re.MULTILINE
)
IGNORED = shutil.ignore_patterns("results", "robnet_free*.safetensors")  # large, and not needed


@dataclass(frozen=True)
class Step:
    """A file that a recipe changes, what is done there, and with which text."""

    path: str
    what: str
    block: str

    def follow(self, root: Path) -> None:
        file = root / self.path
        if self.what.startswith("a new file"):
            assert not file.exists()
            file.write_text(self.block, encoding="utf-8")
        elif match := re.match(r"a copy of `(.+?)` with other values", self.what):
            assert not file.exists()
            document = json.loads((file.parent / match[1]).read_bytes()) | json.loads(self.block)
            file.write_text(json.dumps(document), encoding="utf-8")
        elif self.what.startswith("an import"):
            text = file.read_text(encoding="utf-8")
            last = max(node.end_lineno or 0 for node in ast.parse(text).body if isinstance(node, ast.ImportFrom))
            lines = text.splitlines(keepends=True)
            file.write_text("".join([*lines[:last], self.block, *lines[last:]]), encoding="utf-8")
        elif match := re.match("an entry in `(.+?)`", self.what):
            self._add(file, match[1])
        else:
            pytest.fail(f"{self.path}: expected one of the four things that a step can do, got {self.what}")

    def _add(self, file: Path, table: str) -> None:
        """Put the block after the last entry of a dictionary, a list, a tuple or, if it begins with |, a union."""
        source = file.read_bytes()
        assignments = [node for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
        (assigned,) = (node for node in assignments if table in (getattr(name, "id", "") for name in _targets(node)))
        kinds = ast.BinOp if self.block.startswith("|") else ast.Dict | ast.List | ast.Tuple
        entries = next(node for node in ast.walk(assigned.value) if isinstance(node, kinds))
        if isinstance(entries, ast.BinOp):
            last, separator = entries.right, " "
        else:
            last, separator = (entries.values if isinstance(entries, ast.Dict) else entries.elts)[-1], ", "
        lines = source.splitlines(keepends=True)
        at = len(b"".join(lines[: last.end_lineno - 1])) + last.end_col_offset
        file.write_bytes(source[:at] + (separator + self.block.strip()).encode() + source[at:])


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def steps(recipe: str) -> list[Step]:
    """Return the steps of a recipe, by its heading."""
    (section,) = re.findall(rf"^### {recipe}\n(.*?)(?=^##|\Z)", TEXT, re.DOTALL | re.MULTILINE)
    numbered = len(re.findall(r"^\d+\. ", section, re.MULTILINE))
    matches = [match.groupdict() for match in STEP.finditer(section)]
    assert len(matches) == numbered > 0, "each step names a file, says what to do there, and gives a block"
    return [Step(match["path"], match["what"], textwrap.dedent(match["block"])) for match in matches]


def use(folder: Path, recipe: str, code: str, **files: str) -> str:
    """Return the output of a program that uses a copy of the package in which a recipe was followed.

    files: texts that the program finds in its working directory, by names without `.json`.
    """
    shutil.copytree(ROOT / "robnet_zoo", folder / "robnet_zoo", ignore=IGNORED)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for step in steps(recipe):
        step.follow(folder)
    work = folder / "work"
    work.mkdir()
    for name, text in files.items():
        (work / f"{name}.json").write_text(text, encoding="utf-8")
    printed, errors = folder / "printed.txt", folder / "errors.txt"
    process = start(run_in_copy, folder, textwrap.dedent(code), output=printed, errors=errors)
    process.join()
    assert process.exitcode == 0, errors.read_text()
    return printed.read_text()


def run_in_copy(folder: Path, code: str) -> None:
    """Run a program with the package of a folder, in a process that has imported it from elsewhere before."""
    for name in list(sys.modules):
        if name.partition(".")[0] in ("robnet_zoo", "tests"):
            del sys.modules[name]
    sys.path.insert(0, str(folder))
    os.chdir(folder / "work")
    import robnet_zoo

    assert Path(robnet_zoo.__file__).is_relative_to(folder)
    exec(code, {"__name__": "__main__"})


def spec(**changes: object) -> str:
    """Return a spec of two small cells, as JSON."""
    document = {
        "schema_version": 1,
        "name": "small",
        "operations": ["identity", "sep_conv_3x3"],
        "cells": {"cell": {"alpha": [[1, 1], [0, 1], [1, 0], [0, 0], [0, 1]], "concat": [2, 3]}},
        "layout": ["cell", "cell"],
        "network": {
            "stem": "cifar",
            "channels": 4,
            "depth": 2,
            "reductions": [1],
            "num_classes": 10,
            "input_size": [3, 32, 32],
            "affine": True,
        },
    }
    return json.dumps(document | changes)


def test_an_operation_is_an_entry_in_a_table(tmp_path: Path) -> None:
    code = """
        import torch
        from robnet_zoo import Genotype, compile, for_inference
        from robnet_zoo.cli import main
        from robnet_zoo.genotype.operations import OPERATIONS

        assert "conv_3x3" in OPERATIONS
        main(["validate", "small.json"])
        main(["show", "small.json", "--draw", "cell.svg"])
        network = compile(Genotype.load("small.json")).eval()
        images = torch.rand(2, 3, 32, 32)
        assert any("conv_3x3" in key for key in network.state_dict())
        torch.testing.assert_close(for_inference(network)(images), network(images), rtol=1e-4, atol=1e-4)
        from safetensors.torch import save_model
        save_model(network, "small.safetensors")
        main(["export", "small.json", "--weights", "small.safetensors", "-o", "small.onnx"])
    """
    output = use(tmp_path, "Add an operation", code, small=spec(operations=["identity", "conv_3x3"]))
    assert "small.json: valid" in output
    assert "conv_3x3" in output
    assert "small.onnx: " in output
    assert "conv_3x3" in (tmp_path / "work" / "cell.svg").read_text(encoding="utf-8")


def test_an_attack_is_a_file_and_an_entry(tmp_path: Path) -> None:
    code = """
        import torch
        from robnet_zoo.attacks import Cosine, craft
        from robnet_zoo.cli import main
        from tests.attacks.classifiers import ATTACKS, Opposites

        model, images = Opposites(), torch.rand(3, 3, 4, 4)
        outcomes = craft(Cosine(), model, images, model.labels(images), eps=8 / 255)
        moved = torch.stack([outcome.image for outcome in outcomes])
        assert 0 < (moved - images).abs().max() <= 8 / 255 + 1e-6
        assert ATTACKS["cosine"].cost(10).forwards == 12
        main(["benchmark", "robnet_micro.digits", "--data", "digits", "--protocol", "mine.json", "-o", "result.json"])
        main(["report", "result.json", "-o", "report.html"])
    """
    protocol = json.loads((ROOT / "robnet_zoo/benchmarks/protocols/quick.json").read_bytes())
    protocol |= {"name": "mine", "n": 4, "batch": 4, "attacks": [{"kind": "cosine", "steps": 4}]}
    use(tmp_path, "Add an attack", code, mine=json.dumps(protocol))
    result = json.loads((tmp_path / "work" / "result.json").read_bytes())
    assert [measured["attack"] for measured in result["measurements"]] == ["clean", "cosine4"]
    assert "cosine4" in (tmp_path / "work" / "report.html").read_text(encoding="utf-8")


def test_a_recipe_is_a_document(tmp_path: Path) -> None:
    code = """
        import json
        import numpy as np
        from robnet_zoo.cli import main
        from robnet_zoo.training import load_recipe
        from robnet_zoo.training.recipe import RECIPES

        pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
        np.savez("noise.npz", images=pixels, labels=np.arange(40) % 10)
        recipe = load_recipe("brief")
        assert recipe.attack.steps == 1
        assert json.loads(RECIPES.path("brief").read_text()) == json.loads(recipe.dumps())  # in full
        main(["recipes"])
        main(["train", "small.json", "--data", "noise.npz", "--recipe", "brief", "-o", "run", "--batch", "16"])
    """
    output = use(tmp_path, "Add a recipe", code, small=spec())
    assert "\nbrief " in f"\n{output}"
    assert len(json.loads((tmp_path / "work" / "run" / "training.json").read_bytes())["epochs"]) == 2


def test_a_converter_is_a_function_and_an_entry(tmp_path: Path) -> None:
    code = """
        from pathlib import Path
        from robnet_zoo import Genotype
        from robnet_zoo.cli import main
        from robnet_zoo.converters import CONVERTERS

        text = Path("cell.json")
        text.write_text("0 2 sep_conv_3x3\\n1 2 identity\\n2 3 sep_conv_3x3\\n")
        spec = CONVERTERS["edge-list"](text)
        assert spec.cells["cell"].alpha == ((0, 1), (1, 0), (0, 0), (0, 0), (0, 1))
        main(["convert", "edge-list", "cell.json", "--channels", "8", "-o", "spec.json"])
        assert Genotype.load("spec.json").network.channels == 8
        main(["validate", "spec.json"])
    """
    assert "spec.json: valid" in use(tmp_path, "Add a converter", code)


def test_a_protocol_is_a_document(tmp_path: Path) -> None:
    code = """
        import json
        from robnet_zoo.benchmarks.protocol import PROTOCOLS, load_protocol
        from robnet_zoo.cli import main

        protocol = load_protocol("margin")
        assert [attack.steps for attack in protocol.attacks] == [20]
        assert json.loads(PROTOCOLS.path("margin").read_text()) == json.loads(protocol.dumps())  # in full
        main(["protocols"])
        arguments = ["--protocol", "margin", "--data", "digits", "-n", "4", "--batch", "4", "-o", "result.json"]
        main(["benchmark", "robnet_micro.digits", *arguments])
    """
    output = use(tmp_path, "Add a protocol", code)
    assert "\nmargin " in f"\n{output}"
    result = json.loads((tmp_path / "work" / "result.json").read_bytes())
    assert [measured["attack"] for measured in result["measurements"]] == ["clean", "pgd20_margin"]
