"""A report as Markdown."""

from __future__ import annotations

import re

from robnet_zoo.reports.elements import (
    Chart,
    Element,
    Gallery,
    Judgement,
    Missing,
    NoticeGroup,
    Notices,
    Record,
    Remarks,
    Report,
    Table,
    TableCell,
)


def markdown(report: Report) -> str:
    """Return a report's tables, notices and records; charts become their tables, and pictures are left out."""
    lines = [f"# {_safe(report.title)}", "", _safe(report.overview), ""]
    for section in report.sections:
        elements = [element for element in section.elements if not isinstance(element, Gallery)]
        if elements:
            lines += [f"## {_safe(section.title)}", ""]
            lines += [_safe(section.intro), ""] if section.intro else []
            lines += [line for element in elements for line in _lines(element)]
    return "\n".join(lines).rstrip() + "\n"


def table_lines(table: Table) -> list[str]:
    """Return a table with its title and notes as lines of Markdown."""
    return [
        f"**{_safe(table.title)}**",
        "",
        f"| {' | '.join(_safe(column.label) for column in table.columns)} |",
        f"|{'|'.join('---:' if column.numeric else '---' for column in table.columns)}|",
        *(f"| {' | '.join(map(cell_text, row.cells))} |" for row in table.rows),
        "",
        *(line for text in (table.note, table.scale) if text for line in (_safe(text), "")),
    ]


def _lines(element: Element) -> list[str]:
    match element:
        case Table():
            return table_lines(element)
        case Chart():
            return table_lines(element.table)
        case Notices():
            quiet = [] if any(group.serious for group in element.groups) else [element.quiet, ""]
            return [*quiet, *(line for group in element.groups for line in _group(group)), ""]
        case Record():
            particulars = [f"- {_safe(what)}: {_safe(value)}" for what, value, _ in element.particulars]
            return [f"### {_safe(element.title)}", "", *particulars, ""]
        case Remarks():
            return [*(f"- {_safe(sentence)}" for sentence in element.sentences), ""]
        case Missing():
            return [f"**{_safe(element.title)}** Not shown: {_safe(element.reason)}.", ""]
        case Judgement():
            return [
                f"### {element.number}. {_safe(element.claim)}",
                "",
                f"Here: **{_safe(element.verdict)}**. The paper: {_safe(element.paper)}",
                "",
                *table_lines(element.table),
            ]
    return []  # a gallery


def _group(group: NoticeGroup) -> list[str]:
    """Return a line for the kind and, where it is serious, a line for each notice below it."""
    head = f"- **{_safe(group.kind)}**" + (f": {_safe(group.meaning)}" if group.meaning else "")
    notices = [f"    - {_safe(who)}: {_safe(text)}" if who else f"    - {_safe(text)}" for who, text in group.notices]
    return [head, *(notices if group.serious else [])]


def cell_text(cell: TableCell) -> str:
    """Return a cell as it stands in a table of Markdown."""
    return f"{_safe(cell.text)} ({_safe(cell.detail)})" if cell.detail else _safe(cell.text)


def _safe(text: str) -> str:
    """Return text that Markdown takes as it is: no markup, no HTML, one line."""
    escaped = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
