"""Every attack, asked the same questions; `classifiers.ATTACKS` is the table of them."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from robnet_zoo.attacks import ATTACKS as CLASSES
from robnet_zoo.attacks import AnyAttack, AutoAttack, IterativeAttack, run
from robnet_zoo.attacks.ball import length
from tests.attacks.classifiers import ATTACKS, BALL, LONGER, Opposites, greys, small

EPS = {"linf": 0.03, "l2": 0.25}


def images_of(outcomes) -> Tensor:
    return torch.stack([outcome.image for outcome in outcomes])


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> IterativeAttack:
    return ATTACKS[request.param]


every = pytest.mark.parametrize("attack", ATTACKS, indirect=True)


@every
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
def test_images_stay_in_the_ball_and_in_the_box(attack, targeted, network):
    corners = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(2)).round()  # black and white
    labels = network(corners).argmax(1)
    targets = (labels + 1) % 5 if targeted else None
    eps = EPS[attack.ball]
    outcomes = run(attack, network, corners, labels, eps=eps, targets=targets, slots=12)
    adversarial = images_of(outcomes)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    distances = length(adversarial.double() - corners.double(), attack.ball)
    inside = torch.tensor([outcome.fooled or not attack.minimal for outcome in outcomes])
    assert (distances[inside] <= eps + 1e-6).all()
    assert torch.allclose(torch.tensor([outcome.distance for outcome in outcomes]), distances.float(), atol=1e-6)


@every
def test_every_success_fools_the_model_and_what_withstands_does_not(attack, network):
    images = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = network(images).argmax(1)
    outcomes = run(attack, network, images, labels, eps=EPS[attack.ball], slots=24)
    fooled = torch.tensor([outcome.fooled for outcome in outcomes])
    answers = network(images_of(outcomes)).argmax(1)
    assert fooled.any()
    assert bool((answers != labels)[fooled].all())
    if not attack.minimal:  # a minimal attack may fool the model outside the ball
        assert bool((answers == labels)[~fooled].all())


@every
def test_every_targeted_success_is_the_target(attack, network):
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    logits = network(images)
    labels, targets = logits.topk(2).indices.unbind(1)
    outcomes = run(attack, network, images, labels, eps=2 * EPS[attack.ball], targets=targets, slots=16)
    fooled = torch.tensor([outcome.fooled for outcome in outcomes])
    assert fooled.any()
    assert bool((network(images_of(outcomes)).argmax(1) == targets)[fooled].all())


@every
def test_the_same_seed_gives_the_same_images_and_another_seed_others_where_chance_plays(attack, network):
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = network(images).argmax(1)

    def attacked(seed: int) -> Tensor:
        eps = EPS[attack.ball] / 10
        return images_of(run(attack, network, images, labels, eps=eps, seed=seed, slots=6, early=False))

    assert torch.equal(attacked(0), attacked(0))
    assert torch.equal(attacked(0), attacked(1)) == (not attack.is_random)


ELSEWHERE = {"bsr", "mi_di_fgsm", "ssa", "ssa_l2"}  # the gradient of an altered image is not that of the image


@pytest.mark.parametrize("name", sorted(set(BALL) - ELSEWHERE - {"deepfool", "deepfool_l2", "square_l2"}))
def test_the_worst_image_of_a_linear_model_is_found(name):
    # DeepFool goes to the boundary instead, and windows of Square in l2, at least 3 pixels wide, do not reach every
    # image of 4x4.
    attack, model, images = LONGER.get(name, ATTACKS[name]), Opposites(), greys(24)
    distances = model.distances(images, attack.ball)
    far = distances.argsort()[-8:]
    images, eps = images[far], 0.5 * distances[far]  # not enough, so that every attack runs to its end
    adversarial = images_of(run(attack, model, images, model.labels(images), eps=eps, slots=8))
    clean, best = model.score(images), model.score(model.worst(images, eps, attack.ball))
    reached = (clean - model.score(adversarial)) / (clean - best)  # 1 at the optimum
    assert reached.min() > 0.99
    assert reached.max() < 1 + 1e-4


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"square_l2", "bsr"}))  # whose blocks move the weights
def test_a_linear_model_is_fooled_exactly_where_its_boundary_lies_in_the_ball(name):
    attack, model, images = LONGER.get(name, ATTACKS[name]), Opposites(), greys(30)
    distances = model.distances(images, attack.ball)
    eps = float(distances.median())
    clear = ((distances / eps) - 1).abs() > 0.06  # an overshoot or a search step more
    images, distances = images[clear], distances[clear]
    outcomes = run(attack, model, images, model.labels(images), eps=eps, slots=15)
    assert [outcome.fooled for outcome in outcomes] == (distances < eps).tolist()
    assert 5 < int((distances < eps).sum()) < len(images) - 5


@every
def test_a_model_is_left_as_it_was_and_no_parameter_gets_a_gradient(attack):
    model = small()
    model[3].train()  # modes may differ within a model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    run(attack, model, images, torch.zeros(4, dtype=torch.long), eps=EPS[attack.ball], slots=4)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


@every
def test_the_images_given_are_not_changed(attack, network):
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    before = images.clone()
    run(attack, network, images, network(images).argmax(1), eps=EPS[attack.ball], slots=4)
    assert torch.equal(images, before)
    assert not images.requires_grad


@every
def test_an_attack_is_a_document_that_is_read_as_it_was_written(attack):
    assert type(attack).loads(attack.dumps()) == attack
    assert TypeAdapter(AnyAttack).validate_python(attack.model_dump(mode="json")) == attack


@every
def test_an_unknown_parameter_is_refused(attack):
    with pytest.raises(ValueError, match='unknown key "epss"'):
        type(attack).parse(attack.model_dump(mode="json") | {"epss": 1})


def test_every_attack_of_a_protocol_is_in_the_table():
    assert {type(attack) for attack in ATTACKS.values()} == set(CLASSES) - {AutoAttack}


@every
def test_an_image_that_withstands_costs_what_the_attack_says(attack):
    model, images = Opposites(), greys(6)
    with torch.no_grad():
        model.b += 30  # the other class is out of reach, within the box too, and its probability is above 0
    outcomes = run(attack, model, images, model.labels(images), eps=EPS[attack.ball], slots=3)
    assert {(outcome.forwards, outcome.backwards) for outcome in outcomes} == {attack.cost(4)}


@every
def test_no_image_costs_more_than_the_attack_says(attack, network):
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(8))
    outcomes = run(attack, network, images, network(images).argmax(1), eps=EPS[attack.ball], slots=6)
    most = attack.cost(5)
    assert all(outcome.forwards <= most.forwards and outcome.backwards <= most.backwards for outcome in outcomes)
    assert attack.usual_cost(5) <= most


STEPS = {name: attack for name, attack in ATTACKS.items() if attack.steps_family is not None}


def test_attacks_of_equal_steps_are_the_families_of_steps():
    # APGD's steps depend on their number, and an image that diversity hides is judged at its end alone.
    assert set(STEPS) == {name for name in ATTACKS if name.startswith(("bim", "pgd", "mi_fgsm"))}


@pytest.mark.parametrize("attack", STEPS.values(), ids=STEPS)
def test_an_attack_of_fewer_steps_is_the_beginning_of_its_family(attack, network):
    images = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(9))
    fewer = attack.model_copy(update={"steps": attack.steps // 3, "name": "fewer"})
    assert (fewer.steps_family.key, fewer.steps_family.steps) == (attack.steps_family.key, attack.steps // 3)
    labels = network(images).argmax(1)
    short, long = (
        run(member.model_copy(update={"restarts": 1}), network, images, labels, eps=EPS[attack.ball] / 4, slots=6)
        for member in (fewer, attack)
    )
    begun = [outcome if outcome.fooled and outcome.step <= fewer.steps - 1 else None for outcome in long]
    assert [outcome.step for outcome in short if outcome.fooled and outcome.step < fewer.steps] == [
        outcome.step for outcome in begun if outcome
    ]
    assert all(later.fooled for first, later in zip(short, long, strict=True) if first.fooled)
    assert sum(outcome.fooled for outcome in long) > 0


MARGIN = {"adaptive_apgd", "adaptive_apgd_l2", "square", "square_l2", "cw"} | {
    name for name in ATTACKS if "margin" in name or "dlr" in name
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_says_whether_it_climbs_a_margin(name):
    assert ATTACKS[name].climbs_margin == (name in MARGIN)
