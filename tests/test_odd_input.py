"""Odd input: 500 argument lists for the command and 500 calls of the Python face, drawn from their own parameters.

The command either does what it is asked, or ends with exit code 2 and one line on stderr, `robnet-zoo: ...`, which says
what was expected, what was got and where. The line is readable: short, printable, without the names of classes. What
was there before such an end is there after it, and nothing else; and no pickle was executed. (`validate` has a line for
each problem of a file instead; notes that a file was passed over, or a name taken for this or that, may come before.)

Documents are built, parsed and loaded from values of any type, and functions are called with odd texts, paths and
numbers where their annotations want such, or with odd models, images and labels. They return, or raise an OSError or an
error of the package, of one printable line. (Values of types that an annotation does not allow are a matter for type
checkers, but documents check theirs. What a model that was given raises comes through as it is.)

Work that would take long is cut where it begins: all that comes before it is real.
"""

from __future__ import annotations

import importlib
import inspect
import io
import math
import os
import re
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, get_args, get_origin

import pytest
import torch
from torch import Tensor, nn

from robnet_zoo import cli
from robnet_zoo.attacks import Apgd, AutoAttack, DeepFool, Fgsm, Pgd, Square, run
from robnet_zoo.benchmarks import Protocol, evaluate, of_module
from robnet_zoo.core.documents import Document
from robnet_zoo.data import Images
from robnet_zoo.errors import RobnetZooError
from tests import odd_folder

EXAMPLES = 500
SECONDS = 20  # an example that takes longer waits for ever
LOCKS = {".fetching", ".lock"}
MAX_LENGTH = 400  # of a message
WORDS_OF_LIBRARIES = re.compile(
    r"pydantic|cyclopts|torch\.nn|Traceback|<class|object at 0x|\b[A-Z]\w*(Error|Exception)\b"
)
BEGINNINGS = (  # of work that takes long
    "robnet_zoo.training.loop.TrainingRun.to_the_end",
    "robnet_zoo.training.duration._timed_batch",
    "robnet_zoo.benchmarks.evaluation._target_alarms",
    "robnet_zoo.search.pipeline.train_supernet",
    "robnet_zoo.reproduce.reproduction.costs",
    "robnet_zoo.converters.onnx.exporter.to_onnx",
    "robnet_zoo.reports.search.search_report",
    "robnet_zoo.editor.serving.server_of",
)

FACES = (
    "",
    ".attacks",
    ".benchmarks",
    ".converters",
    ".converters.onnx",
    ".search",
    ".training",
    ".data",
    ".reproduce",
)
VALUES: list[Any] = [
    *(None, math.nan, math.inf, -1, 0, 10**30, 2.9, True, "", "x", "8/0", "nan", b"", b"x", "\udce9", "a\x00b", [], {}),
    *([1, "x"], {"a": 1}, (), object(), torch.zeros(2), torch.zeros(()), torch.float16, Path("x"), {1: 2}, set(), int),
    *({"kind": "pgd"}, [[]], [None], print),
]


class Begun(BaseException):
    """Work that takes long has begun: the arguments were right."""


class Late(BaseException):
    """An example is still at work after `SECONDS`."""


class Flag(NamedTuple):
    """A parameter of a command, with its names, if it is not a positional one, and the type of its values."""

    names: tuple[str, ...]
    key: str
    hint: Any
    required: bool


def commands(app: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Flag]]]:
    """Yield every command with its parameters."""
    if app.default_command is not None:
        flags = []
        for argument in app.assemble_argument_collection():
            positional = argument.field_info.kind.name != "KEYWORD_ONLY"
            names = () if positional else tuple(name for name in argument.names if name != "*")
            if positional or names:
                key = argument.names[0].lstrip("-").lower()
                flags.append(Flag(names, key, argument.hint, argument.required))
        yield path, flags
    for name in app:
        if not name.startswith("-"):
            yield from commands(app[name], (*path, name))


