"""Candidates: measured by masks, finetuned on their own; the supernet stays as it is."""

from __future__ import annotations

import pytest
import torch

from robnet_zoo import attacks
from robnet_zoo.errors import SearchError, TrainingError
from robnet_zoo.nn.network import Network
from robnet_zoo.search.config import Evaluation, Filter
from robnet_zoo.search.evaluation import Evaluator
from robnet_zoo.search.result import Candidate
from robnet_zoo.search.sampling import Sampling, sample
from robnet_zoo.search.supernet import train_supernet
from robnet_zoo.training import Recipe
from tests.search.small_search import PLAIN, RECIPE, SINGLE_STEP, images, space

FINETUNE = Recipe(
    name="finetune",
    epochs=3,
    batch=32,
    lr=0.02,
    attack=SINGLE_STEP.model_copy(update={"statistics": "running"}),
    augmentation=PLAIN,
    validation=0,
)
EVALUATION = Evaluation(finetune=FINETUNE, images=640, calibration=2, validation=64, steps=3)
BRIEF = EVALUATION.model_copy(update={"finetune": FINETUNE.lasting(1), "images": 64})  # where accuracy does not matter
SPACE = space("cell_free")
CODES = sample(SPACE, Sampling(), 3, seed="a")
SPECS = [SPACE.genotype(codes, name="a") for codes in CODES]


@pytest.fixture(scope="module")
def supernet(tmp_path_factory) -> Network:
    recipe = RECIPE.model_copy(update={"epochs": 4})
    return train_supernet(SPACE, images(900), recipe, tmp_path_factory.mktemp("supernet"), progress=False)


@pytest.fixture
def evaluator(supernet) -> Evaluator:
    return Evaluator(supernet, EVALUATION, *images(900).split(), seed=0)


@pytest.fixture
def brief(supernet) -> Evaluator:
    return Evaluator(supernet, BRIEF, *images(900).split(), seed=0)


def candidate(index: int) -> Candidate:
    return Candidate(group="a", index=index, codes=CODES[index], hash=SPECS[index].hash)


def test_supernet_is_the_same_bits_after_candidates(brief) -> None:
    before = {key: value.clone() for key, value in brief.supernet.state_dict().items()}
    brief.finetune(brief.score(candidate(0), SPECS[0], Filter(images=32)), SPECS[0])
    assert not any(module.training for module in brief.supernet.modules())
    for key, value in brief.supernet.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_candidate_has_the_same_figures_after_any_other_candidate(brief) -> None:
    def figures(index: int) -> tuple[object, ...]:
        measured = brief.finetune(brief.score(candidate(index), SPECS[index], Filter(images=32)), SPECS[index])
        return measured.before, measured.after, measured.fsp

    first = [figures(index) for index in (0, 1)]
    assert [figures(index) for index in (2, 1, 0)][:0:-1] == first


def test_finetuned_network_is_more_robust_than_the_inherited_one(evaluator) -> None:
    # Paper, figure 3a. Digits at 8 pixels, a supernet of 100 updates: far from trained, so every one gains.
    for index in range(3):
        measured = evaluator.finetune(evaluator.score(candidate(index), SPECS[index]), SPECS[index])
        assert measured.before is not None
        assert measured.after is not None
        assert measured.after.robust > measured.before.robust
        assert measured.seconds > 0


def test_accuracy_is_that_of_the_network_itself_on_the_first_held_out_images(evaluator) -> None:
    network = evaluator.inherited(SPECS[0])
    pixels, labels = evaluator.validation[:64].batch(slice(None))
    clean = (network(pixels).argmax(1) == labels).float().mean().item()
    accuracy, _ = evaluator.measure(network)
    assert accuracy.clean == clean
    # No attack of the same strength, from other starts, finds a very different robust accuracy.
    outcomes = attacks.run(attacks.Pgd(step="2/255", steps=3), network, pixels, labels, eps=8 / 255, seed=1)
    assert abs(accuracy.robust - sum(not outcome.fooled for outcome in outcomes) / 64) <= 4 / 64
    assert accuracy.robust <= accuracy.clean


def test_attack_of_no_radius_changes_nothing(supernet) -> None:
    still = EVALUATION.model_copy(update={"eps": "0"})
    evaluator = Evaluator(supernet, still, *images(900).split(), seed=0)
    accuracy, flows = evaluator.measure(evaluator.inherited(SPECS[0]), Filter(images=80))
    assert accuracy.robust == accuracy.clean
    assert flows == (0.0, 0.0, 0.0)


def test_distances_are_means_over_their_images_however_many_are_judged(supernet) -> None:
    distances = []
    for validation in (16, 64, 80):
        evaluation = EVALUATION.model_copy(update={"validation": validation})
        evaluator = Evaluator(supernet, evaluation, *images(900).split(), seed=0)
        distances.append(evaluator.measure(evaluator.inherited(SPECS[0]), Filter(images=80))[1])
    assert distances[0] == distances[1] == distances[2]


def test_inherited_network_has_the_weights_of_the_supernet_and_its_own_statistics(evaluator) -> None:
    network, state = evaluator.inherited(SPECS[0]), evaluator.supernet.state_dict()
    parameters = dict(network.named_parameters())
    assert all(torch.equal(value, state[key]) for key, value in parameters.items())
    assert not torch.equal(
        network.cells[1].preprocess["1"][2].running_mean, state["cells.1.preprocess.1.2.running_mean"]
    )
    kept = Evaluator(evaluator.supernet, EVALUATION.model_copy(update={"calibration": 0}), *images(900).split(), seed=0)
    assert all(torch.equal(value, state[key]) for key, value in kept.inherited(SPECS[0]).state_dict().items())


def test_too_few_images_are_an_error(supernet) -> None:
    with pytest.raises(SearchError, match="expected 64 held-out images, got 18"):
        Evaluator(supernet, EVALUATION, *images(180).split(), seed=0)
    with pytest.raises(SearchError, match="expected 64 training images to calibrate norms on, got 50"):
        Evaluator(supernet, EVALUATION, images(900)[:50], images(900)[800:], seed=0)


def test_candidate_whose_training_diverges_is_worth_nothing_and_does_not_end_the_search(supernet) -> None:
    steep = EVALUATION.model_copy(update={"finetune": FINETUNE.model_copy(update={"lr": 1e20})})
    measured = Evaluator(supernet, steep, *images(900).split(), seed=0).finetune(candidate(0), SPECS[0])
    assert measured.after is not None
    assert (measured.after.clean, measured.after.robust) == (0.0, 0.0)


def test_a_recipe_that_cannot_run_here_is_no_measurement(supernet) -> None:
    foreign = EVALUATION.model_copy(update={"finetune": FINETUNE.model_copy(update={"optimizer": "bnbsgd"})})
    with pytest.raises(TrainingError, match="optimizer: expected one that runs here, got bnbsgd"):
        Evaluator(supernet, foreign, *images(900).split(), seed=0).finetune(candidate(0), SPECS[0])
