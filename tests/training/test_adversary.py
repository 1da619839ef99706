"""The images that training sees, and the losses on them, against their papers' formulas written out."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robnet_zoo.nn.compiler import compile
from robnet_zoo.training import Guard, Objective, Recipe, TrainingAttack
from robnet_zoo.training.adversary import Replay, attacked, batch_statistics, loss_of, rectified, rescue
from robnet_zoo.training.distributed import World
from robnet_zoo.training.state import initial_state


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("statistics", ["running", "batch"])
@pytest.mark.parametrize(
    "attack", [TrainingAttack(steps=2), TrainingAttack(kind="n_fgsm", steps=1), TrainingAttack(steps=2, loss="kl")]
)
def test_the_inner_attack_leaves_the_network_as_it_was(tiny, attack, statistics, mode):
    attack = attack.model_copy(update={"statistics": statistics})
    network = compile(tiny).train(mode)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    adversarial = attacked(network, torch.rand(4, 3, 32, 32), torch.zeros(4, dtype=torch.long), attack, seeded())
    assert not adversarial.requires_grad
    assert all(module.training == mode for module in network.modules())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(("statistics", "training"), [("running", False), ("batch", True)])
def test_an_attack_by_the_statistics_of_the_batch_sees_the_network_in_train_mode(tiny, statistics, training):
    # The original code does so. The step is written out with the plain network, from a start that may leave the box.
    network = compile(tiny)
    with torch.no_grad():
        network.train()(torch.rand(64, 3, 32, 32, generator=seeded()))
    images, labels = torch.rand(8, 3, 32, 32, generator=seeded()), torch.arange(8)
    attack = TrainingAttack(kind="n_fgsm", steps=1, step="8/255", dtype="float32", statistics=statistics)
    adversarial = attacked(network, images, labels, attack, seeded())
    noisy = images + torch.empty_like(images).uniform_(-16 / 255, 16 / 255, generator=seeded())
    twin = copy.deepcopy(network).train(training)
    (gradient,) = torch.autograd.grad(F.cross_entropy(twin(noisy.requires_grad_()), labels), noisy)
    expected = (noisy.detach() + 8 / 255 * gradient.sign()).clamp(0, 1)
    assert (adversarial - expected).abs().gt(1e-6).float().mean() < 0.001  # signs of gradients that round to nothing


@pytest.mark.parametrize("attack", [TrainingAttack(steps=3), TrainingAttack(steps=3, loss="kl")])
@pytest.mark.parametrize("strength", [0.25, 1.0])
def test_images_stay_in_the_ball_and_in_the_box(tiny, attack, strength):
    images = torch.rand(6, 3, 32, 32, generator=seeded()).round()  # black and white, at the edges of the box
    adversarial = attacked(compile(tiny), images, torch.arange(6), attack, seeded(), strength=strength)
    assert (adversarial - images).abs().max() <= strength * 8 / 255 + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1


def test_the_divergence_is_climbed(tiny):
    network = compile(tiny).eval()
    with torch.no_grad():
        network.train()(torch.rand(64, 3, 32, 32, generator=seeded()))  # statistics as of a trained network
    network.eval()
    images, labels = torch.rand(16, 3, 32, 32, generator=seeded()), torch.zeros(16, dtype=torch.long)
    strong, weak = (TrainingAttack(steps=steps, loss="kl", dtype="float32") for steps in (10, 1))
    answers = F.log_softmax(network(images), dim=1)

    def divergence(attack):
        others = F.log_softmax(network(attacked(network, images, labels, attack, seeded())), dim=1)
        return F.kl_div(others, answers, reduction="batchmean", log_target=True).item()

    assert divergence(strong) > divergence(weak) > 0


def test_the_trades_loss_is_its_equation(tiny):
    network = compile(tiny).eval().double()
    clean, adversarial = torch.rand(2, 5, 3, 32, 32, dtype=torch.float64, generator=seeded())
    labels = torch.arange(5)
    loss = loss_of(network, clean, adversarial, labels, Objective(kind="trades", beta=6.0))
    p, q = network(clean).softmax(1), network(adversarial).softmax(1)
    expected = -p[torch.arange(5), labels].log().mean() + 6 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(loss, expected)


def test_the_adversarial_loss_sees_the_adversarial_images_alone(tiny):
    network = compile(tiny).eval().double()
    adversarial, labels = torch.rand(5, 3, 32, 32, dtype=torch.float64, generator=seeded()), torch.arange(5)
    loss = loss_of(network, torch.full_like(adversarial, torch.nan), adversarial, labels, Objective())
    torch.testing.assert_close(loss, -network(adversarial).log_softmax(1)[torch.arange(5), labels].mean())


def test_rectified_targets_are_those_of_their_paper():
    # Wu et al., 2024: the share of the teacher's answer falls with how much it prefers its first choice to the label.
    logits, labels = torch.randn(8, 5, dtype=torch.float64, generator=seeded()) * 3, torch.arange(8) % 5
    targets = rectified(lambda _: logits, logits, labels, share=0.7, temperature=2.0)
    for row, label, target in zip(logits, labels, targets, strict=True):
        answer = (row / 2).exp() / (row / 2).exp().sum()
        share = max(0.0, float(0.7 - (answer.max() - answer[label])))
        expected = [share * float(p) + (1 - share) * float(k == label) for k, p in enumerate(answer)]
        assert target.tolist() == pytest.approx(expected)
    loss = loss_of(lambda _: logits, logits, logits, targets, Objective(label_smoothing=0.2))
    smoothed = 0.8 * targets + 0.2 / 5
    torch.testing.assert_close(loss, -(smoothed * logits.log_softmax(1)).sum(1).mean())


def test_at_no_strength_images_stay_and_cost_nothing():
    images = torch.rand(2, 3, 4, 4)
    assert attacked(nn.Identity(), images, torch.arange(2), TrainingAttack(), seeded(), strength=0.0) is images


@pytest.mark.parametrize("kind", ["adversarial", "trades"])
def test_smoothed_labels_give_a_share_of_the_weight_to_all_classes(kind):
    logits, labels = torch.randn(6, 10, dtype=torch.float64, generator=seeded()), torch.arange(6)
    loss = loss_of(lambda _: logits, logits, logits, labels, Objective(kind=kind, label_smoothing=0.2))
    logs = logits.log_softmax(1)
    torch.testing.assert_close(loss, -(0.8 * logs[torch.arange(6), labels] + 0.2 * logs.mean(1)).mean())


def test_synchronised_norms_learn_nothing_from_an_attack_either():
    # On a CPU, without other processes, they compute as any batch norm does, but insist on their counter.
    norm = nn.SyncBatchNorm(3)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    with batch_statistics(norm):
        norm(torch.rand(4, 3, 5, 5))
    assert all(torch.equal(value, before[key]) for key, value in norm.state_dict().items())
    norm.train()(torch.rand(4, 3, 5, 5))
    assert int(norm.num_batches_tracked) == 1


def test_free_training_is_the_algorithm_of_its_paper(tiny):
    # Shafahi et al., 2019, algorithm 1, written out on a copy of the network: two batches of three replays.
    recipe = Recipe(name="free", epochs=1, attack=TrainingAttack(kind="free", steps=3, eps="8/255", step="4/255"))
    state = initial_state(tiny, recipe, World())
    network = copy.deepcopy(state.network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    ours = torch.optim.SGD(state.network.parameters(), lr=0.01)
    delta, eps, step, labels = torch.zeros(4, 3, 32, 32), 8 / 255, 4 / 255, torch.arange(4)
    for batch in torch.rand(2, 4, 3, 32, 32, generator=seeded()):
        replay = Replay(state, batch, recipe.attack, strength=1.0)
        for _ in range(3):
            ours.zero_grad()
            loss_of(state.network, batch, replay.start(), labels, recipe.objective).backward()
            ours.step()
            state.perturbation = replay.advance()
            x = (batch + delta).clamp(0, 1).requires_grad_()
            optimizer.zero_grad()
            F.cross_entropy(network(x), labels).backward()
            optimizer.step()
            delta = (delta + step * x.grad.sign()).clamp(-eps, eps)
            torch.testing.assert_close(state.perturbation, delta)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(state.network.state_dict()[key], value)


@pytest.mark.parametrize(("eps", "step"), [("8/255", 2 / 255), ("1/8", 1 / 32), ("1", 1 / 4)])
def test_the_guards_attack_steps_a_quarter_of_eps(eps, step):
    attack = rescue(
        Recipe(name="r", epochs=1, attack=TrainingAttack(kind="n_fgsm", eps=eps, steps=1), guard=Guard(steps=4))
    )
    assert (attack.kind, attack.steps, attack.eps) == ("pgd", 4, eps)
    assert attack.step_value == pytest.approx(step)


def test_the_guards_attack_uses_the_statistics_that_the_recipes_does():
    own = TrainingAttack(kind="n_fgsm", steps=1, statistics="batch")
    assert rescue(Recipe(name="r", epochs=1, attack=own, guard=Guard(steps=4))).statistics == "batch"
