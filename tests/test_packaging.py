"""A wheel and an sdist of a checkout without the links at the top hold what they should, and the wheel works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
LINKS = ("specs", "converters", "benchmarks")
RESULTS = PurePosixPath("robnet_zoo/benchmarks/results")  # tables and tests read them; the package does not
BUILD = "from setuptools import build_meta; build_meta.build_wheel('dist'); build_meta.build_sdist('dist')"

pytestmark = pytest.mark.slow  # builds a wheel, installs it and measures a network in separate processes


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Return the output of a command that must succeed."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def tracked() -> list[PurePosixPath]:
    """Return what git tracks or would track, but for the links."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout of git, so the files of the project are unknown")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    present = {name for name in names if name not in LINKS and (ROOT / name).is_file()}
    return sorted(map(PurePosixPath, present))


@pytest.fixture(scope="module")
def dist(tracked: list[PurePosixPath], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a wheel and an sdist, built by the setuptools at hand."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name)
    run(sys.executable, "-c", BUILD, cwd=checkout)
    return checkout / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the scripts of a fresh environment with the wheel and the running environment's dependencies."""
    folder = tmp_path_factory.mktemp("fresh")
    builder = venv.EnvBuilder(with_pip=False)
    builder.create(folder)
    context = builder.ensure_directories(folder)
    python, scripts = Path(context.env_exe), Path(context.bin_path)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel, cwd=folder)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    # Only now, or pip would see the package as installed. The paths of a .pth come last, and their own .pth files,
    # such as that of an editable installation, are not read.
    shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (Path(site) / "dependencies.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")
    return scripts


@pytest.fixture
def fresh() -> dict[str, str]:
    """Return the variables of a process that sees nothing of the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_wheel_holds_what_git_tracks_of_the_package_except_results(tracked, wheel):
    of_package = {str(name) for name in tracked if name.parts[0] == "robnet_zoo" and RESULTS not in name.parents}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == of_package


def test_the_sdist_holds_what_git_tracks(tracked, dist):
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        held = {PurePosixPath(*PurePosixPath(member.name).parts[1:]) for member in archive if member.isfile()}
    made = {name for name in held if name.name in ("PKG-INFO", "setup.cfg") or ".egg-info" in str(name)}
    assert held - made == set(tracked)


def test_an_installed_wheel_lists_its_models(environment, fresh, tmp_path):
    rows = json.loads(run(environment / "robnet-zoo", "list", "--json", cwd=tmp_path, env=fresh))
    assert {"robnet_micro.cifar10", "robnet_micro.digits"} <= {name for row in rows for name in row["weights"]}


def test_timm_loads_the_weights_of_an_installed_wheel(environment, fresh, tmp_path):
    code = (
        "import timm, robnet_zoo\n"
        "timm.create_model('robnet_micro.digits', pretrained=True)\n"
        "print(robnet_zoo.__file__)\n"
    )
    file = run(environment / "python", "-c", code, cwd=tmp_path, env=fresh).splitlines()[-1]
    assert Path(file).is_relative_to(environment.parent)


def test_an_installed_wheel_measures_a_model(environment, fresh, tmp_path):
    command = ("benchmark", "robnet_micro.digits", "--data", "digits", "-n", "8", "-o", "result.json")
    run(environment / "robnet-zoo", *command, cwd=tmp_path, env=fresh)
    result = json.loads((tmp_path / "result.json").read_bytes())
    assert (result["model"]["name"], result["data"]["n"]) == ("robnet_micro.digits", 8)
