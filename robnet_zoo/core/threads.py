"""The time for which threads that wait for each other spin.

torch computes on as many threads as there are cores. By default, a thread that is through with its part of an operation
spins for milliseconds while it waits for the others. Beside other work this is disastrous: the thread that spins holds
the core that the thread it waits for needs. A short spin costs almost nothing on an idle machine and avoids most of
that; docs/robustness.md has the figures, `python -m robnet_zoo.benchmarks.speed.threads` measures them.

The number of threads does not depend on the load, because sums depend on it, and with them the last bits of a
result.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from itertools import pairwise
from pathlib import PurePath

SPIN = {"GOMP_SPINCOUNT": "1000"}  # turns of a loop, for the OpenMP of GCC, which torch brings for Linux
CHOICES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")  # a user's own setting


def bound_spin(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads spin only briefly, unless the user set how threads wait or how many there are.

    The environment is read when torch is first imported, so this has to come before; processes started later inherit
    it.
    """
    if not any(name in environment for name in CHOICES):
        environment.update(SPIN)


def is_command(arguments: Sequence[str]) -> bool:
    """Return whether a process is the `robnet-zoo` command, rather than a program that imports the package.

    arguments: all that the interpreter was started with, as in sys.orig_argv.
    """
    script = PurePath(arguments[1]).name if len(arguments) > 1 else ""
    modules = [following for flag, following in pairwise(arguments) if flag == "-m"]
    return script in ("robnet-zoo", "robnet-zoo.exe") or modules[:1] in (["robnet_zoo"], ["robnet_zoo.cli"])
