"""Values of flags, as people write them."""

from pathlib import Path

import pytest

from robnet_zoo.cli import command
from tests.command import fails, run

BENCHMARK = ["benchmark", "robnet_micro.digits", "--data", "digits"]
TRAIN = ["train", "robnet_micro", "--data", "digits", "-o", "run"]
REPRODUCE = ["reproduce", "table1", "--data", "digits", "--test", "digits", "-o", "run"]
EXPORT = ["export", "robnet_micro.digits", "-o", "x.onnx"]


def given(arguments: list[str], name: str) -> object:
    """Return what a command is given for a parameter, without running it."""
    _, bound, _ = command().parse_args(arguments, exit_on_error=False, print_error=False)
    return bound.arguments[name]


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (BENCHMARK, "-n"),
        (BENCHMARK, "--seed"),
        (BENCHMARK, "--batch"),
        (TRAIN, "--checkpoints"),
        (TRAIN, "--checkpoint-updates"),
        (TRAIN, "--epochs"),
        (TRAIN, "--attack.steps"),
        (REPRODUCE, "--seeds"),
        (EXPORT, "--opset"),
        (["search", "run", "--config", "small", "--data", "digits", "-o", "run"], "--workers"),
        (["convert", "darts", "cell.txt"], "--channels"),
        (["estimate", "robnet_micro", "--data", "digits"], "--updates"),
    ],
)
@pytest.mark.parametrize("value", ["2.9", "0.7", "1e3", "two"])
def test_an_integer_is_never_rounded(capsys, arguments, flag, value):
    message = fails(capsys, *arguments, flag, value)
    assert flag in message
    assert "expected an integer" in message
    assert value in message


@pytest.mark.parametrize(
    "values",
    [
        [".485", ".456", ".406"],
        [".485,.456,.406"],
        [".485,", ".456,", ".406"],
        ["[0.485, 0.456, 0.406]"],
        ["(.485,.456,.406)"],
        [".485", "--mean", ".456", "--mean", ".406"],
    ],
)
def test_a_number_for_each_channel_is_given_as_people_write_it(values):
    assert given([*BENCHMARK, "--mean", *values, "--std", "1"], "mean") == (0.485, 0.456, 0.406)


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ([*REPRODUCE, "--seeds", "0", "1", "2"], "seeds", [0, 1, 2]),
        ([*REPRODUCE, "--seeds", "0,1,2"], "seeds", [0, 1, 2]),
        ([*REPRODUCE, "--rows", "ResNet-18", "RobNet-large, v2"], "rows", ["ResNet-18", "RobNet-large, v2"]),
        ([*BENCHMARK, "--source", "a", "b", "--seed", "1"], "source", ["a", "b"]),
        ([*BENCHMARK, "--mean", "-1", "-.5"], "mean", (-1.0, -0.5)),
    ],
)
def test_a_flag_that_takes_a_list_takes_all_the_values_behind_it(arguments, name, expected):
    assert given(arguments, name) == expected


@pytest.mark.parametrize("values", [["2", "3"], ["2,3"], ["[2, 3]"], ["2", "--schedule.milestones", "3"]])
def test_a_list_of_a_document_is_given_in_the_same_ways(values):
    overrides = given([*TRAIN, "--schedule.milestones", *values], "overrides")
    assert overrides.model_dump(exclude_none=True) == {"schedule": {"milestones": (2.0, 3.0)}}


@pytest.mark.parametrize(
    ("values", "got"), [(["32", "32", "32"], "at most 2"), (["32"], "[1]: missing"), (["a,b"], "an integer")]
)
def test_a_list_of_another_length_is_refused(capsys, values, got):
    assert got in fails(capsys, *EXPORT, "--input-size", *values)


def test_help_shows_how_a_number_for_each_channel_is_given(capsys):
    assert ".485 .456 .406" in " ".join(run(capsys, "benchmark", "--help").replace("│", " ").split())


@pytest.mark.parametrize("value", ["resnet18", "nan", "", "[ ]"])
def test_what_is_not_a_number_is_refused_where_numbers_are_listed(capsys, value):
    message = fails(capsys, *BENCHMARK, "--mean", ".5", "--std", ".5", value)
    assert f"--std: expected a number, got '{value.strip(' []')}'" in message


def test_a_name_that_begins_with_a_bracket_is_not_read_as_json():
    assert given(["validate", "[a].json", "b.json"], "specs") == (Path("[a].json"), Path("b.json"))


def test_json_that_cannot_be_read_is_named_with_its_flag(capsys):
    assert '--attack: expected JSON, got "{\\"a"' in fails(capsys, *TRAIN, "--attack", '{"a')


@pytest.mark.parametrize(
    ("arguments", "shown"), [(["\x1b[31m\u202e"], r"\x1b[31m\u202e"), (["show", "x" * 3000], "x...x")]
)
def test_a_message_fits_on_a_line(capsys, arguments, shown):
    message = fails(capsys, *arguments)
    assert shown in message
    assert len(message) < 600


@pytest.mark.parametrize("values", [["fp32", "int8"], ["fp32,int8"], ["fp32,", "int8"], ["fp32, int8"]])
def test_a_list_of_choices_is_taken_as_people_write_it(values):
    assert given([*BENCHMARK, "--exports", *values], "exports") == ["fp32", "int8"]
    assert given([*BENCHMARK, "--looks", "twin,straight_through"], "looks") == ["twin", "straight_through"]
