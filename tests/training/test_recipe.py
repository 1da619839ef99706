"""Recipes: the bundled ones are what their sources say, and what cannot be is refused with its place."""

import pytest

from robnet_zoo.errors import DocumentError
from robnet_zoo.training import Distillation, Recipe, Stage, load_recipe, recipe_names

SHORT = {"name": "short", "epochs": 4}


TABLE_5 = {  # of the paper: epochs, and the learning rate, which falls tenfold at two of them
    "paper": (200, [(0, 0.1), (99.9, 0.1), (100, 0.01), (149.9, 0.01), (150, 0.001), (199.9, 0.001)]),
    "paper_svhn": (200, [(0, 0.01), (99.9, 0.01), (100, 0.001), (150, 0.0001)]),
    "paper_tiny_imagenet": (90, [(0, 0.1), (29.9, 0.1), (30, 0.01), (60, 0.001)]),
}


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("paper")])
def test_the_papers_recipes_are_those_of_its_table(name):
    (epochs, lr), recipe = TABLE_5[name], load_recipe(name)
    assert (recipe.epochs, recipe.momentum, recipe.optimizer) == (epochs, 0.9, "momentum")
    assert (recipe.attack.kind, recipe.attack.steps) == ("pgd", 7)
    assert recipe.attack.eps_value == 8 / 255
    assert recipe.attack.step_value == 2 / 255
    for epoch, expected in lr:
        assert recipe.lr_at(epoch, 32) == pytest.approx(expected)


def test_the_originals_schedule_warms_up_for_20_epochs_and_ends_at_a_thousandth():
    recipe = load_recipe("original")
    assert (recipe.epochs, recipe.batch, recipe.weight_decay) == (170, 1536, 1e-4)
    assert recipe.lr_at(0, 32) == pytest.approx(0.02, rel=1e-4)
    assert recipe.lr_at(10, 32) == pytest.approx(0.61, rel=1e-3)  # half way from 0.02 to 1.2
    assert recipe.lr_at(20, 32) == pytest.approx(1.2, rel=1e-4)
    assert recipe.lr_at(95, 32) == pytest.approx((1.2 + 0.001) / 2, rel=1e-3)  # half way down a cosine
    assert recipe.lr_at(170, 32) == pytest.approx(0.001, rel=1e-4)


def test_free_training_on_imagenet_has_four_replays_of_4_255():
    attack = load_recipe("free_imagenet").attack
    assert (attack.kind, attack.steps, attack.eps, attack.step) == ("free", 4, "4/255", "4/255")


def test_fast_is_one_noisy_step_on_growing_images_with_all_that_steadies_it():
    recipe = load_recipe("fast")
    assert (recipe.attack.kind, recipe.attack.steps, recipe.attack.eps, recipe.attack.step) == (
        "n_fgsm",
        1,
        "8/255",
        "8/255",
    )
    assert [recipe.size_at(epoch, 32) for epoch in range(1, recipe.epochs + 1)] == [16, 16, 16, 24, 32]
    assert recipe.objective.label_smoothing > 0
    assert recipe.ema > 0
    assert recipe.guard is not None
    assert recipe.validation >= recipe.guard.images
    assert recipe.dtype == recipe.attack.dtype == "bfloat16"


def test_trades_is_that_of_its_paper_on_cifar10():
    recipe = load_recipe("trades")
    assert (recipe.objective.kind, recipe.objective.beta) == ("trades", 6.0)
    assert (recipe.attack.loss, recipe.attack.steps, recipe.attack.step) == ("kl", 10, "2/255")
    assert [recipe.lr_at(epoch, 32) for epoch in (0, 74, 75, 90)] == pytest.approx([0.1, 0.1, 0.01, 0.001])


