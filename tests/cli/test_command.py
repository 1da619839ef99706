"""The command as a whole: a mistake is one line and exit code 2."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
from rich.console import Console

from robnet_zoo import __version__, cli
from robnet_zoo.cli import architectures
from robnet_zoo.genotype.specs import SPECS
from tests.command import fails

HEAVY = {"matplotlib", "numpy", "onnx", "onnxruntime", "optuna", "scipy", "sklearn", "timm", "torch", "tqdm"}
MAX_SECONDS = 0.7  # for --version
COUNT = """
import contextlib, io, json, sys
sys.orig_argv = ["python", "-m", "robnet_zoo.cli"]
from robnet_zoo.cli import main
loaded = {}
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        with contextlib.suppress(SystemExit):
            main(arguments)
    loaded[" ".join(arguments)] = sorted({name.partition(".")[0] for name in sys.modules} & set(%r))
print(json.dumps(loaded))
"""
WITHOUT_TORCH = [
    ["--version"],
    ["--help"],
    ["frobnicate"],
    ["list"],
    ["show", "robnet_micro"],
    ["validate", str(SPECS.path("robnet_micro"))],
    ["schema"],
    ["completion", "bash"],
    ["specs"],
    ["specs", "robnet_micro"],
    ["recipes"],
    ["recipes", "paper"],
    ["protocols"],
    ["protocols", "autoattack"],
    ["configs"],
    ["configs", "small"],
    ["plans"],
    ["plans", "table1"],
    ["scales"],
    ["scales", "small"],
    ["train", "robnet_micro", "--epohcs", "3"],
    ["benchmark", "robnet_micro"],
    ["export", "robnet_micro"],
    ["convert", "original", "--help"],
    ["search", "run", "--config"],
    ["reproduce", "table1", "--width", "wide"],
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "frobnicate"),
        (["show", "robnet_fre"], "did you mean 'robnet_free'?"),
        (["show", "robnet_free", "--cell", "cell_99", "--draw", "x.svg"], "unknown cell 'cell_99'"),
        (["show"], "show: expected SPEC, got none"),
        (["benchmark", "robnet_micro.digits"], "benchmark: expected --data, got none"),
        (["show", "robnet_free", "--draw", "x.bmp"], "expected a file that ends in .svg or .png"),
        (["validate"], "expected one or more files"),
        (["benchmark", "robnet_large_v2", "--data", "digits"], "no weights of robnet_large_v2 are bundled"),
        (["benchmark", "resnet999", "--data", "digits"], "neither an ONNX file, nor a folder"),
        (["benchmark", "robnet_micro.digits", "--data", "nowhere.npz"], "nowhere.npz: expected"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "-n", "0"], "n: expected at least 1, got 0"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--eps", "8"], "eps: expected at most 1"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--eps", "abc"], "eps: expected a fraction such as"),
        (["benchmark", "--data", "digits", "--source", "a", "b"], "got none; a, b behind --source are sources"),
        (
            ["benchmark", "robnet_micro.digits", "robnet_micro.digits", "--data", "digits"],
            "each once, got robnet_micro",
        ),
        (["benchmark", "a", "b", "--data", "digits", "--mean", "0.5", "--std", "1"], "expected one model with them"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--shard", "3/3"], "INDEX from 0 to COUNT - 1"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--protocol", "table8", "--eps", "16"], "at most 1"),
        (["benchmark", "robnet_micro.digits", "--data", "digits", "--protocol", "table2"], "the model to attack"),
        (["benchmark", "robnet_micro.nope", "--data", "digits"], "nope"),
        (["train", "robnet_micro", "--data", "digits", "--output", "x", "--recipe", "micro_cifar"], "did you mean"),
        (["train", "robnet_micro", "--data", "digits", "--output", "x", "--epochs", "0"], "epochs: expected"),
        (["train", "robnet_micro", "--data", "digits", "--output", "x", "--epochs", "many"], "many"),
        (
            ["train", "robnet_micro", "--data", "digits", "--output", "x", "--stages", '{"size": 16}'],
            "--stages[0].epochs: missing",
        ),
        (
            ["train", "robnet_micro", "--data", "digits", "--output", "x", "--schedule.milestones", "[1, x]"],
            "--schedule.milestones[1]: expected a number",
        ),
        (["estimate", "robnet_micro", "--data", "digits", "--updates", "0"], "--updates: expected at least 1, got 0"),
        (["export", "robnet_micro.digits"], "output"),
        (["export", "robnet_micro.digits", "-o", "x.onnx", "--opset", "12"], "opset: expected at least 18, got 12"),
        (["export", "robnet_micro.digits", "-o", "x.onnx", "--precision", "int8"], "expected real images"),
        (["export", "robnet_micro.digits", "-o", "x.onnx", "--precision", "int4"], "int4"),
        (["convert", "original", "nowhere.pth", "--spec", "robnet_free", "-o", "x"], "nowhere.pth"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_was_expected(capsys, arguments, message):
    assert message in fails(capsys, *arguments)


def test_the_installed_command_tells_its_version_and_those_that_results_depend_on() -> None:
    # Seconds of the processor; a loaded machine inflates them, so the least of up to three counts.
    seconds = []
    while len(seconds) < 3 and min(seconds, default=1) > MAX_SECONDS:
        before = os.times()
        completed = subprocess.run([sys.executable, "-m", "robnet_zoo", "--version"], capture_output=True, text=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    lines = completed.stdout.splitlines()
    assert lines[0] == f"robnet-zoo {__version__}"
    assert f"torch {version('torch')}" in lines
    assert any(line.startswith("onnxruntime") for line in lines)
    assert min(seconds) < MAX_SECONDS


@pytest.mark.parametrize("no_color", [False, True])
def test_help_has_colours_unless_they_are_not_wanted(no_color: bool, monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, color_system="standard")
    cli.command(overview=True).help_print([], console=terminal)
    assert bool(re.search(r"\x1b\[[\d;]*3\dm", screen.getvalue())) is not no_color


def test_an_interrupted_command_ends_with_130_and_says_that_it_resumes(capsys, monkeypatch) -> None:
    monkeypatch.setattr(architectures, "spec_names", interrupt)
    with pytest.raises(SystemExit) as exit:
        cli.main(["list"])
    assert exit.value.code == 130
    assert capsys.readouterr().err == (
        "robnet-zoo: interrupted; what was written is kept, and the same command resumes\n"
    )


def interrupt() -> None:
    raise KeyboardInterrupt


def test_what_needs_no_torch_imports_nothing_that_is_slow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT % sorted(HEAVY), json.dumps(WITHOUT_TORCH)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert len(loaded) == len(WITHOUT_TORCH)
    assert {command: names for command, names in loaded.items() if names} == {}


@pytest.mark.parametrize(
    ("path", "summary"), [entry for commands in cli.COMMANDS.values() for entry in commands.values()]
)
def test_the_overview_shows_the_first_line_of_a_commands_help(path: str, summary: str) -> None:
    module, _, attribute = path.partition(":")
    described = getattr(importlib.import_module(f"robnet_zoo.cli.{module}"), attribute)
    help_text = described.__doc__ if callable(described) and not hasattr(described, "help") else described.help
    assert summary == help_text.partition("\n")[0]


def test_the_overview_lists_commands_by_kind_in_the_order_of_the_table(capsys) -> None:
    cli.main(["--help"])
    shown = re.findall(r"^(?:╭─ |│ )([A-Z][a-z ]+|[a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    expected = [word for title, commands in cli.COMMANDS.items() for word in (title, *commands)]
    assert shown == [*expected, "Common flags"]


def test_a_name_that_the_terminal_cannot_show_is_printed_escaped(tiny, tmp_path):
    spec = tmp_path / os.fsdecode(b"caf\xe9.json")
    tiny.save(spec)
    done = subprocess.run([sys.executable, "-m", "robnet_zoo.cli", "validate", spec], capture_output=True, text=True)
    assert "caf\\udce9.json: valid" in done.stdout
    assert done.stderr == ""


def test_a_reader_that_has_read_enough_is_not_a_mistake():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "robnet_zoo", "recipes"], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def flags_of(app, path=()):
    """Yield each command below an app, with the names of its flags."""
    if app.default_command is not None:
        yield path, {name for argument in app.assemble_argument_collection() for name in argument.names}
    for name in app:
        if not name.startswith("-"):
            yield from flags_of(app[name], (*path, name))


def test_every_command_that_writes_a_file_can_be_quiet():
    flags = dict(flags_of(cli.command()))
    loud = {path for path, names in flags.items() if "--output" in names and "--quiet" not in names}
    assert {path for path in loud if path[0] != "edit"} == set()
    assert len(flags) > 30


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.OutOfMemoryError("model.onnx: Failed to allocate memory"),
        RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA`."),
        MemoryError("Unable to allocate 2.00 GiB"),
    ],
    ids=range(4),
)
def test_an_accelerator_without_memory_is_one_line_too(error, capsys):
    with pytest.raises(SystemExit) as exit, cli._mistakes():
        raise error
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("robnet-zoo: expected memory for what was asked, got none: ")


def test_more_memory_than_there_is_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["export", "robnet_micro.digits", "-o", str(tmp_path / "m.onnx"), "--batch", "999999999999"])
    assert exit.value.code == 2
    assert "expected memory for what was asked, got none: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
