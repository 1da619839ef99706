"""Every command and every Python block of README and docs runs as it is written, a page in a folder of its own.

Long work is cut to a toy size where it begins: few images, small networks, one epoch. All that comes before and after
is real. A command that takes hours, or ends only when it is stopped, is marked: `<!-- hours -->` before a block stands
for all its commands, `<!-- hours: search run, reproduce -->` for those that begin so. Of these `--help` and the flags
are checked. What stands in a `text` block behind a block is what that block prints; `...` stands for anything.
"""

from __future__ import annotations

import builtins
import contextlib
import doctest
import glob
import importlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.distributed import run as torchrun

from robnet_zoo import attacks, cli, data, training
from robnet_zoo.benchmarks import evaluation, exports, likeness
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.converters import onnx
from robnet_zoo.converters.original.weights import _original_key
from robnet_zoo.genotype.blueprint import blueprint
from robnet_zoo.genotype.passes import canonical
from robnet_zoo.genotype.specs import SPECS, load_spec
from robnet_zoo.nn.compiler import compile
from robnet_zoo.search import StudyResult, pipeline
from tests.converters.onnx.exports import seen
from tests.search import small_search

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RESULTS = ROOT / "robnet_zoo" / "benchmarks" / "results"
HOURS = re.compile(r"<!-- hours(?:: (?P<commands>.+))? -->")
PROGRAMS = ("robnet-zoo", "python", "torchrun", "make", "#!/bin/bash")
SET = re.compile(r"[A-Z_]+=\S*")  # a variable before a command
IMAGES = 3  # that a model is attacked on
LENGTHS = ("steps", "queries", "searches")  # of attacks
PLACEHOLDERS = {
    "MODEL": "robnet_micro.digits",
    "DATA": "digits",
    "A": "robnet_micro.digits",
    "B": "robnet_micro.cifar10",
    "C": "foreign.onnx",
    "RESULT.json": str(RESULTS / "robustness" / "robnet_free.fast_cifar10.autoattack.json"),
}


@dataclass(frozen=True)
class Block:
    """A block of a page: its first line, its language ("" if it is indented), its text and what stands before it."""

    line: int
    language: str
    text: str
    before: str

    @property
    def is_shell(self) -> bool:
        first = next((word for word in self.text.split() if not SET.fullmatch(word)), "")
        return self.language in ("", "console") and first in PROGRAMS

    def takes_hours(self, words: list[str]) -> bool:
        """Return whether a mark says that a command takes hours."""
        mark = HOURS.fullmatch(self.before.splitlines()[-1]) if self.before else None
        begun = [] if mark is None else (mark["commands"] or "").split(", ")
        return any(words[: len(each.split())] == each.split() for each in begun)


def blocks(text: str) -> list[Block]:
    """Return the fenced and the indented blocks of a page."""
    lines, listed, at = text.splitlines(), [], 0
    before: list[str] = []
    while at < len(lines):
        start, line = at, lines[at]
        if line.startswith("```"):
            at = lines.index("```", at + 1) + 1
            listed.append(Block(start + 2, line[3:], "\n".join(lines[start + 1 : at - 1]), "\n".join(before)))
            before = []
        elif line.startswith("    ") and not lines[at - 1].strip():
            while at < len(lines) and (line := lines[at]).startswith("    "):
                at += 1
            inner = "\n".join(line[4:] for line in lines[start:at])
            assert "```" not in inner, f"line {start + 1}: expected blocks that are not inside a list"
            listed.append(Block(start + 1, "", inner, "\n".join(before)))
            before = []
        else:
            before += [line] if line.strip() else []
            at += 1
    return listed


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of every command of a block."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and SET.fullmatch(words[0]):
            words = words[1:]
        if "torchrun" in words:
            words = words[words.index("torchrun") :]
        if words and words[0] in PROGRAMS:
            yield words


def toy_scans(n: int) -> tuple[np.ndarray, list[int]]:
    """Return scans of digits as pixels (n, 32, 32, 3), and their labels."""
    images = data.digits()[0][:n]
    return images.pixels.permute(0, 2, 3, 1).numpy(), images.labels.tolist()


class Cifar:
    """A data set of torchvision that is there already."""

    def __init__(self, root: object, *, train: bool, download: bool) -> None:
        self.data, self.targets = toy_scans(500 if train else 1000)
        self.classes = list("0123456789")


class Svhn:
    def __init__(self, root: object, *, split: str, download: bool) -> None:
        pixels, labels = toy_scans(200)
        self.data, self.labels = pixels.transpose(0, 3, 1, 2), np.array(labels)


