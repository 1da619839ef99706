"""`robnet-zoo demo`, on a few digits and under a short protocol."""

import pytest

from robnet_zoo import cli, data
from robnet_zoo.attacks import Pgd
from robnet_zoo.benchmarks import protocol
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Result
from tests.command import run

SHORT = Protocol(name="short", eps="8/255", attacks=(Pgd(steps=2, step="8/255"),))


@pytest.fixture
def few(monkeypatch):
    digits = data.load("digits", n=8)
    monkeypatch.setattr(data, "load", lambda source: digits)
    monkeypatch.setattr(protocol, "load_protocol", lambda name: SHORT)


@pytest.mark.usefixtures("few")
def test_a_quiet_demo_says_nothing(capsys, tmp_path):
    cli.main(["demo", "--output", str(tmp_path / "demo"), "--quiet"])
    assert (tmp_path / "demo" / "report.html").exists()
    assert tuple(capsys.readouterr()) == ("", "")


@pytest.mark.usefixtures("few")
def test_the_demo_attacks_exports_draws_and_reports(capsys, tmp_path):
    folder = tmp_path / "demo"
    lines = run(capsys, "demo", "--output", folder).splitlines()
    assert {path.name for path in folder.iterdir()} == {"results.json", "model.onnx", "cell.svg", "report.html"}
    result = Result.load(folder / "results.json")
    assert (result.model.name, result.data.n, result.protocol.eps) == ("robnet_micro.digits", 8, "16/255")
    assert [line[:4] for line in lines if line[0].isdigit()] == ["1/4 ", "2/4 ", "3/4 ", "4/4 "]
    assert any(line.endswith("the same class on 100.0% of the images") for line in lines)
    assert lines[-1] == str(folder / "report.html")
