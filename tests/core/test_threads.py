"""The spin of waiting threads: set for the command, before torch is imported, unless the user did."""

import os
import subprocess
import sys

import pytest

from robnet_zoo.core.threads import CHOICES, SPIN, bound_spin, is_command


def test_waiting_threads_spin_briefly():
    environment = {"PATH": "/bin"}
    bound_spin(environment)
    assert environment == {"PATH": "/bin"} | SPIN


@pytest.mark.parametrize("name", CHOICES)
def test_a_setting_of_the_user_is_left_alone(name):
    environment = {name: "3"}
    bound_spin(environment)
    assert environment == {name: "3"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["python", "/somewhere/bin/robnet-zoo", "list"],
        ["python.exe", "robnet-zoo.exe", "list"],
        ["python", "-m", "robnet_zoo.cli", "list"],
        ["python", "-m", "robnet_zoo", "list"],
        ["python", "-u", "-X", "dev", "-m", "robnet_zoo.cli", "train"],
    ],
)
def test_the_command_is_recognised(arguments):
    assert is_command(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["python"],
        ["python", "train.py", "robnet-zoo"],
        ["python", "robnet-zoo.py"],
        ["python", "-m", "pytest"],
        ["python", "-c", ""],
    ],
)
def test_a_program_that_imports_the_package_is_not_the_command(arguments):
    assert not is_command(arguments)


def test_the_command_decides_before_torch_is_imported():
    code = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "            raise SystemExit\n"
        "sys.meta_path.insert(0, Watch())\n"
        "sys.orig_argv = ['python', '-m', 'robnet_zoo.cli']\n"
        "import robnet_zoo.zoo.registry\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"{SPIN['GOMP_SPINCOUNT']}\n", done.stderr
