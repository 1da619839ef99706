"""A report as Markdown, and its figures as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from robnet_zoo.reports.robustness.blocks import Cell, Chart, Gallery, Notices, Record, Section, Table
from robnet_zoo.reports.robustness.entries import CLEAN, WORST, Entry


def csv_text(entries: Sequence[Entry]) -> str:
    """A row a document and attack. n: images measured; right, accuracy, low, high: of them, 95 % Wilson.

    forwards, backwards, judged and unconfirmed are sums; eps of clean images is empty, as is what is not known.
    """
    rows = [_figures(entry, name) for entry in entries for name in entry.measurements]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _figures(entry: Entry, name: str) -> dict[str, object]:
    result, measurement = entry.result, entry.measurements[name]
    low, high = measurement.interval
    source = result.source
    return {
        "model": result.model.name,
        "source": source.name if source else None,
        "threat": result.protocol.threat,
        "protocol": result.protocol.name,
        "attack": measurement.attack if name == WORST else name,
        "n": len(measurement.correct),
        "right": sum(measurement.correct),
        "accuracy": measurement.accuracy,
        "low": low,
        "high": high,
        "eps": None if name == CLEAN else result.protocol.eps,
        "seed": result.protocol.seed,
        "data": result.data.name,
        "data_sha256": result.data.sha256,
        "parameters": result.model.parameters,
        "spec_hash": result.model.spec_hash,
        "state_sha256": result.model.state_sha256,
        "file_sha256": result.model.file_sha256,
        "source_sha256": source.weights if source else None,
        "whole": int(entry.whole),
        "forwards": sum(measurement.forwards) if measurement.forwards else None,
        "backwards": sum(measurement.backwards) if measurement.backwards else None,
        "judged": sum(measurement.judged) if measurement.judged else None,
        "unconfirmed": sum(measurement.unconfirmed) if measurement.unconfirmed else None,
        "seconds": measurement.seconds,
        "device": result.device,
    }


def markdown(title: str, overview: str, sections: Sequence[Section]) -> str:
    """The report's tables and notices; charts as their tables, pictures left out."""
    lines = [f"# {title}", "", _safe(overview), ""]
    for section in sections:
        blocks = [block for block in section.blocks if not isinstance(block, Gallery)]
        if not blocks:
            continue
        lines += [f"## {section.title}", ""]
        lines += [section.intro, ""] if section.intro else []
        for block in blocks:
            if isinstance(block, Notices):
                lines += _notices(block)
            elif isinstance(block, Record):
                lines += [f"### {_safe(block.title)}", ""]
                lines += [f"- {_safe(what)}: {_safe(value)}" for what, value, _ in block.fields]
                lines.append("")
            else:
                lines += table_lines(block.table if isinstance(block, Chart) else block)
    return "\n".join(lines).rstrip() + "\n"


def _notices(block: Notices) -> list[str]:
    quiet = [] if any(notice.serious for notice in block.notices) else [block.quiet, ""]
    return [*quiet, *(f"- **{_safe(one.kind)}**, {_safe(one.model)}: {_safe(one.text)}" for one in block.notices), ""]


def table_lines(table: Table) -> list[str]:
    """A table with its title and note as lines of Markdown."""
    return [
        f"**{_safe(table.title)}**",
        "",
        f"| {' | '.join(_safe(column.label) for column in table.columns)} |",
        f"|{'|'.join('---:' if column.numeric else '---' for column in table.columns)}|",
        *(f"| {' | '.join(map(_cell, row.cells))} |" for row in table.rows),
        "",
        *([_safe(table.note), ""] if table.note else []),
    ]


def _cell(cell: Cell) -> str:
    return f"{_safe(cell.text)} ({_safe(cell.detail)})" if cell.detail else _safe(cell.text)


def _safe(text: str) -> str:
    """Text that Markdown takes as it is: no markup, no HTML, one line."""
    escaped = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
