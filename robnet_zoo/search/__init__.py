"""The search: an adversarially trained supernet, architectures sampled from it, and specs that come out of it.

>>> from pathlib import Path
>>> from robnet_zoo.search import Search, StudyResult, load_config, picks
>>> search = Search(load_config("small"), "cifar10-train:data", Path("runs/search"))
>>> search.run(workers=2)  # doctest: +SKIP
[PosixPath('runs/search/specs/robnet_small.json'), ...]
>>> result = StudyResult.load("runs/search/cell_based.json")  # doctest: +SKIP
>>> for spec, candidate in picks(result):  # doctest: +SKIP
...     print(spec.name, candidate.after.robust)

Names are loaded when they are first used: studies need Optuna and SQLAlchemy, and the pipeline needs torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from robnet_zoo.core import lazy

if TYPE_CHECKING:
    from robnet_zoo.errors import SearchError
    from robnet_zoo.search.analysis.findings import findings
    from robnet_zoo.search.analysis.observations import Observed
    from robnet_zoo.search.candidates import CandidateSet
    from robnet_zoo.search.cells import choose_cells
    from robnet_zoo.search.config import (
        Branch,
        CandidateGroup,
        Evaluation,
        Filter,
        Pick,
        Sandwich,
        SearchConfig,
        config_names,
        load_config,
    )
    from robnet_zoo.search.evaluation import Evaluator
    from robnet_zoo.search.fsp import fsp_distances, fsp_matrix
    from robnet_zoo.search.pipeline import Search
    from robnet_zoo.search.ranking import RankingSize, rank_study, rank_table
    from robnet_zoo.search.result import Accuracy, Candidate, StandaloneResult, StudyResult
    from robnet_zoo.search.sampling import Sampling, sample
    from robnet_zoo.search.scores import SCORES, Score, Scoring, computed
    from robnet_zoo.search.selection import best, picks
    from robnet_zoo.search.space import SearchSpace
    from robnet_zoo.search.standalone import train_standalone
    from robnet_zoo.search.storage import open_storage
    from robnet_zoo.search.study import Claim, Study, work
    from robnet_zoo.search.supernet import train_supernet

__all__ = [
    # a search, from data to specs
    "Search",
    "picks",
    "best",
    "choose_cells",
    # what is searched
    "SearchConfig",
    "Branch",
    "CandidateGroup",
    "Evaluation",
    "Filter",
    "Pick",
    "Sandwich",
    "load_config",
    "config_names",
    # architectures
    "SearchSpace",
    "Sampling",
    "sample",
    # the supernet and its candidates
    "train_supernet",
    "Evaluator",
    "fsp_matrix",
    "fsp_distances",
    # cheap scores, and how they rank a table of trained cells or the candidates of a study
    "SCORES",
    "Score",
    "Scoring",
    "computed",
    "RankingSize",
    "rank_table",
    "rank_study",
    # what inherited accuracy is worth
    "train_standalone",
    "StandaloneResult",
    # studies, which workers share
    "CandidateSet",
    "Study",
    "Claim",
    "work",
    "open_storage",
    # results and what they say
    "StudyResult",
    "Candidate",
    "Accuracy",
    "Observed",
    "findings",
    # errors
    "SearchError",
]

__getattr__, __dir__ = lazy.face(
    __name__,
    {
        ".analysis.findings": ("findings",),
        ".analysis.observations": ("Observed",),
        ".candidates": ("CandidateSet",),
        ".cells": ("choose_cells",),
        ".config": (
            "Branch",
            "CandidateGroup",
            "Evaluation",
            "Filter",
            "Pick",
            "Sandwich",
            "SearchConfig",
            "config_names",
            "load_config",
        ),
        ".evaluation": ("Evaluator",),
        ".fsp": ("fsp_distances", "fsp_matrix"),
        ".pipeline": ("Search",),
        ".ranking": ("RankingSize", "rank_study", "rank_table"),
        ".result": ("Accuracy", "Candidate", "StandaloneResult", "StudyResult"),
        ".sampling": ("Sampling", "sample"),
        ".scores": ("SCORES", "Score", "Scoring", "computed"),
        ".selection": ("best", "picks"),
        ".space": ("SearchSpace",),
        ".standalone": ("train_standalone",),
        ".storage": ("open_storage",),
        ".study": ("Claim", "Study", "work"),
        ".supernet": ("train_supernet",),
        "robnet_zoo.errors": ("SearchError",),
    },
)