def test_original_large_is_original_with_cutout():
    plain, large = load_recipe("original"), load_recipe("original_large")
    assert (plain.augmentation.cutout, large.augmentation.cutout) == (0, 16)
    assert (large.epochs, large.batch, large.lr, large.schedule) == (
        plain.epochs,
        plain.batch,
        plain.lr,
        plain.schedule,
    )


def test_stages_give_the_sizes_and_the_clock_counts_pixels():
    recipe = Recipe(name="s", epochs=4, stages=(Stage(size=16, epochs=2), Stage(size=24, epochs=1)))
    assert [recipe.size_at(epoch, 32) for epoch in (1, 2, 3, 4)] == [16, 16, 24, 32]
    pixels = 2 * 16**2 + 24**2 + 32**2
    assert recipe.done(1.5, 32) == pytest.approx(1.5 * 16**2 / pixels)
    assert recipe.done(3.25, 32) == pytest.approx((2 * 16**2 + 24**2 + 0.25 * 32**2) / pixels)
    assert recipe.done(4, 32) == 1


@pytest.mark.parametrize("name", recipe_names())
@pytest.mark.parametrize("factor", [0.01, 0.15, 0.5, 3.0])
def test_a_recipe_keeps_its_shape_at_any_length(name, factor):
    recipe = load_recipe(name)
    epochs = max(1, round(factor * recipe.epochs))
    other = recipe.model_copy(update={"epochs": epochs})
    assert other == recipe.overridden({"epochs": epochs}) == recipe.lasting(epochs)
    assert other.epochs == epochs
    assert other.size_at(epochs, 32) == 32  # whole images at the end
    if recipe.stages:
        return  # their epochs are whole, so that the clock differs a little
    for share in (0, 0.1, 0.499, 0.501, 0.749, 0.751, 0.999):
        assert other.lr_at(share * epochs, 32) == pytest.approx(recipe.lr_at(share * recipe.epochs, 32))
        assert other.strength(share * epochs, 32) == pytest.approx(recipe.strength(share * recipe.epochs, 32))


def test_a_longer_or_shorter_run_grows_its_images_at_the_same_shares():
    fast = load_recipe("fast")  # 16, 16, 16, 24, 32
    sizes = {n: [fast.lasting(n).size_at(epoch, 32) for epoch in range(1, n + 1)] for n in (1, 2, 3, 10)}
    assert sizes == {1: [32], 2: [16, 32], 3: [16, 16, 32], 10: [16] * 6 + [24] * 2 + [32] * 2}
    whole = Recipe.parse(SHORT | {"stages": [{"size": 16, "epochs": 2}, {"size": 24, "epochs": 2}]})
    assert [(stage.size, stage.epochs) for stage in whole.lasting(2).stages] == [(16, 1), (24, 1)]


def test_what_is_given_beside_another_length_is_taken_as_it_is():
    steps = load_recipe("paper").overridden({"epochs": 30, "schedule": {"milestones": [10, 20]}})
    assert steps.schedule.milestones == (10, 20)
    linear = load_recipe("paper").overridden({"epochs": 30, "schedule": {"kind": "linear"}})
    assert linear.lr_at(15, 32) == pytest.approx(0.05)
    staged = load_recipe("fast").model_copy(update={"epochs": 3, "stages": (Stage(size=24, epochs=2),)})
    assert [staged.size_at(epoch, 32) for epoch in (1, 2, 3)] == [24, 24, 32]


def test_a_schedule_without_steps_ignores_milestones():
    late = Recipe.parse(SHORT | {"schedule": {"kind": "linear", "milestones": [100]}})
    assert late.schedule.falls == ()
    assert late.lr_at(2, 32) == pytest.approx(0.05)


@pytest.mark.parametrize("epochs", [0, -1, 2.5, True, "30", None, 10**400])
def test_a_length_that_cannot_be_is_refused(epochs):
    with pytest.raises(DocumentError, match=r"^epochs: expected (an integer|at least 1|at most 1000000), got "):
        load_recipe("paper").model_copy(update={"epochs": epochs})


