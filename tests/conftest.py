"""Fixtures and settings that all tests share."""

import os
import sys
import tempfile
from itertools import islice
from pathlib import Path

import pytest
import torch

from robnet_zoo.core import waiting
from robnet_zoo.core.threads import bound_spin
from robnet_zoo.genotype.genotype import Genotype
from tests.extras import cut
from tests.fitted import save_fitted
from tests.processes import ALIKE, start

# How MKL rounds a product of matrices depends on its size, on a row's position in it and on the instruction set. It
# reads this variable when it is first called.
os.environ.setdefault("MKL_CBWR", "AVX2")

bound_spin()  # for the processes that tests start; in this one networks compute on one thread


LONG = {"test_pages.py", "test_odd_input.py", "test_reproduction.py"}  # files that take as long as those of slow tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the long files, a share in each process, so that none of them is left when all else is done.

    xdist gives each process an equal number of neighbours; one that is through takes over what is last in another.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = {item.path for item in items if item.path.name in LONG or item.get_closest_marker("slow")}
    files, others = sorted(long), (item for item in items if item.path not in long)
    ordered: list[pytest.Item] = []
    for rank in range(count):
        ordered += [item for item in items if item.path in files[rank::count]]
        ordered += islice(others, max(0, len(items) * (rank + 1) // count - len(ordered)))
    items[:] = ordered


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests marked `same_bits` in a process whose MKL rounds alike wherever an image lies in its batch."""
    if pyfuncitem.get_closest_marker("same_bits") is None or ALIKE.items() <= os.environ.items():
        return None
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "output.txt"
        arguments = (str(pyfuncitem.config.rootpath), pyfuncitem.nodeid)
        process = start(_run_alone, *arguments, environment=ALIKE, output=printed, errors=printed)
        process.join()
        assert process.exitcode == 0, printed.read_text()
    return True


def _run_alone(folder: str, test: str) -> None:
    os.chdir(folder)
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", test]))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Use one thread: networks in tests are tiny, so that several threads would mostly wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _patience() -> None:
    """Keep lines about what takes long out of what tests read, as on a crowded machine everything does."""
    waiting.PATIENCE = 600.0


@pytest.fixture(scope="session", autouse=True)
def _no_extras() -> None:
    """Cut what the package does beside its work. What a file of tests imported before is whole."""
    cut()


@pytest.fixture(scope="session")
def official() -> Path:
    """Return the folder of the original's codes, checkpoints and golden tensors, named by ROBNET_ZOO_OFFICIAL."""
    folder = os.environ.get("ROBNET_ZOO_OFFICIAL")
    if folder:
        return Path(folder)
    reason = "ROBNET_ZOO_OFFICIAL does not name the folder of the original's golden tensors"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI must not skip them")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def tiny() -> Genotype:
    """Return a spec of two cells that computes in no time, for 32x32 images of ten classes."""
    return Genotype.parse(
        {
            "schema_version": 1,
            "name": "tiny",
            "operations": ["identity", "sep_conv_3x3"],
            "cells": {"cell": {"alpha": [[1, 1], [0, 1], [1, 0], [0, 0], [0, 1]], "concat": [2, 3]}},
            "layout": ["cell", "cell"],
            "network": {
                "stem": "cifar",
                "channels": 2,
                "depth": 2,
                "reductions": [0, 1],
                "num_classes": 10,
                "input_size": [3, 32, 32],
                "affine": False,
            },
        }
    )


@pytest.fixture(scope="session")
def fitted(tiny: Genotype, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a small network that knows the digits, as the command takes it."""
    folder = tmp_path_factory.mktemp("networks") / "fitted"
    save_fitted(tiny, folder)
    return str(folder)


@pytest.fixture(scope="session")
def another(tiny: Genotype, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a network like `fitted` with other weights."""
    folder = tmp_path_factory.mktemp("networks") / "another"
    save_fitted(tiny, folder, seed=1)
    return str(folder)
