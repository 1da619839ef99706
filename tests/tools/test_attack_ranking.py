"""The ranking of candidates by cheap attacks."""

import pytest
from scipy import stats

from robnet_zoo.errors import SearchError
from tools import attack_ranking, sandwich


def document(robust: list[int], truth: list[int]) -> attack_ranking.AttackRankingResult:
    cheap, strong = attack_ranking.protocols("8/255", "2/255")
    titles = ["clean", *(attack.title for attack in (*cheap.attacks, *strong.attacks))]
    judged = []
    for right, wanted in zip(robust, truth, strict=True):
        correct = dict.fromkeys(titles, right) | {attack_ranking.TRUTH: wanted}
        costs = {title: index * 100 for index, title in enumerate(titles)}
        judged.append(attack_ranking.JudgedCandidate(codes=("c",), correct=correct, backwards=costs, seconds=costs))
    return attack_ranking.AttackRankingResult(
        config="made",
        kind="cell_based",
        supernet_sha256="0" * 64,
        data="made",
        data_sha256="0" * 64,
        images=100,
        cheap=cheap,
        strong=strong,
        device="CPU",
        software={},
        candidates=tuple(judged),
    )


def test_an_attack_is_ranked_by_what_the_strong_one_says_of_other_images():
    robust, truth = [10, 20, 30, 50, 40, 60], [9, 30, 20, 40, 41, 42]
    rows = attack_ranking.table(document(robust, truth)).splitlines()[4:]
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [row[0] for row in cells] == ["clean", "fgsm", "pgd7", "pgd20", "apgd_ce", "adaptive_apgd"]
    expected = f"{stats.spearmanr(robust, truth).statistic:+.2f} ("
    assert all(row[4].startswith(expected) for row in cells[:-1])
    assert cells[2][1:4] == ["2.0", "200.0", "35.0%"]
    assert cells[-1][3:] == [f"{sum(truth) / 6:.1f}%", "–"]


@pytest.mark.slow  # a supernet is trained
def test_candidates_are_judged_once_and_only_of_one_supernet(tmp_path, monkeypatch):
    asked = []

    def judge(part, codes, *_):
        asked.append(codes)
        return document([len(asked)], [len(asked)]).candidates[0].model_copy(update={"codes": codes})

    monkeypatch.setattr(attack_ranking, "judge", judge)
    config, kept = tmp_path / "config.json", tmp_path / "kept.json"
    sandwich.config("sandwich", epochs=1, candidates=6, seed=0).save(config)
    common = {"data": "digits", "config": str(config), "search": tmp_path / "search", "document": kept}
    for candidates in (5, 6):
        attack_ranking.main(**common, candidates=candidates, images=50)
    result = attack_ranking.AttackRankingResult.load(kept)
    assert tuple(candidate.codes for candidate in result.candidates) == tuple(asked)
    assert len(set(asked)) == 6
    with pytest.raises(SearchError, match="of this supernet, 20 images and attacks"):
        attack_ranking.main(**common, candidates=6, images=20)


def test_the_strong_attack_has_as_many_images_of_its_own(tmp_path):
    sandwich.config("sandwich", epochs=1, candidates=6).save(tmp_path / "config.json")
    given = {"data": "digits", "config": str(tmp_path / "config.json"), "search": tmp_path / "search"}
    with pytest.raises(SearchError, match="images: expected at most half of the 129 that are held out, got 100"):
        attack_ranking.main(**given, images=100, document=tmp_path / "kept.json")
    assert not (tmp_path / "search").exists()
