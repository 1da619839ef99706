"""The updates of the weights: what they learn from, what stops them."""

import pytest

from robnet_zoo import data, training
from robnet_zoo.errors import DivergedError
from robnet_zoo.training import (
    Keeping,
    Objective,
    Schedule,
    TrainingAttack,
    prefetch,
)
from robnet_zoo.training.distributed import World
from robnet_zoo.training.state import initial_state
from tests.training.runs import assert_same_weights, changed, history, last_state


@pytest.mark.parametrize(
    "changes",
    [
        {"attack": TrainingAttack(steps=0)},
        {"attack": TrainingAttack(kind="n_fgsm", steps=1, step="8/255"), "dtype": "bfloat16", "epochs": 35},
        {"attack": TrainingAttack(kind="free", steps=2, step="8/255"), "epochs": 8},
        {"attack": TrainingAttack(steps=2, loss="kl"), "objective": Objective(kind="trades", beta=1.0)},
        {"optimizer": "adamw", "lr": 0.01},
        {"ema": 0.9, "clip": 5.0, "schedule": Schedule(kind="linear", warmup=0.1)},
    ],
    ids=["clean", "n_fgsm in bfloat16", "free", "trades", "adamw", "averaged"],
)
def test_a_network_learns_by_every_kind_of_recipe(tiny, images, recipe, tmp_path, changes):
    longer = changed(recipe, **({"epochs": 15, "lr": 0.2, "validation": 0} | changes))
    training.train(tiny, images, longer, tmp_path, progress=False)
    rows = history(tmp_path)
    assert float(rows[-1]["loss"]) < 0.85 * float(rows[0]["loss"])


def test_a_loss_of_nan_stops_the_run_and_keeps_the_last_checkpoint(tiny, images, recipe, tmp_path, monkeypatch):
    real = training.updates.attacked

    def poison(*arguments, **strength):
        adversarial = real(*arguments, **strength)
        return adversarial * float("nan") if list((tmp_path / "checkpoints").glob("*.pt")) else adversarial

    monkeypatch.setattr(training.updates, "attacked", poison)
    with pytest.raises(DivergedError, match="epoch 2, step 0: expected a finite loss, got nan"):
        training.train(tiny, images, recipe, tmp_path, progress=False)
    state = last_state(tmp_path)
    assert (state["epoch"], state["step"]) == (2, 0)
    assert all(value.isfinite().all() for value in state["network"].values())


def test_gradients_that_are_not_finite_stop_the_run_before_they_reach_the_weights(
    tiny, images, recipe, tmp_path, monkeypatch
):
    real, steps = training.updates.loss_of, []

    def steep(model, *arguments):
        steps.append(1)
        loss = real(model, *arguments)
        return loss if len(steps) < 5 else loss + 0 * (loss - loss.detach()).abs().sqrt()  # finite, its slope is not

    monkeypatch.setattr(training.updates, "loss_of", steep)
    with pytest.raises(DivergedError, match=r"epoch 2, step 1: expected finite gradients, got some of norm (nan|inf)"):
        training.train(tiny, images, recipe, tmp_path, keeping=Keeping(seconds=0), progress=False)
    assert all(value.isfinite().all() for value in last_state(tmp_path)["network"].values())


@pytest.mark.parametrize("kind", ["pgd", "free"])
def test_picture_files_are_decoded_ahead_without_changing_the_weights(
    large, recipe, imagenet, tmp_path, monkeypatch, kind
):
    recipe = changed(recipe, batch=6, epochs=1, attack=TrainingAttack(kind=kind, steps=2), validation=0)
    pictures, real, begun = data.load(f"imagenet-train:{imagenet}", train=True), prefetch.Prefetcher.begin, []
    monkeypatch.setattr(prefetch.Prefetcher, "begin", lambda self, *batch: (begun.append(batch[1]), real(self, *batch)))
    first = training.train(large, pictures, recipe, tmp_path / "a", progress=False)
    assert begun == [2 if kind == "free" else 1, 4 if kind == "free" else 2]  # updates before batches 2 and 3
    monkeypatch.setattr(prefetch.Prefetcher, "begin", lambda *_: None)
    second = training.train(large, pictures, recipe, tmp_path / "b", progress=False)
    assert_same_weights(first, second)


def test_clipped_gradients_move_the_weights_as_far_as_the_clip_allows(tiny, images, recipe, tmp_path):
    plain = changed(recipe, epochs=1, optimizer="momentum", momentum=0.0, weight_decay=0.0, lr=0.1, validation=0)
    clip = 1e-4
    clipped = changed(plain, clip=clip, schedule=Schedule(kind="steps"))
    before = {key: value.clone() for key, value in initial_state(tiny, plain, World()).network.named_parameters()}
    lengths = []
    for name, chosen in (("plain", plain), ("clipped", clipped)):
        after = dict(training.train(tiny, images, chosen, tmp_path / name, progress=False).named_parameters())
        lengths.append(float(sum((after[key] - value).detach().square().sum() for key, value in before.items()).sqrt()))
    assert lengths[0] > 100 * lengths[1]
    assert 0.5 * clip * 0.1 < lengths[1] <= 3 * clip * 0.1 * 1.01  # three updates, each of the clip times the rate
