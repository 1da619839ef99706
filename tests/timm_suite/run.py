"""timm's own model tests, run on the models of this package.

    python tests/timm_suite/run.py [pytest options]

Takes the tests from the source distribution of the timm that is installed; it is downloaded once, into `.build/`.
Fails if a registered model passes no test, so that an empty selection cannot look like success.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".build" / "timm_suite"


def fetch(cache: Path = CACHE) -> Path:
    """The folder with `pyproject.toml` and `tests/` of the installed timm, downloaded where it is not yet there."""
    release = f"timm-{version('timm')}"
    folder = cache / release
    if not (folder / "tests" / "test_models.py").is_file():
        options = ["--quiet", "--no-deps", "--no-binary", "timm", "--dest", str(cache)]
        command = [sys.executable, "-m", "pip", "download", *options, f"timm=={version('timm')}"]
        subprocess.run(command, check=True)
        with tarfile.open(cache / f"{release}.tar.gz") as archive:
            # Not `timm/`: the installed package is the one to test with.
            wanted = (f"{release}/tests/", f"{release}/pyproject.toml")
            archive.extractall(cache, [m for m in archive if m.name.startswith(wanted)], filter="data")
    return folder


def main(options: list[str]) -> int:
    """Run the tests, a process a core; returns pytest's exit status, or 1 if a model passed none."""
    suite = fetch()
    command = [sys.executable, "-m", "pytest", "-c", str(suite / "pyproject.toml"), "--rootdir", str(suite)]
    command += ["-p", "only_robnet", "-p", "no:cacheprovider", "--quiet", "--numprocesses", "auto"]
    command += ["--dist", "worksteal", *options]
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    # One thread a process: threads that wait for each other while other processes hold the cores cost a hundredfold.
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command.append(str(suite / "tests" / "test_models.py"))
    return subprocess.run(command, env=environment, cwd=suite, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
