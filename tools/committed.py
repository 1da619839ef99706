"""Where the committed results documents lie: a folder a kind. They are part of the checkout, not of the package."""

from __future__ import annotations

from pathlib import Path

from robnet_zoo.benchmarks.result import Result

RESULTS = Path(__file__).resolve().parents[1] / "robnet_zoo" / "benchmarks" / "results"
ROBUSTNESS = RESULTS / "robustness"  # `Result`: MODEL.TAG.json states the bundled weights' accuracies
SPEED = RESULTS / "speed"  # a document a script of `robnet_zoo.benchmarks.speed`
TRAINING = RESULTS / "training"  # `TrainingResult`: MODEL.TAG.json, MODEL.TAG.2.json, ... trained the bundled weights
SEARCH = RESULTS / "search"  # `StudyResult`
TABLES = RESULTS / "tables"  # `SpaceFindings`, of tables that others published
LOOKUP = RESULTS / "lookup"  # `LookupResult`, of the same tables
SCORES = RESULTS / "scores"  # `RankingResult`, of the same tables
REPRODUCE = RESULTS / "reproduce"  # `ReproductionResult`
DISAGREEMENTS = RESULTS / "disagreements"  # `DisagreementsResult`, of `strong` and AutoAttack
CORPUS = RESULTS / "corpus"  # `CorpusResult`, of files that torch's exporters made of others' architectures


def without_pictures(result: Result) -> Result:
    """Return a document without the pictures that a run adds: those of a data set are not ours to give."""
    return result.model_copy(update={"examples": ()})
