"""`robnet-zoo compare` as it is typed."""

import json

import pytest

from robnet_zoo import cli
from robnet_zoo.benchmarks.likeness import TOLERANCE
from robnet_zoo.cli import compare
from tests.command import fails, run

DIGITS = ("--data", "digits", "-n", "8")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("compared") / "digits.onnx"
    cli.main(["export", "robnet_micro.digits", "-o", str(path), "--no-prove"])
    return path


def test_an_exported_file_is_that_model(capsys, file):
    text = run(capsys, "compare", "robnet_micro.digits", file, *DIGITS)
    assert "predictions are the same" in text
    assert "exported from the other's weights" in text
    assert text.splitlines()[-1] == "so          the same function, within 0.0001 of the largest logit"


def test_another_model_ends_with_exit_code_2_and_a_document(capsys, file):
    with pytest.raises(SystemExit) as exit:
        cli.main(["compare", "robnet_micro.cifar10", str(file), *DIGITS, "--json"])
    captured = capsys.readouterr()
    assert exit.value.code == 2
    assert captured.err == ""
    likeness = json.loads(captured.out)
    assert likeness["exported_from_other"] is False
    assert likeness["parting"]["second"]["operator"] == "Conv"


def test_a_wrong_name_is_a_line(capsys, file):
    assert "did you mean" in fails(capsys, "compare", file, "robnet_mikro.digits", *DIGITS)


def test_the_tolerance_is_that_of_the_function():
    assert compare.TOLERANCE == TOLERANCE
