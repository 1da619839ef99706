"""The analysis of a search: a pure function for each figure of the paper, from observations to a document of numbers.

`Observed.from_result(result).uniform` has the observations that most figures are about. Each function raises
SearchError if there are too few; its message says in a line what is missing.
"""

from __future__ import annotations

from robnet_zoo.search.analysis.estimates import Correlation
from robnet_zoo.search.analysis.figure3 import Finetuning, Histogram, finetuning, histogram
from robnet_zoo.search.analysis.figure4 import Embedding, LinearClassifier, embedding, linear_classifier
from robnet_zoo.search.analysis.figure5 import Density, density
from robnet_zoo.search.analysis.figure6 import Budgets, Convolutions, budgets, convolutions
from robnet_zoo.search.analysis.figure7 import Fsp, fsp
from robnet_zoo.search.analysis.findings import Evidence, Finding, findings, verdict
from robnet_zoo.search.analysis.inheritance import Inheritance, inheritance
from robnet_zoo.search.analysis.observations import Observation, Observed
from robnet_zoo.search.analysis.pareto import Front, front

__all__ = [
    "Budgets",
    "Convolutions",
    "Correlation",
    "Density",
    "Embedding",
    "Evidence",
    "Finding",
    "Finetuning",
    "Front",
    "Fsp",
    "Histogram",
    "Inheritance",
    "LinearClassifier",
    "Observation",
    "Observed",
    "budgets",
    "convolutions",
    "density",
    "embedding",
    "findings",
    "finetuning",
    "front",
    "fsp",
    "histogram",
    "inheritance",
    "linear_classifier",
    "verdict",
]
