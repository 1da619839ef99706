"""Reports as Markdown."""

from __future__ import annotations

from robnet_zoo.reports import robustness as report
from robnet_zoo.reports.elements import Notice, NoticeGroup, Notices, Report, Section
from robnet_zoo.reports.markdown import markdown
from tests.reports.documents import CIFAR


def test_markdown_has_the_summary(everything, tmp_path):
    report.write(everything, tmp_path / "report.md")
    lines = (tmp_path / "report.md").read_text().splitlines()
    heads = next(line for line in lines if line.startswith("| model | parameters"))
    row = next(line for line in lines if line.startswith(f"| robnet_free.cifar10 ({CIFAR}) | 5,439,790"))
    assert heads.count("|") == row.count("|")
    measurement = everything[0].measurement("pgd100")
    low, high = measurement.interval
    assert f"{100 * measurement.accuracy:.1f} ({100 * low:.1f} – {100 * high:.1f})" in row


def test_notes_that_count_are_one_line_and_alarms_one_group_a_kind() -> None:
    alarms = NoticeGroup("zero_gradients", "Gradients are zero.", (Notice("a", "5 images"), Notice("b", "7 images")))
    note = NoticeGroup("note", "12 were not confirmed.", (Notice("a", "12 of 20"),), serious=False)
    section = Section("alarms", "Alarms", "", (Notices((alarms, note), "All is quiet."),))
    lines = markdown(Report("Title", "", (section,), ())).splitlines()
    assert lines[lines.index("## Alarms") + 2 :] == [
        "- **zero_gradients**: Gradients are zero.",
        "    - a: 5 images",
        "    - b: 7 images",
        "- **note**: 12 were not confirmed.",
    ]
