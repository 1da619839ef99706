"""List, draw, train, attack, export and search robust architectures; `robnet-zoo COMMAND --help` describes a command.

Exit codes: 0 when all is done; 2 for a mistake in what was given, which is one line on stderr; 130 after Ctrl-C, when
the same command resumes; 1 for a mistake of the package, which is a traceback. `--json` prints what a program can read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, CoercionError, CycloptsError, Group, MissingArgumentError, Parameter

from robnet_zoo.cli.parameters import EVERY_FLAG, fail
from robnet_zoo.cli.stopping import answering
from robnet_zoo.errors import DocumentError, RobnetZooError

HELP_FLAGS = ("--help", "-h")
# By kind: where each command is, imported when it is asked for, and the first line of its help.
COMMANDS = {
    "Architectures": {
        "list": ("architectures:list_", "List the bundled architectures and their trained weights."),
        "show": ("architectures:show", "Summarise an architecture, and draw a cell of it or the whole network."),
        "edit": (
            "edit:edit",
            "Draw and change a cell on a page in a browser, beside its figures and all that is wrong with it.",
        ),
        "validate": ("architectures:validate", "Check spec files, and exit with code 2 if any is wrong."),
        "specs": ("documents:specs", "List the bundled architectures with where they come from, or print one as JSON."),
        "schema": ("architectures:schema", "Print the JSON Schema of a spec."),
        "convert": ("converting:convert", "Convert other projects' formats to ours, or code lists of ours back."),
    },
    "Training": {
        "train": (
            "training:train",
            "Train an architecture adversarially. After an interruption, the same command resumes the run.",
        ),
        "estimate": (
            "training:estimate",
            "Estimate how long `train` would take on this machine, from a few updates at each image size.",
        ),
        "recipes": ("documents:recipes", "List the bundled training recipes, or print one as JSON."),
    },
    "Measuring": {
        "benchmark": ("benchmark:benchmark", "Measure models on real images, clean and attacked."),
        "compare": (
            "compare:compare",
            "Compare two models: do they compute the same function, and if not, after which operator do they part?",
        ),
        "report": ("benchmark:report", "Write a report of results documents, with the paper's figures beside ours."),
        "robustbench": (
            "benchmark:robustbench",
            "Convert a result to what RobustBench asks for, of a new model or another evaluation of one of its own.",
        ),
        "protocols": ("documents:protocols", "List the bundled protocols of `benchmark`, or print one as JSON."),
        "demo": (
            "demo:demo",
            "Load a bundled model, attack it on handwritten digits, export it to ONNX, and write a small report.",
        ),
    },
    "Shipping": {
        "export": (
            "converting:export",
            "Export a model to ONNX, check that the file gives torch's logits, and report what was written.",
        ),
        "push": ("push:push", "Put a model on Hugging Face's hub, from where timm loads it as hf-hub:REPOSITORY."),
    },
    "Searching and reproducing": {
        "search": (
            "search:search",
            "Search for architectures in an adversarially trained supernet (paper, section 3).",
        ),
        "configs": ("documents:configs", "List the bundled configs of `search`, or print one as JSON."),
        "reproduce": (
            "reproduce:reproduce",
            "Reproduce the paper's tables and figures, from data to trained weights to measured table.",
        ),
        "plans": ("documents:plans", "List the bundled plans of `reproduce`, or print one as JSON."),
        "scales": ("documents:scales", "List the bundled scales of `reproduce`, or print one as JSON."),
    },
    "This command": {
        "doctor": (
            "doctor:doctor",
            "Look at what the package depends on here, and exit with code 2 if something is wrong.",
        ),
        "completion": ("completion:completion", "Print the script by which a shell completes commands and flags."),
    },
}
FLAGS = Group("Common flags", sort_key=len(COMMANDS))


def command(*, overview: bool = False) -> App:
    """Return the command. overview: each command shows only a line of help, for which it is not imported."""
    app = App(
        name="robnet-zoo",
        help=__doc__,
        help_flags=HELP_FLAGS,
        version=versions,
        help_format="markdown",  # which joins the lines of a docstring before it wraps them
        version_format="plaintext",
        default_parameter=EVERY_FLAG,
        suppress_keyboard_interrupt=False,
    )
    for position, (title, commands) in enumerate(COMMANDS.items()):
        group = Group(title, sort_key=position)
        for number, (name, (path, summary)) in enumerate(commands.items()):
            text = summary if overview else None
            app.command(f"robnet_zoo.cli.{path}", name=name, help=text, group=group, sort_key=number)
    for flag in ("--help", "--version"):
        app[flag].group = FLAGS

    @app.meta.default
    def run(
        *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        log_file: Annotated[Path | None, Parameter(group=FLAGS)] = None,
    ) -> None:
        """Run a command.

        Args:
            words: The command and its flags.
            log_file: Append the progress, notes and mistakes to this file, with the time.
        """
        from robnet_zoo.cli.log import logged

        with logged(log_file, words), _mistakes():
            app(words, exit_on_error=False, print_error=False, result_action="return_value")

    return app


def versions() -> str:
    """Return the version of this package, and those of what its results depend on."""
    from robnet_zoo.core.environment import software

    return "\n".join(f"{name.replace('_', '-')} {version}" for name, version in software().items())


def main(arguments: list[str] | None = None) -> None:
    """Run the command; see `robnet-zoo --help`."""
    given = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, TextIOWrapper):  # as stderr: a name that the terminal cannot show is not an error
        sys.stdout.reconfigure(errors="backslashreplace")
    app = command(overview=set(given) <= set(HELP_FLAGS))
    with _mistakes(), answering():
        app.meta(given, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()


@contextmanager
def _mistakes() -> Iterator[None]:
    """End with a line, instead of a traceback, after an interruption or a mistake of the user."""
    try:
        yield
    except KeyboardInterrupt:
        print("robnet-zoo: interrupted; what was written is kept, and the same command resumes", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # who reads has read enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere at the end
        sys.exit(141)
    except (CycloptsError, RobnetZooError, OSError) as error:
        _fail(error)
    except (MemoryError, RuntimeError) as error:
        if not _lacks_memory(error):
            raise
        fail(f"expected memory for what was asked, got none: {error}")


def _lacks_memory(error: MemoryError | RuntimeError) -> bool:
    """Return whether there was no memory for something, of the machine or of an accelerator.

    Torch's own error for the latter is known by its name, since a command that never needed torch would import it here.
    """
    texts = ("can't allocate memory", "out of memory")
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in texts)


def _fail(error: Exception) -> NoReturn:
    """End with a mistake of the user as one line."""
    from json import JSONDecodeError

    from pydantic import ValidationError

    from robnet_zoo.core.documents import sentences, shown

    if isinstance(error.__cause__, ValidationError) and isinstance(error, CycloptsError):
        error = DocumentError(f"--{sentence}" for sentence in sentences(error.__cause__))  # of flags
    if isinstance(error, MissingArgumentError) and error.argument and not (error.keyword or error.argument.tokens):
        name, positional = error.argument.name, error.argument.index is not None
        wanted = name.lstrip("-").upper() if positional else name
        error = DocumentError([f"{' '.join(error.command_chain or ())}: expected {wanted}, got none"])
    if isinstance(error, CoercionError) and isinstance(error.__cause__, JSONDecodeError) and error.token:
        error = DocumentError([f"{error.token.keyword}: expected JSON, got {shown(error.token.value)}"])
    fail(str(error))
