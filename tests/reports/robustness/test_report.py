"""The sections of the report of results documents."""

from __future__ import annotations

from robnet_zoo.attacks import Fgsm
from robnet_zoo.benchmarks.result import (
    Shard,
)
from robnet_zoo.reports import robustness as report
from tests.reports.documents import result
from tests.reports.pages import Tree, html, ids


def test_sections_stand_in_the_order_in_which_they_are_read(page):
    expected = "alarms summary paper comparisons parameters steps eps transfer cost pictures provenance"
    assert ids(Tree(page.read_text())) == expected.split()


def test_sections_without_data_are_left_out(tmp_path):
    tree = html([result("alone", attacks=(Fgsm(),), data="digits")], tmp_path)
    assert ids(tree) == ["alarms", "summary", "cost", "provenance"]


def test_alarms_come_first_and_name_their_model(page):
    text = page.read_text()
    alarms = text[text.index('id="alarms"') : text.index('id="summary"')]
    assert "more_steps_less_success" in alarms
    assert "pgd100: 34.0 %, pgd20: 30.0 %." in alarms
    assert "PGD with more steps, and nothing else changed, leaves more images right." in alarms
    assert "robnet_micro.cifar10" in alarms
    assert "120 of 1,000 images" in alarms
    unconfirmed = "In 2 of 240 outcomes the model itself did not confirm successes, 6 in all; they count as none."
    assert unconfirmed in alarms
    assert "fgsm 3 on 1 of 120, pgd20 3 on 1 of 120 images." in alarms
    assert alarms.index("more_steps_less_success") < alarms.index("incomplete") < alarms.index(">note<")
    assert "No alarms" not in alarms


def test_without_alarms_a_quiet_line_stands_there(tmp_path):
    report.write([result("calm", unconfirmed=2)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "No alarms" in text
    assert 'class="notice serious"' not in text


def test_an_incomplete_document_is_in_no_chart_and_not_beside_the_paper(tmp_path):
    partial = [result("resnet18", n=208, shard=Shard(index=0, count=2), of=400)]
    tree = html(partial, tmp_path)
    assert ids(tree) == ["alarms", "summary", "cost", "provenance"]
    assert tree.row("resnet18", "–")[2] == "208\nof 400"
