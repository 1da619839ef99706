"""The table of the candidates that were written as specs."""

from __future__ import annotations

from robnet_zoo.search.cells import CellIndex


def cells_table(index: CellIndex) -> str:
    """Return the index as a table in Markdown: accuracies in percent, sizes and density."""
    rows = ["| spec | robust | clean | inherited robust | inherited clean | parameters | density |", "|---" * 7 + "|"]
    for cell in index.cells:
        shares = (cell.robust, cell.clean, cell.inherited_robust, cell.inherited_clean)
        figures = " | ".join("–" if share is None else f"{share:.1%}" for share in shares)
        rows.append(f"| {cell.file} | {figures} | {cell.parameters:,} | {cell.density:.2f} |")
    return "\n".join(rows)
