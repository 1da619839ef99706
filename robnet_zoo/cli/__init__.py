"""The `robnet-zoo` command: a thin layer over the API, whose documents become flags.

A mistake of the user is one line on stderr and exit code 2; `--json` prints what a program can read.
"""

from __future__ import annotations

import sys

import cyclopts
from cyclopts import App
from pydantic import ValidationError

from robnet_zoo.cli import architectures, benchmark, converting, demo, documents, reproduce, search, training
from robnet_zoo.cli.parameters import EVERY_FLAG, fail
from robnet_zoo.core.documents import sentences
from robnet_zoo.errors import DocumentError, RobnetZooError
from robnet_zoo.version import __version__

app = App(
    name="robnet-zoo",
    help=__doc__,
    version=__version__,
    help_format="plaintext",
    default_parameter=EVERY_FLAG,
    suppress_keyboard_interrupt=False,
)
app.command(architectures.list_, name="list")
for command in (
    architectures.show,
    architectures.validate,
    architectures.schema,
    documents.specs,
    documents.recipes,
    documents.protocols,
    documents.configs,
    documents.plans,
    documents.scales,
    training.train,
    training.estimate,
    converting.export,
    converting.convert,
    benchmark.benchmark,
    benchmark.report,
    benchmark.robustbench,
    search.search,
    reproduce.reproduce,
    demo.demo,
):
    app.command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; see `robnet-zoo --help`."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except cyclopts.CycloptsError as error:
        if isinstance(error.__cause__, ValidationError):  # flags that do not form a document
            fail(str(DocumentError(f"--{sentence}" for sentence in sentences(error.__cause__))))
        fail(" ".join(str(error).split()))
    except KeyboardInterrupt:
        print("robnet-zoo: interrupted; what was written is kept, and the same command resumes", file=sys.stderr)
        sys.exit(130)
    except (RobnetZooError, OSError) as error:
        fail(" ".join(str(error).split()))
