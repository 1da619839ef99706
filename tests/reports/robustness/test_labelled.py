"""Labels that tell models, data and attacks apart."""

from __future__ import annotations

import pytest

from robnet_zoo.attacks import Fgsm, Pgd
from robnet_zoo.errors import ReportError
from robnet_zoo.reports import robustness as report
from robnet_zoo.reports.robustness.labelled import labelled
from tests.reports.documents import CIFAR, identity, in_turn, result, sha
from tests.reports.pages import html


def test_attacks_of_one_name_and_other_parameters_are_two_columns(tmp_path):
    first, second = result("a", attacks=(Pgd(),)), result("b", attacks=(Pgd(step="1/255"),))
    heads = html([first, second], tmp_path).row("model", "parameters")
    assert heads[4:] == ["clean", "pgd20 (step 2/255)", "pgd20 (step 1/255)", "worst case"]


def test_a_column_says_which_attacks_left_only_some_images_to_its_own():
    attacks = (Fgsm(), Pgd(), Pgd(name="other"))
    apart, turned = labelled([result("a", attacks=attacks), in_turn(result("b", attacks=attacks))])
    assert list(apart.measurements) == ["clean", "fgsm", "pgd20", "other", "worst case"]
    assert list(turned.measurements)[1:4] == ["fgsm", "pgd20 (after fgsm)", "other (after fgsm, pgd20)"]
    assert [turned.before(column) for column in turned.measurements] == [(), (), ("fgsm",), ("fgsm", "pgd20"), ()]


def test_models_of_one_name_and_other_weights_are_told_apart(tmp_path):
    other = identity("a").model_copy(update={"state_sha256": "0" * 64})
    tree = html([result("a"), result(other)], tmp_path)
    assert tree.row("a (00000000)")
    assert tree.row(f"a ({sha('a')[:8]})")


def test_the_first_images_of_a_set_are_told_apart_by_their_number():
    eight, sixteen = result("a", n=8), result("b", n=16)
    sixteen = sixteen.model_copy(update={"data": sixteen.data.model_copy(update={"sha256": "1" * 64})})
    assert [entry.data for entry in labelled([eight, sixteen])] == [f"{CIFAR}, n = 8", f"{CIFAR}, n = 16"]


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="expected at least one result with an image measured, got 0"):
        report.write([], tmp_path / "report.html")
