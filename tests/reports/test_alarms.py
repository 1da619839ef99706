"""Alarms as notices, in groups."""

from __future__ import annotations

from robnet_zoo.benchmarks.checks.results import ALARMS
from robnet_zoo.benchmarks.result import Alarm
from robnet_zoo.reports.alarms import alarm_groups
from robnet_zoo.reports.elements import Notice


def test_alarms_are_grouped_by_kind_and_the_worst_kind_comes_first():
    pairs = [
        ("a", Alarm(name="unconfirmed", text="1 of 2")),
        ("a", Alarm(name="zero_gradients", text="5 images")),
        ("b", Alarm(name="nan_logits", text="3 images")),
        ("b", Alarm(name="zero_gradients", text="7 images")),
    ]
    groups = alarm_groups(iter(pairs))
    assert [group.kind for group in groups] == ["nan_logits", "zero_gradients", "unconfirmed"]
    assert [group.meaning for group in groups] == [ALARMS[group.kind].meaning for group in groups]
    assert [group.serious for group in groups] == [True, True, False], "what merely counts is a note"
    assert groups[1].notices == (Notice("a", "5 images"), Notice("b", "7 images"))


def test_an_alarm_of_an_unknown_kind_is_shown_without_a_meaning():
    (group,) = alarm_groups([("a", Alarm(name="of_a_newer_version", text="9 images"))])
    assert (group.kind, group.meaning, group.serious, group.notices) == (
        "of_a_newer_version",
        "",
        True,
        (Notice("a", "9 images"),),
    )
