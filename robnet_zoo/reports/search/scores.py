"""How cheap scores rank the cells of a table or the candidates of a study, side by side."""

from __future__ import annotations

from robnet_zoo.core.wording import counted
from robnet_zoo.reports.search.cells import coefficient, in_words
from robnet_zoo.search.ranking import RankingResult
from robnet_zoo.search.scores import BASELINE

WORDS = {"holds": "yes", "does not hold": "no, below", "undecided": "undecided"}


def score_table(result: RankingResult) -> str:
    """Return a row for each score: its rank correlations, whether it beats the baseline, and the minutes, in Markdown.

    Of a score that is said to fall with robustness, the negative is correlated.
    """
    heads = ["score", "Spearman", "Kendall", f"Spearman above {BASELINE}", f"beats {BASELINE}", "minutes"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for ranking in result.rankings:
        name = ranking.score if ranking.rising else f"-{ranking.score}"
        beats = "–" if ranking.beyond is None else WORDS[ranking.beyond.interval.verdict]
        figures = [in_words(coefficient(each)) for each in (ranking.spearman, ranking.kendall, ranking.beyond)]
        rows.append(f"| {' | '.join([name, *figures, beats, f'{ranking.seconds / 60:.1f}'])} |")
    return "\n".join(rows)


def score_summary(result: RankingResult) -> str:
    """Return which scores beat the baseline, which rank against their direction, and the price of all, as a line."""
    verdicts = {ranking.score: ranking.beyond.interval.verdict for ranking in result.rankings if ranking.beyond}
    against = [each.score for each in result.rankings if each.spearman and each.spearman.interval.high < 0]
    parts = {f"above {BASELINE}": "holds", f"below {BASELINE}": "does not hold", "undecided": "undecided"}
    lists = {words: [name for name in verdicts if verdicts[name] == verdict] for words, verdict in parts.items()}
    lists["against their direction"] = against
    listed = "; ".join(f"{words}: {', '.join(names) or 'none'}" for words, names in lists.items())
    return f"{counted(result.n, 'architecture')} in {result.seconds / 60:.0f} minutes; {listed}."
