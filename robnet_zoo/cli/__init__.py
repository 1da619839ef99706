"""The `robnet-zoo` command: a thin layer over the API, whose documents become flags.

A mistake of the user is one line on stderr and exit code 2; `--json` prints what a program can read.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import NoReturn

from cyclopts import App, CoercionError, CycloptsError

from robnet_zoo.cli.parameters import EVERY_FLAG, fail
from robnet_zoo.errors import DocumentError, RobnetZooError
from robnet_zoo.version import __version__

HELP_FLAGS = ("--help", "-h")
COMMANDS = {  # where each is, imported when it is asked for, and the first line of its help
    "list": ("architectures:list_", "List the bundled architectures and their trained weights."),
    "show": ("architectures:show", "Summarise an architecture, and draw a cell of it."),
    "validate": ("architectures:validate", "Check spec files, and exit with code 2 if any is wrong."),
    "schema": ("architectures:schema", "Print the JSON Schema of a spec."),
    "specs": (
        "documents:specs",
        "List the bundled architectures with where they come from, or print one as JSON.",
    ),
    "recipes": ("documents:recipes", "List the bundled training recipes, or print one as JSON."),
    "protocols": ("documents:protocols", "List the bundled protocols of `benchmark`, or print one as JSON."),
    "configs": ("documents:configs", "List the bundled configs of `search`, or print one as JSON."),
    "plans": ("documents:plans", "List the bundled plans of `reproduce`, or print one as JSON."),
    "scales": ("documents:scales", "List the bundled scales of `reproduce`, or print one as JSON."),
    "train": (
        "training:train",
        "Train an architecture adversarially. After an interruption, the same command resumes the run.",
    ),
    "estimate": (
        "training:estimate",
        "Estimate how long `train` would take on this machine, from a few updates at each image size.",
    ),
    "export": (
        "converting:export",
        "Export a model to ONNX, check that the file gives torch's logits, and report what was written.",
    ),
    "convert": ("converting:convert", "Convert other projects' formats to ours, or code lists of ours back."),
    "benchmark": ("benchmark:benchmark", "Measure models on real images, clean and attacked."),
    "report": ("benchmark:report", "Write a report of results documents, with the paper's figures beside ours."),
    "robustbench": (
        "benchmark:robustbench",
        "Convert a result of the protocol autoattack to RobustBench's model_info.",
    ),
    "search": ("search:search", "Search for architectures in an adversarially trained supernet (paper, section 3)."),
    "reproduce": (
        "reproduce:reproduce",
        "Reproduce the paper's tables and figures, from data to trained weights to measured table.",
    ),
    "demo": (
        "demo:demo",
        "Load a bundled model, attack it on handwritten digits, export it to ONNX, and write a small report.",
    ),
}


def command(*, overview: bool = False) -> App:
    """Return the command. overview: each command shows only a line of help, for which it is not imported."""
    app = App(
        name="robnet-zoo",
        help=__doc__,
        help_flags=HELP_FLAGS,
        version=__version__,
        help_format="plaintext",
        default_parameter=EVERY_FLAG,
        suppress_keyboard_interrupt=False,
    )
    for name, (path, summary) in COMMANDS.items():
        app.command(f"robnet_zoo.cli.{path}", name=name, help=summary if overview else None)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command; see `robnet-zoo --help`."""
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, TextIOWrapper):  # as stderr: a name that the terminal cannot show is not an error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app = command(overview=set(given) <= set(HELP_FLAGS))
        app(given, exit_on_error=False, print_error=False, result_action="return_value")
    except KeyboardInterrupt:
        print("robnet-zoo: interrupted; what was written is kept, and the same command resumes", file=sys.stderr)
        sys.exit(130)
    except (CycloptsError, RobnetZooError, OSError) as error:
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    """End with a mistake of the user as one line."""
    from json import JSONDecodeError

    from pydantic import ValidationError

    from robnet_zoo.core.documents import sentences, shown

    if isinstance(error.__cause__, ValidationError) and isinstance(error, CycloptsError):
        error = DocumentError(f"--{sentence}" for sentence in sentences(error.__cause__))  # of flags
    if isinstance(error, CoercionError) and isinstance(error.__cause__, JSONDecodeError) and error.token:
        error = DocumentError([f"{error.token.keyword}: expected JSON, got {shown(error.token.value)}"])
    fail(str(error))
