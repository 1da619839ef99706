"""What inherited accuracy is worth, in a table."""

from __future__ import annotations

from robnet_zoo.core.wording import counted
from robnet_zoo.reports.search.cells import coefficient, in_words
from robnet_zoo.search.analysis.inheritance import inheritance
from robnet_zoo.search.result import StandaloneResult


def standalone_table(result: StandaloneResult) -> str:
    """Return the rank correlations of inherited, finetuned and standalone accuracy, in Markdown."""
    measured = {by: inheritance(result, by) for by in ("robust", "clean")}
    rows = {
        "inherited and standalone": [each.inherited for each in measured.values()],
        "finetuned and standalone": [each.finetuned for each in measured.values()],
        "inherited and finetuned": [each.before_after for each in measured.values()],
    }
    attack, candidates = result.recipe.attack, [each.standalone for each in result.candidates]
    robust, clean = ([getattr(each, by) for each in candidates] for by in ("robust", "clean"))
    lines = [
        f"{counted(len(candidates), 'candidate')} of `{result.search}`, {result.kind.replace('_', '-')}, trained alone "
        f"for {counted(result.recipe.epochs, 'epoch')} on {result.training:,} images of {result.data}, "
        f"{attack.kind} at eps {attack.eps}: {min(clean):.1%} to {max(clean):.1%} clean, {min(robust):.1%} to "
        f"{max(robust):.1%} robust on {result.validation:,} held-out images; {result.device}",
        "",
        "| rank correlation | robust accuracy | clean accuracy | candidates |",
        "|---|---|---|---|",
    ]
    for name, (robustly, cleanly) in rows.items():
        n = next((str(each.n) for each in (robustly, cleanly) if each is not None), "–")
        lines.append(f"| {name} | {in_words(coefficient(robustly))} | {in_words(coefficient(cleanly))} | {n} |")
    return "\n".join(lines)