@pytest.fixture
def toy_sizes(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut work that takes long where it begins."""
    whole = {
        "run": attacks.run,
        "train": training.train,
        "estimate": training.estimate,
        "evaluate": evaluation.evaluate,
        "evaluate_transfer": evaluation.evaluate_transfer,
        "export": onnx.export,
        "compare_targets": likeness.compare_targets,
        "write_exports": exports.write_exports,
    }
    target = load_target("robnet_micro.cifar10", dtype="float32")
    small_spec = canonical(tiny)  # as a compiled network has it

    def briefly(recipe: Any) -> Any:
        attack = recipe.attack.model_copy(update={"steps": min(recipe.attack.steps, 1)})
        return recipe.model_copy(update={"epochs": 1, "batch": 32, "attack": attack, "guard": None})

    def train(architecture: Any, images: data.Images, recipe: Any, output: Any, **options: Any) -> Any:
        return whole["train"](tiny, images[:100], briefly(recipe), output, **options)

    def estimate(architecture: Any, images: data.Images, recipe: Any, **options: Any) -> Any:
        return whole["estimate"](tiny, images[:100], briefly(recipe), **options | {"updates": 1})

    def within_minutes(architecture: Any, images: data.Images, recipe: Any, minutes: float, **options: Any) -> Any:
        estimate(architecture, images, recipe, **options)
        return recipe.lasting(1)

    def brief(attack: Any) -> dict[str, int]:
        return {key: min(getattr(attack, key), 2) for key in LENGTHS if hasattr(attack, key)}

    def small(given: Any) -> Any:
        return target if given.name.startswith("robnet_free") else given

    def short(attack: Any) -> Any:
        return attack.model_copy(update={"name": attack.title} | brief(attack))

    def run(attack: Any, *arguments: Any, **options: Any) -> Any:
        return whole["run"](attack.model_copy(update=brief(attack)), *arguments, **options)

    def quickly(protocol: Any, *, shard: Any = None) -> Any:
        attacks = tuple(map(short, protocol.attacks))  # at this radius nothing withstands AutoAttack for long
        batch = IMAGES if shard is None else 1  # a shard has a batch or more
        return protocol.model_copy(update={"n": IMAGES, "batch": batch, "eps": "1/2", "attacks": attacks})

    def evaluate(given: Any, images: data.Images, protocol: Any, **options: Any) -> Any:
        shard = options.get("shard")
        if shard is not None:
            assert (protocol.n or len(images)) > (shard.count - 1) * protocol.batch, "shards without images"
        return whole["evaluate"](small(given), images, quickly(protocol, shard=shard), **options)

    def evaluate_transfer(targets: Any, source: Any, images: data.Images, protocol: Any, **options: Any) -> Any:
        return whole["evaluate_transfer"]([*map(small, targets)], small(source), images, quickly(protocol), **options)

    def export(model: Any, *arguments: Any, **options: Any) -> Any:
        own = model if getattr(model, "spec", None) == small_spec else compile(tiny)
        vars(own)["pretrained_cfg"] = getattr(model, "pretrained_cfg", None)  # which names the classes
        return whole["export"](own, *arguments, **options)

    def compare_targets(first: Any, second: Any, images: data.Images, **options: Any) -> Any:
        return whole["compare_targets"](second, second, images[:IMAGES], **options)  # exports are of another model

    def write_exports(given: Any, images: data.Images, output: Any, **options: Any) -> Any:
        own = seen(tiny)  # with norms as at the start, all its logits would be equal but for rounding
        few = images[:IMAGES]
        return whole["write_exports"](of_module(own, name=given.name), few, output, **options | {"rounds": 1})

    class Search(pipeline.Search):
        def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
            whole = small_search.config()
            shorter = whole.model_copy(update={"branches": whole.branches[:1]})
            super().__init__(shorter, *arguments, **options)

        def run(self, *, workers: int = 1, **options: Any) -> list[Path]:
            return super().run(**options)  # other workers would take seconds to start

    monkeypatch.setattr(attacks, "run", run)
    monkeypatch.setattr(training, "train", train, raising=False)
    monkeypatch.setattr(training, "estimate", estimate, raising=False)
    monkeypatch.setattr(training, "within_minutes", within_minutes, raising=False)
    monkeypatch.setattr(evaluation, "evaluate", evaluate)
    monkeypatch.setattr(evaluation, "evaluate_transfer", evaluate_transfer)
    monkeypatch.setattr(onnx, "export", export, raising=False)
    monkeypatch.setattr(likeness, "compare_targets", compare_targets)
    monkeypatch.setattr(exports, "write_exports", write_exports)
    monkeypatch.setattr(pipeline, "Search", Search)
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)  # which would wait for Ctrl-C
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    for name, kind in (("CIFAR10", Cifar), ("CIFAR100", Cifar), ("SVHN", Svhn)):
        monkeypatch.setattr(torchvision.datasets, name, kind)


@pytest.fixture
def folder(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which a page's user is: what the pages take for granted lies there."""
    for path in (RESULTS / "search").glob("*.json"):
        study = StudyResult.load(path)
        few = tuple(candidate for candidate in study.candidates if candidate.index < 24)
        study.model_copy(update={"candidates": few}).save(tmp_path / "benchmarks" / "results" / "search" / path.name)
    shutil.copytree(SPECS.folder, tmp_path / "specs")
    (tmp_path / "foreign.onnx").write_bytes(onnx.to_onnx(compile(tiny).eval()).SerializeToString())
    pixels, labels = toy_scans(100)
    Image.fromarray(pixels[0]).resize((48, 40)).save(tmp_path / "picture.jpg")
    np.savez(tmp_path / "sorted.npz", images=pixels, labels=np.sort(labels))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_checkpoint(path: Path) -> None:
    """Write weights of robnet_free as the original's code keeps them."""
    spec = load_spec("robnet_free")
    plan = blueprint(spec)
    weights: dict[str, Tensor] = {_original_key(key, plan): value for key, value in compile(spec).state_dict().items()}
    torch.save({"state_dict": weights}, path)


def printed(call: Callable[[], object]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        call()
    return out.getvalue()


def run_command(words: list[str]) -> str:
    """Return what a command prints, or writes into a file behind `>`."""
    if words[0] == "make":
        if shutil.which("make"):
            subprocess.run([*words, "--dry-run"], cwd=ROOT, check=True, capture_output=True)
        return ""
    arguments = own_arguments(words)
    assert arguments is not None, f"{' '.join(words)}: expected a mark, as only `robnet-zoo` runs here"
    target = None
    if ">" in arguments:
        at = arguments.index(">")
        arguments, target = arguments[:at], arguments[at + 1]
    filled = [PLACEHOLDERS.get(word, word) for word in arguments]
    filled = [path for word in filled for path in (sorted(glob.glob(word)) if "*" in word else [word])]
    text = printed(lambda: cli.main(filled))
    if target is not None:
        Path(target).write_text(text)
    return text


def own_arguments(words: list[str]) -> list[str] | None:
    """Return the arguments of `robnet-zoo` in a command, or None if it is another's."""
    if words[0] == "robnet-zoo":
        return words[1:]
    if words[0] == "torchrun":
        parsed = torchrun.parse_args(words[1:])
        assert parsed.training_script == "robnet_zoo.cli"
        return list(parsed.training_script_args)
    return words[3:] if words[:3] == ["python", "-m", "robnet_zoo.cli"] else None


def check_flags(words: list[str]) -> None:
    """Check a command without running it: its help, and that its flags and their values are taken."""
    arguments = own_arguments(words)
    if arguments is None:
        assert words[:2] == ["python", "-m"]
        module, arguments = importlib.import_module(words[2]), words[3:]
        app = getattr(module, "app", None) or cyclopts.App()
        if hasattr(module, "main"):
            app.default(module.main)
    else:
        app = cli.command()
    path = list(app.parse_commands(arguments)[0])
    assert printed(lambda: app([*path, "--help"], result_action="return_value")).startswith("Usage: ")
    app.parse_args(arguments, exit_on_error=False, print_error=False)


def run_block(block: Block, names: dict[str, object]) -> str:
    """Return what a block prints."""
    if block.language == "python":
        return printed(lambda: exec(builtins.compile(block.text, "page", "exec"), names))
    out = []
    for words in commands(block.text):
        if block.takes_hours(own_arguments(words) or words):
            check_flags(words)
        else:
            out.append(run_command(words))
    return "".join(out)


@pytest.mark.usefixtures("toy_sizes")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs_and_prints_what_it_shows(page: Path, folder: Path) -> None:
    listed = blocks(page.read_text(encoding="utf-8"))
    for block in listed:
        if block.language == "json" and (match := re.search(r"as\s+`(\S+\.json)`", block.before)):
            (folder / match[1]).write_text(block.text)
    if any("checkpoint.pth.tar" in block.text for block in listed):
        write_checkpoint(folder / "checkpoint.pth.tar")
    names: dict[str, object] = {}
    got = ""
    for block in listed:
        where = f"{page.name}, line {block.line}"
        if block.language == "text":
            options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            matches = doctest.OutputChecker().check_output(f"{block.text}\n", got, options)
            assert matches, f"{where}: expected\n{block.text}\ngot\n{got}"
        elif block.language == "python" or block.is_shell:
            try:
                got = run_block(block, names)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{where}: {error!r}\n{block.text}") from error


def mentioned() -> list[str]:
    """Return every command of `robnet-zoo` in the prose of the pages."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    spans = {" ".join(span.split()) for text in texts for span in re.findall(r"`(robnet-zoo [^`]+)`", text)}
    return sorted(spans)


def test_a_command_that_prose_mentions_exists_with_its_flags() -> None:
    app = cli.command()
    for mention in mentioned():
        words = mention.split()[1:]
        path, *_ = app.parse_commands(words)
        assert path or words[0].startswith("--"), mention
        described = printed(lambda path=path: cli.main([*path, "--help"]))
        assert not [word for word in words if word.startswith("-") and word not in described.split()], mention
