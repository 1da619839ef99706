"""The committed documents lie in a folder a kind, and can be read as what their folder holds."""

from pathlib import Path

import pytest

from robnet_zoo.benchmarks.result import Result
from robnet_zoo.core.documents import Document
from robnet_zoo.reproduce.result import ReproductionResult
from robnet_zoo.search.analysis.tables import SpaceFindings
from robnet_zoo.search.lookup import LookupResult
from robnet_zoo.search.ranking import RankingResult
from robnet_zoo.search.result import StudyResult
from robnet_zoo.training import TrainingResult
from tools import committed
from tools.corpus import CorpusResult
from tools.disagreements import DisagreementsResult

KINDS = {
    committed.ROBUSTNESS: Result,
    committed.TRAINING: TrainingResult,
    committed.SEARCH: StudyResult,
    committed.TABLES: SpaceFindings,
    committed.LOOKUP: LookupResult,
    committed.SCORES: RankingResult,
    committed.REPRODUCE: ReproductionResult,
    committed.DISAGREEMENTS: DisagreementsResult,
    committed.CORPUS: CorpusResult,
}
PATHS = [(path, kind) for folder, kind in KINDS.items() for path in sorted(folder.glob("*.json"))]


def test_every_folder_of_results_is_named():
    assert {path for path in committed.RESULTS.iterdir() if path.is_dir()} == {*KINDS, committed.SPEED}
    assert {path.parent for path, _ in PATHS} == {*KINDS}


@pytest.mark.parametrize(("path", "kind"), PATHS, ids=[f"{path.parent.name}/{path.name}" for path, _ in PATHS])
def test_a_committed_document_is_of_its_folders_kind(path: Path, kind: type[Document]):
    assert kind.load(path).dumps() == path.read_text()


@pytest.mark.parametrize("path", sorted(committed.ROBUSTNESS.rglob("*.json")), ids=lambda path: path.name)
def test_no_committed_document_has_pictures_of_cifar10(path: Path):
    result = Result.load(path)
    assert not result.examples or "cifar" not in result.data.name
