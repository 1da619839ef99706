"""Configs of a search: the bundled ones are at the paper's scale, and impossible ones are refused with the place."""

from __future__ import annotations

import pytest

from robnet_zoo.errors import DocumentError, SearchError
from robnet_zoo.genotype.blueprint import parameters
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.search.config import Sandwich, SearchConfig, config_names, load_config
from tests.search.small_search import config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("evaluation", "finetune", "validation"),
            8,
            r"evaluation.finetune.validation: expected 0, as held-out images",
        ),
        (("branches", 0, "supernet", "validation"), 8, r"branches\[0\].supernet.validation: expected 0, as held-out"),
        (("branches", 1, "supernet", "attack", "kind"), "free", r"supernet.attack"),
        (("branches", 0, "supernet", "compile"), True, r"supernet.compile: expected false, as each update trains"),
        (("evaluation", "finetune", "attack", "kind"), "fgsm_pgi", r"finetune.attack.kind: expected pgd or n_fgsm"),
        (("evaluation", "images"), 16, r"evaluation.images: expected at least a batch of finetune, 32, got 16"),
        (("branches", 0, "groups", 0, "filter"), {}, r"groups\[0\].filter: expected none, as FSP is of cell_free"),
        (
            ("branches", 0, "groups", 1, "sampler"),
            "tpe",
            r"groups\[1\].sampling: expected none, as tpe chooses, got one",
        ),
        (
            ("branches", 1, "groups", 0, "sampler"),
            "nsga2",
            r"groups\[0\].filter: expected none, as nsga2 learns from all",
        ),
        (
            ("branches", 1, "picks", 0, "name"),
            "tiny_small",
            "expected picks of different names, got 'tiny_small' twice",
        ),
        (("branches", 1, "picks", 0, "group"), "uni", r"picks\[0\].group: expected one of uniform, got 'uni'"),
        (("full", "reductions"), [2, 40], r"expected a depth from 0 to 5, got 40"),
        (("full", "depth"), 7, r"branches\[1\].network.depth: expected a depth that divides that of full, 7"),
        (("branches", 0, "kind"), "cell_free", "branches: expected each kind once"),
        (("operations",), ["identity", "sep_conf_3x3"], "did you mean 'sep_conv_3x3'"),
    ],
)
def test_config_that_cannot_work_is_refused_with_the_place(
    path: tuple[str | int, ...], value: object, message: str
) -> None:
    document = config().model_dump(mode="json", exclude_none=True)
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(DocumentError, match=message):
        SearchConfig.parse(document)


def test_a_supernet_refuses_the_targets_of_averaged_weights() -> None:
    document = config().model_dump(mode="json", exclude_none=True)
    document["branches"][0]["supernet"] |= {"ema": 0.99, "objective": {"distillation": {}}}
    with pytest.raises(DocumentError, match=r"supernet.objective.distillation: expected none, as the average is"):
        SearchConfig.parse(document)


def test_a_sandwich_refuses_an_attack_that_is_kept_from_epoch_to_epoch() -> None:
    document = config().model_dump(mode="json", exclude_none=True)
    branch = document["branches"][0] | {"sandwich": {}}
    assert SearchConfig.parse(document | {"branches": [branch]}).branches[0].sandwich == Sandwich()
    branch["supernet"]["attack"]["kind"] = "fgsm_pgi"
    with pytest.raises(DocumentError, match=r"supernet.attack.kind: expected pgd or n_fgsm for a sandwich.*fgsm_pgi"):
        SearchConfig.parse(document | {"branches": [branch]})


@pytest.mark.parametrize("name", config_names())
def test_bundled_config_picks_at_the_papers_width(name: str) -> None:
    bundled = load_config(name)
    assert bundled.full.channels == load_spec("robnet_free").network.channels
    for kind in ("cell_based", "cell_free"):
        assert bundled.branch(kind).picks


@pytest.mark.parametrize(("group", "millions"), [("robnet_small", 4.41), ("robnet_medium", 5.66)])
def test_bundled_config_draws_candidates_of_the_published_size(group: str, millions: float) -> None:
    # Paper, table 1: the model sizes of RobNet-small and RobNet-medium.
    bundled = load_config("small")
    branch = bundled.branch("cell_based")
    (wanted,) = (each.sampling for each in branch.groups if each.name == group)
    assert wanted.parameters is not None
    assert max(abs(bound / millions / 1e6 - 1) for bound in wanted.parameters) <= 0.0501
    assert parameters(load_spec("robnet_large")) > wanted.parameters[1]


def test_branch_of_another_kind_is_refused() -> None:
    whole = config()
    alone = whole.model_copy(update={"branches": whole.branches[:1]})
    with pytest.raises(SearchError, match="tiny: expected a branch of cell_based, got cell_free"):
        alone.space("cell_free")