COMMANDS = dict(commands(cli.command()))
RIGHT = {  # values that let a command go on, by parameter
    "architecture": ["tiny.json", "robnet_micro", "resnet18_cifar", "run"],
    "data": ["images.npz", "pictures", "digits", "pictures-32:pictures"],
    "test": ["images.npz", "digits"],
    "output": ["out", "out.json", "out.html", "out.onnx", "new/out.json", "out.csv", "out.md"],
    "comparisons": ["more.html", "more.csv"],
    "draw": ["cell.svg", "cell.png"],
    "recipe": ["fast", "paper", "micro_digits"],
    "weights": ["tiny.safetensors", "robnet_micro.digits", "run/model.safetensors"],
    "source-weights": ["tiny.safetensors"],
    "model": ["run", "local-dir:run", "robnet_micro.digits", "tiny.json"],
    "target": ["run", "model.onnx", "robnet_micro.digits", "tiny.json"],
    "source": ["run", "model.onnx"],
    "protocol": ["quick", "table2", "square", "autoattack"],
    "config": ["small"],
    "plan": ["table1", "table3"],
    "scale": ["small"],
    "spec": ["tiny.json", "robnet_micro"],
    "specs": ["tiny.json"],
    "result": ["result.json", "table.json"],
    "results": ["result.json", "study.json", "."],
    "documents": ["result.json"],
    "file": ["codes.json", "foreign.pth"],
    "genotype": ["DARTS_V2", "PC_DARTS_cifar"],
    "storage": ["study.db", "journal:study.log", "sqlite:///study.db"],
    "shard": ["0/2"],
    "rows": ["ResNet-18", "RobNet-free"],
    "beside": ["run"],
    "batch": ["4", "16"],
    "validation": ["5"],
    "milestones": ["[0.5]"],
    "stages": ['{"size": 16, "epochs": 1}'],
    "eps": ["8/255", "0.03"],
    "step": ["2/255"],
    "cell": ["cell"],
    "mean": [".5", ".5,.5,.5"],
    "std": [".5", "1 1 1"],
}  # fmt: skip
TEXTS = [
    "", " ", "-", "--", "---", "-1", "0", "1", "2.9", "1e3", "1e400", "-inf", "nan", "9" * 30, "0x10", "1_000", "٣",
    "½", "8/0", "/", "8/255/1", "true", "null", "None", "[]", "{}", "[1, x]", '{"a": 1}', '{"size": 16}', "[[[", "'",
    '"', "\\", "a b", "\t", "a\nb", "\x1b[31mred", "é", "文字", "🙂", "\u202e", "\udce9", "x" * 3000, "$(id)", "%s%n",
    "{0}", "*", "robnet_fre", "robnet_micro.digit", "robnet_free", "robnet_small", "resnet18", "digit", "fast", "qick",
    "smal", "table9", "postgresql://nobody@localhost:1/none", "sqlite://", "mysql://a/b", "journal:", "--json", "-n",
    "--help", "-o", "--epohcs", "out", "3/3", "-1/2", "1/99999999999", "cell_based", "kl", "int8", "[a].json",
]  # fmt: skip


ODD = TEXTS + odd_folder.paths()


def right(flag: Flag) -> list[str]:
    """Return values of a parameter that let a command go on."""
    known = RIGHT.get(flag.key.rpartition(".")[2]) or [str(value) for value in _literals(flag.hint)]
    text = str(flag.hint)
    return known or (["1", "2", "5"] if "int" in text else ["0.5", "1"] if "float" in text else ["a", "b c"])