def test_eps_grows_over_its_share_of_the_run():
    recipe = Recipe.parse(SHORT | {"eps_warmup": 0.5})
    assert [recipe.strength(epochs, 32) for epochs in (0, 1, 2, 3)] == [0, 0.5, 1, 1]
    assert Recipe.parse(SHORT).strength(0, 32) == 1
    after = Recipe.parse(SHORT | {"standard": 0.25, "eps_warmup": 0.5})
    assert [after.strength(epochs, 32) for epochs in (0, 0.5, 1, 2, 3, 4)] == [0, 0, 0, 0.5, 1, 1]
    assert [Recipe.parse(SHORT | {"standard": 0.25}).strength(epochs, 32) for epochs in (0.9, 1)] == [0, 1]


def test_distillation_is_annealed_along_half_a_cosine_as_in_its_paper():
    at = [Distillation().at(done) for done in (0, 0.25, 0.5, 1)]
    assert [share for share, _ in at] == pytest.approx([0.7, 0.95 - 0.25 * (2 + 2**0.5) / 4, 0.825, 0.95])
    assert [temperature for _, temperature in at] == pytest.approx([2, 1 + (2 + 2**0.5) / 4, 1.5, 1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [{"size": 16, "epochs": 5}]}, "stages: expected no more than the run's 4 epochs, got 5"),
        ({"optimizer": "sdg"}, "optimizer: unknown optimizer 'sdg'.*sgd"),
        (
            {"schedule": {"kind": "steps", "milestones": [3, 9]}},
            "schedule.milestones: expected epochs of the run's 4, got 9; .* --epochs or model_copy",
        ),
        ({"attack": {"kind": "n_fgsm", "steps": 2}}, "attack.steps: expected 1 for n_fgsm, got 2"),
        ({"attack": {"kind": "fgsm_pgi", "steps": 7}}, "attack.steps: expected 1 for fgsm_pgi, got 7"),
        ({"attack": {"kind": "fgsm_pgi", "steps": 1, "eps": "0"}}, "attack.eps: expected more than 0 for fgsm_pgi"),
        ({"attack": {"momentum": 0.3}}, "attack.momentum: expected 0 for pgd, got 0.3"),
        ({"objective": {"tie": 10.0}}, "objective.tie: expected 0 for pgd, got 10"),
        (
            {"objective": {"tie": 10.0}, "attack": {"kind": "fgsm_pgi", "steps": 1}},
            "attack.statistics: expected batch for objective.tie, got running",
        ),
        ({"objective": {"distillation": {}}}, "ema: expected more than 0 for distillation"),
        ({"standard": 0.5, "eps_warmup": 0.6}, "eps_warmup: expected at most 0.5, what the standard training leaves"),
        ({"attack": {"kind": "free", "steps": 0}}, "attack.steps: expected at least 1 for free, got 0"),
        ({"attack": {"loss": "kl"}}, "attack.loss: expected cross_entropy except for trades, got kl"),
        ({"objective": {"kind": "trades"}, "attack": {"kind": "free"}}, "attack.kind: expected pgd for trades"),
        ({"guard": {"images": 600}}, "guard.images: expected at most the 500 validation images"),
        ({"select": "best", "validation": 0}, "select: expected last, as no validation images are measured"),
        ({"attack": {"eps": "8 / 255"}}, "attack.eps: expected a fraction such as 8/255 or a number such as 0.03"),
        (
            {"attack": {"eps": "8"}},
            r"attack.eps: expected at most 1, the range of a pixel, got 8, did you mean 8/255\?",
        ),
        ({"attack": {"step": 255}}, "attack.step: expected at most 1, the range of a pixel, got 255$"),
        ({"epoch": 3}, 'unknown key "epoch", did you mean .epochs.'),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(changes, message):
    with pytest.raises(DocumentError, match=message):
        Recipe.parse(SHORT | changes)
