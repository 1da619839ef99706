"""Alarms of results documents as notices, in one group a kind, the worst first; those that merely count are notes."""

from __future__ import annotations

from collections.abc import Iterable

from robnet_zoo.benchmarks.checks.results import Severity, by_kind, kind_of
from robnet_zoo.benchmarks.result import Alarm
from robnet_zoo.reports.elements import Notice, NoticeGroup


def alarm_groups(alarms: Iterable[tuple[str, Alarm]]) -> list[NoticeGroup]:
    """Group alarms by kind, the worst kind first. alarms: (whose figures, alarm)."""
    pairs = list(alarms)
    return [
        NoticeGroup(
            name,
            kind_of(group[0]).meaning,
            tuple(Notice(who, alarm.text) for who, alarm in pairs if alarm.name == name),
            serious=kind_of(group[0]).severity > Severity.NOTE,
        )
        for name, group in by_kind(alarm for _, alarm in pairs).items()
    ]
