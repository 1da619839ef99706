"""Processes that begin in no time: forked from one that has imported everything.

A process that imports torch by itself takes seconds, in which it does nothing that a test asks about.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch.distributed import run
from torch.distributed.launcher.api import elastic_launch

from robnet_zoo.cli import main
from tests.extras import cut

METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"  # which is slow
PROCESSES = multiprocessing.get_context(METHOD)
PROCESSES.set_forkserver_preload(
    [
        "robnet_zoo.cli",
        "robnet_zoo.training",
        "robnet_zoo.benchmarks.evaluation",
        "robnet_zoo.converters.onnx",
        "robnet_zoo.search.pipeline",
        "robnet_zoo.reproduce.reproduction",
        "torch.distributed.elastic.multiprocessing.api",
        "pytest",
        "psycopg",
        "sklearn.datasets",  # which the package imports when it reads the digits
        "scipy.special",
        "PIL.PngImagePlugin",
        "torch.utils.tensorboard",
    ]
)

ALIKE = {"MKL_CBWR": "COMPATIBLE"}  # an environment in which MKL rounds alike wherever an image lies in its batch


def start(
    work: Callable[..., object],
    *arguments: object,
    environment: Mapping[str, str] | None = None,
    output: Path | None = None,
    errors: Path | None = None,
) -> BaseProcess:
    """Start a function of a module in a process of its own.

    Args:
        work: the function.
        arguments: of the function.
        environment: variables to set.
        output, errors: files for what it prints on standard output and standard error.
    """
    process = PROCESSES.Process(target=_begin, args=(work, arguments, environment, (output, errors), Path.cwd()))
    process.start()
    return process


def start_command(*arguments: str | Path, **options: object) -> BaseProcess:
    """Start `robnet-zoo`. options: of `start`."""
    return start(main, [*map(str, arguments)], **options)  # type: ignore[arg-type]


def under_torchrun(*arguments: str | Path, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Return what `torchrun --nproc-per-node 2 -m robnet_zoo.cli ARGUMENTS` prints on standard output.

    torchrun's own agent starts the two processes and gives them their environment; only their imports are saved.
    """
    parsed = run.parse_args(["--standalone", "--nproc-per-node", "2", "-m", "robnet_zoo.cli", *map(str, arguments)])
    parsed.rdzv_backend, parsed.rdzv_endpoint = "c10d", "localhost:0"
    config, _, words = run.config_from_args(parsed)
    config.start_method = METHOD
    printed = folder / "printed.txt"
    command = words[words.index("robnet_zoo.cli") + 1 :]
    elastic_launch(config, entrypoint=_print_to)(printed, command, environment)
    return printed.read_text()


def _print_to(printed: Path, arguments: Sequence[str], environment: Mapping[str, str] | None) -> None:
    _begin(main, (list(arguments),), environment, (printed, None), Path.cwd())


def _begin(
    work: Callable[..., object],
    arguments: tuple[object, ...],
    environment: Mapping[str, str] | None,
    streams: tuple[Path | None, Path | None],
    folder: Path,
) -> None:
    os.chdir(folder)
    os.environ |= environment or {}
    for number, path in enumerate(streams, start=1):
        if path is not None:
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    torch.set_num_threads(1)  # as in the process of the tests: sums depend on the number of threads
    cut()
    work(*arguments)
