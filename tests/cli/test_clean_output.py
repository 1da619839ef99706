"""With `--json` stdout is one document; with `--quiet` a command that succeeds says nothing, on stdout or stderr."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from robnet_zoo import cli
from robnet_zoo.attacks import Fgsm
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.genotype.specs import SPECS
from robnet_zoo.search import ranking
from robnet_zoo.search.lookup import meaning
from tests.cli.test_command import flags_of
from tests.search import small_search
from tests.search.test_lookup import EVERY

RESULTS = Path(__file__).parents[2] / "robnet_zoo" / "benchmarks" / "results"
AUTOATTACK = RESULTS / "robustness" / "robnet_free.fast_cifar10.autoattack.json"
STUDY = "search/cell_based.json"
MEASURED = "--data digits -n 4 --batch 2 --protocol short.json"
TRAINED = "--data scans.npz --recipe micro_digits --batch 40 --attack.steps 0"
SEARCHED = "--config toy.json --data digits -o search"
ELSEWHERE = {"demo", "reproduce", "convert original", "search standalone"}  # in the tests of these commands

JSON = {
    "list": "",
    "show": "fitted --draw cell.svg",
    "validate": "tiny.json",
    "doctor": "",
    "estimate": f"tiny.json {TRAINED} --updates 1",
    "export": "fitted -o another.onnx --no-prove",
    "benchmark": f"fitted {MEASURED}",
    "compare": "fitted fitted.onnx --data digits -n 4",
    "push": "fitted me/tiny --dry-run",
}
WRONG = {
    "list": "tiny.json",
    "show": "tiny.jsn",
    "doctor": "tiny.json",
    "estimate": f"tiny.jsn {TRAINED}",
    "export": "fitte -o another.onnx",
    "convert original": "nowhere.pth --spec tiny.json -o folder",
    "benchmark": f"fitted {MEASURED} --eps 8",
    "compare": "fitted nowhere.onnx --data digits",
    "reproduce": "tabel1",
    "push": "fitted me --dry-run",
}
QUIET = {
    "train": f"tiny.json {TRAINED} --epochs 1 --validation 0 -o run",
    "estimate": f"tiny.json {TRAINED} --updates 1 -o estimate.json",
    "export": "fitted -o quantised.onnx --no-prove --precision int8 --data scans.npz",
    "convert codes": f"{SPECS.path('robnet_small')} -o codes.json",
    "convert darts": "darts_v2 -o darts.json",
    "convert msrobnet": "msrobnet_1560 -o msrobnet.json",
    "benchmark": f"fitted {MEASURED} -o again.json",
    "benchmark merge": "part0.json part1.json -o whole.json",
    "benchmark verify": "kept.json --data digits",
    "compare": "fitted fitted.onnx --data digits -n 4",
    "report": "kept.json -o report.html",
    "robustbench": f"{AUTOATTACK} --link l --name n --authors a --venue v -o info.json --issue issue.md",
    "search supernet": f"{SEARCHED} --kind cell_based",
    "search work": f"{SEARCHED} --kind cell_based",
    "search run": SEARCHED,
    "search report": f"{STUDY} -o search.html",
    "search pick": f"{STUDY} -o picks",
    "search cells": "search -n 2 -o cells",
    "search findings": "--table cells.csv --space mine -o findings.json",
    "search score": "--table specs.json --data scans.npz --channels 2 --pixels 8 --images 2 --scores parameters "
    "-o scores.json",
    "search lookup": "--table cells.csv --evaluations 2 --seeds 2 --methods uniform --draw lookup.svg -o lookup.json",
    "reproduce report": f"{RESULTS / 'reproduce' / 'table1.small.json'} -o table1.md",
    "push": "fitted me/tiny --dry-run -o pushed",
}


@pytest.fixture(scope="module", autouse=True)
def folder(tiny, fitted, scans, tmp_path_factory) -> Iterator[Path]:
    """Work in a folder that has what the commands take."""
    folder = tmp_path_factory.mktemp("output")
    for name, path in (("fitted", fitted), ("scans.npz", scans)):
        (folder / name).symlink_to(path)
    tiny.save(folder / "tiny.json")
    Protocol(name="short", attacks=(Fgsm(),)).save(folder / "short.json")
    branch = small_search.config().branches[0]
    few = branch.model_copy(update={"groups": branch.groups[1:]})
    small_search.config().model_copy(update={"branches": (few,)}).save(folder / "toy.json")
    rows = {meaning(digits): digits for digits in EVERY}.values()
    table = [f"{digits},{(digits.count('3') + index / 1e5) / 10}" for index, digits in enumerate(rows)]
    (folder / "cells.csv").write_text("\n".join(["operations,robust", *table]))
    specs = [{"spec": json.loads(tiny.dumps()), "robust": index / 10} for index in range(10)]
    (folder / "specs.json").write_text(json.dumps(specs))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(ranking, "RESAMPLES", 10)
        for command in (
            "export fitted -o fitted.onnx --no-prove",
            f"benchmark fitted {MEASURED} -o kept.json --keep-images",
            f"benchmark fitted {MEASURED} --shard 0/2 -o part0.json",
            f"benchmark fitted {MEASURED} --shard 1/2 -o part1.json",
            f"search run {SEARCHED}",
        ):
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
                cli.main([*command.split(), "--quiet"])
            assert out.getvalue() == ""
        yield folder


def with_flag(flag: str) -> set[str]:
    return {" ".join(path) for path, names in flags_of(cli.command()) if flag in names}


def test_every_command_that_has_the_flags_is_asked() -> None:
    assert with_flag("--json") == JSON.keys() | ({"convert original", "reproduce"})
    assert with_flag("--json") == WRONG.keys() | {"validate"}  # which says of each file what is wrong
    assert with_flag("--quiet") == QUIET.keys() | ELSEWHERE


@pytest.mark.parametrize("command", JSON)
def test_json_is_a_single_document_on_stdout(command: str, capfd) -> None:
    cli.main([*command.split(), *JSON[command].split(), "--json"])
    json.loads(capfd.readouterr().out)


@pytest.mark.parametrize("command", WRONG)
def test_a_mistake_leaves_stdout_empty_under_json(command: str, capfd) -> None:
    with pytest.raises(SystemExit) as exit:
        cli.main([*command.split(), *WRONG[command].split(), "--json"])
    captured = capfd.readouterr()
    assert (exit.value.code, captured.out) == (2, "")
    assert captured.err.startswith("robnet-zoo: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("command", QUIET)
def test_a_quiet_command_says_nothing(command: str, capfd) -> None:
    cli.main([*command.split(), *QUIET[command].split(), "--quiet"])
    assert tuple(capfd.readouterr()) == ("", "")