def _literals(hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [value for inner in get_args(hint) for value in _literals(inner)]


def argument_list(number: int) -> list[str]:
    """Return a command and its arguments: most of them right, so that some command lines get far, and some odd."""
    draw = Random(number)
    path = draw.choices(list(COMMANDS), [1 + min(8, len(flags)) for flags in COMMANDS.values()])[0]
    if draw.random() < 0.03:
        path = draw.choice([(), ("--version",), ("-h",), (draw.choice(ODD),)])
    oddness = draw.choice([0.05, 0.2, 0.5])
    required = [flag for flag in COMMANDS.get(path, []) if flag.required and draw.random() < 0.95]
    optional = [flag for flag in COMMANDS.get(path, []) if not flag.required]
    tokens: list[str] = []
    for flag in required + draw.sample(optional, min(len(optional), draw.randrange(5))):
        many = "list" in str(flag.hint) or "tuple" in str(flag.hint)
        count = draw.randint(1, 3) if many else 1
        values = [draw.choice(ODD if draw.random() < oddness else right(flag)) for _ in range(count)]
        if not flag.names:
            tokens = [*values, *tokens]
            continue
        name = draw.choice(flag.names)
        if "bool" in str(flag.hint) or "--no-" in name or "--empty-" in name:
            values = []
        elif name.startswith("--") and len(values) == 1 and draw.random() < 0.3:
            name, values = f"{name}={values[0]}", []
        tokens += [name, *values]
    if draw.random() < 0.1:
        tokens.insert(draw.randint(0, len(tokens)), draw.choice(ODD))
    return [*path, *tokens]


def snapshot(folder: Path) -> dict[str, object]:
    """Return the files of a folder: where links lead, and sizes and times; locks, which may stay, are left out."""
    entries: dict[str, object] = {}
    for at, folders, files in os.walk(folder):
        for name in files + [name for name in folders if Path(at, name).is_symlink()]:
            path = Path(at, name)
            status = path.lstat()
            if name not in LOCKS:
                file = (status.st_size, status.st_mtime_ns) if path.is_file() else None
                entries[os.path.relpath(path, folder)] = os.readlink(path) if path.is_symlink() else file
    return entries


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Path:
    folder = tmp_path_factory.mktemp("template")
    odd_folder.fill(folder, tiny)
    return folder


class Room:
    """The folder in which examples run, as it was at the beginning of each."""

    def __init__(self, template: Path, above: Path) -> None:
        self.template, self.above = template, above
        self.before = snapshot(template)
        self.changed = True

    @contextmanager
    def fresh(self) -> Iterator[Path]:
        folder = self.above / "here"
        if self.changed:
            shutil.rmtree(folder, ignore_errors=True)
            copied(self.template, folder)
        self.changed = True
        os.chdir(folder)
        yield folder
        self.changed = self.differences() != []

    def differences(self) -> list[str]:
        after = snapshot(self.above / "here")
        return sorted(key for key in after.keys() | self.before.keys() if after.get(key, 0) != self.before.get(key, 0))


def copied(source: Path, target: Path) -> None:
    def copy(here: str, there: str) -> None:
        if Path(here).is_fifo():
            os.mkfifo(there)
        else:
            shutil.copy2(here, there, follow_symlinks=False)

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


@pytest.fixture(scope="module")
def room(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    def begin(*_: object, **__: object) -> None:
        raise Begun

    def refuse(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    before = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        for beginning in BEGINNINGS:
            patch.setattr(beginning, begin)
        patch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        yield Room(template, tmp_path_factory.mktemp("above"))
    os.chdir(before)


def traced(error: BaseException) -> str:
    """Return an error with the last line of the package that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "robnet_zoo" in frame.filename]
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}: {str(error)[:200]}"


def complaint(arguments: Sequence[str], room: Room) -> str | None:
    """Run the command, and return what it did against the rule, if anything."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")

    def late(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGALRM, late)
    with room.fresh() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        signal.alarm(SECONDS)
        try:
            cli.main(list(arguments))
            code: object = 0
        except Begun:
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        except (Exception, Late) as error:
            return f"raised {traced(error)}"
        finally:
            signal.alarm(0)
        out.flush()
        err.flush()
        shown = err.buffer.getvalue().decode()
        if (folder / odd_folder.SIGN).exists():
            return "executed a pickle"
        if list(folder.parent.iterdir()) != [folder]:
            return f"wrote beside the folder: {list(folder.parent.iterdir())}"
        if code == 0:
            parts = [path for path in room.differences() if path.endswith(".part")]
            return f"left {parts}" if parts else None
        if code != 2:
            return f"exit code {code}"
        if room.differences():
            return f"ended with {shown!r}, but changed {room.differences()}"
    if arguments[0] == "validate" and "robnet-zoo: " not in shown:
        return None
    lines = [line for line in shown.splitlines() if line.startswith("robnet-zoo: ")]
    last = shown.removesuffix("\n").rpartition("\n")[2].rpartition("\r")[2]
    message = last.removeprefix("robnet-zoo: ")
    if lines != [last] or not message:
        return f"expected one line, got {shown!r}"
    if len(message) > MAX_LENGTH:
        return f"expected at most {MAX_LENGTH} characters, got {len(message)}: {message[:2000]}"
    if not message.isprintable():
        return f"expected a printable line, got {message!r}"
    if match := WORDS_OF_LIBRARIES.search(message):
        return f"expected no words of libraries, got {match[0]} in {message}"
    return None


def test_the_command_answers_odd_argument_lists_in_a_line(room: Room) -> None:
    complaints = ((argument_list(number), complaint(argument_list(number), room)) for number in range(EXAMPLES))
    assert [(arguments, text) for arguments, text in complaints if text] == []


def public(kind: Callable[[Any], bool]) -> list[Any]:
    """Return what the public faces name of a kind."""
    faces = [importlib.import_module(f"robnet_zoo{face}") for face in FACES]
    return list(
        {id(thing): thing for face in faces for name in face.__all__ if kind(thing := getattr(face, name))}.values()
    )


def is_simple(function: Any) -> bool:
    """Return whether a function is called with texts, paths and numbers alone."""
    if not inspect.isfunction(function):
        return False
    types = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
    words = set(re.findall(r"[A-Za-z.]+", " ".join(types)))
    return bool(types) and words <= {"str", "int", "float", "bool", "None", "Path", "os.PathLike", "SpecLike", "Stem"}


class Plain(nn.Module):
    """Logits that are linear in the image; `end` changes what is given."""

    def __init__(self, end: Callable[[Tensor], object] = lambda logits: logits) -> None:
        super().__init__()
        self.weight, self.end = nn.Parameter(torch.linspace(-1, 1, 5 * 192).sin().reshape(192, 5)), end

    def forward(self, images: Tensor) -> object:
        return self.end(images.flatten(1) @ self.weight)


PICTURES = torch.linspace(0, 1, 4 * 192).reshape(4, 3, 8, 8)
POOLS: dict[str, list[Any]] = {  # by argument; the first of each is right
    "attack": [
        Pgd(steps=2),
        Fgsm(),
        Apgd(steps=2),
        Square(queries=3),
        DeepFool(steps=2),
        AutoAttack(version="custom", attacks=("apgd-ce",)),
    ],
    "model": [
        Plain(),
        Plain(lambda logits: (logits, logits)),
        Plain(lambda logits: {"logits": logits}),
        Plain(lambda logits: logits[:, :1]),
        Plain(lambda logits: logits.detach().round()),
        Plain(lambda logits: logits / 0),
        Plain(lambda logits: logits.sum()),
        Plain(lambda logits: "logits"),
        nn.Linear(3, 3),
    ],
    "images": [
        PICTURES,
        2 * PICTURES,
        PICTURES / 0,
        PICTURES[:0],
        PICTURES[0],
        PICTURES[:, :1],
        PICTURES.double(),
        PICTURES.half(),
        PICTURES.mul(255).byte(),
        PICTURES.to(torch.complex64),
        PICTURES.transpose(1, 3),
    ],
    "labels": [
        torch.arange(4),
        torch.arange(4, dtype=torch.int32),
        torch.arange(4, dtype=torch.uint8)[:, None],
        torch.arange(3),
        torch.arange(4) - 1,
        torch.full((4,), 10**12),
        torch.rand(4),
        torch.ones(4, dtype=torch.bool),
        torch.eye(4),
    ],
    "eps": [8 / 255, 0, 8, -1, math.nan, math.inf, 10**400, 0.5],
    "slots": [4, 0, -1, 10**12],
    "seed": [0, -1, 2**70],
}


def tensor_call(draw: Random) -> tuple[str, Callable[[], object]]:
    """Return a call of a function that wants a model and images, of which most are right, and how it is written."""
    given = {name: draw.choice(pool) if draw.random() < 0.3 else pool[0] for name, pool in POOLS.items()}
    text = f"{given}".replace("\n", " ")
    attack, model, images, labels = (given.pop(name) for name in ("attack", "model", "images", "labels"))
    if draw.random() < 0.3:
        protocol = Protocol(name="odd", eps="8/255", dtype="float32", attacks=(attack,))
        pictures = Images(PICTURES.mul(255).byte(), torch.arange(4), "odd")
        return f"evaluate({text})", lambda: evaluate(of_module(model, name="odd"), pictures, protocol, progress=False)
    given |= {} if draw.random() < 0.5 else {"targets": draw.choice(POOLS["labels"])}
    return f"run({text})", lambda: run(attack, model, images, labels, **given)


DOCUMENTS = public(lambda thing: inspect.isclass(thing) and issubclass(thing, Document))
FUNCTIONS = public(is_simple)
NUMBERS_OF = {"int": [-1, 0, 1, 3, 10**30], "float": [math.nan, math.inf, -1.0, 0.0, 0.5], "bool": [True, False]}


def call(number: int) -> tuple[str, Callable[[], object]]:
    """Return a call of the Python face, and how it is written."""
    draw = Random(number)
    if number % 3 == 0:
        return tensor_call(draw)
    if draw.random() < 0.5:
        document = draw.choice(DOCUMENTS)
        names = list(document.model_fields)
        given = {name: draw.choice(VALUES) for name in draw.sample(names, draw.randint(0, min(4, len(names))))}
        kind, value = draw.choice(["build", "parse", "loads", "load"]), draw.choice(VALUES)
        if kind == "build":
            return f"{document.__name__}(**{given})", lambda: document(**given)
        value = draw.choice([value, given]) if kind == "parse" else value
        return f"{document.__name__}.{kind}({value!r})", lambda: getattr(document, kind)(value)
    function = draw.choice(FUNCTIONS)
    arguments: list[Any] = []
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not parameter.empty and draw.random() < 0.5:
            continue
        numbers = [
            value for kind, values in NUMBERS_OF.items() if kind in str(parameter.annotation) for value in values
        ]
        known = RIGHT.get(name.replace("_", "-"), [])
        text = draw.choice([*TEXTS, "a\x00b", *odd_folder.paths()] if draw.random() < 0.5 or not known else known)
        value = (
            draw.choice(numbers) if numbers else Path(text) if str(parameter.annotation).startswith("Path") else text
        )
        value = draw.choice(VALUES) if draw.random() < 0.1 else value
        if parameter.kind is parameter.KEYWORD_ONLY:
            options[name] = value
        else:
            arguments.append(value)
    return f"{function.__name__}(*{arguments}, **{options})", lambda: function(*arguments, **options)


def complaint_about_call(made: Callable[[], object], room: Room) -> str | None:
    """Make a call, and return what it did against the rule, if anything."""
    with room.fresh() as folder:
        try:
            made()
        except (Begun, OSError):
            return None
        except RobnetZooError as error:
            if not str(error).isprintable() or WORDS_OF_LIBRARIES.search(str(error)):
                return f"expected a printable line without words of libraries, got {error!s:.600}"
        except Exception as error:
            if any(frame.name == "forward" for frame in traceback.extract_tb(error.__traceback__)):
                return None  # what the caller's own model raises is the caller's
            return f"raised {traced(error)}"
        return "executed a pickle" if (folder / odd_folder.SIGN).exists() else None


def test_the_python_face_answers_odd_calls_with_errors_of_the_package(room: Room) -> None:
    calls = [call(number) for number in range(EXAMPLES)]
    complaints = [(text, complaint_about_call(made, room)) for text, made in calls]
    assert [(text, complaint) for text, complaint in complaints if complaint] == []
