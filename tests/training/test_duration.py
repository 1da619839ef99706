"""How long a run will take: by a clock that runs with the work, so that the answer is known."""

import pytest

from robnet_zoo import training
from robnet_zoo.errors import DataError, DocumentError, TrainingError
from robnet_zoo.training import Guard, Recipe, Stage, TrainingAttack, TrainingEstimate, duration
from robnet_zoo.training.updates import Updates

SMALL, WHOLE = 16, 32  # pixels a side


@pytest.fixture
def clock(monkeypatch):
    """Return a clock: an update moves it on by a second a pixel a side, a measurement by its passes."""
    now = [0.0]

    def step(self: Updates, images, labels) -> float:
        now[0] += self.size + 1e4 * (self.state.step == 0)  # the first update of several warms up
        return 1.0

    def validate(network, images, recipe, world, *, size, steps, generator) -> dict[str, float]:
        now[0] += 0.1 * size * len(images) * (2 + 3 * steps)
        return {}

    monkeypatch.setattr(Updates, "_step", step)
    monkeypatch.setattr(duration, "validate", validate)
    monkeypatch.setattr(duration.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def staged() -> Recipe:
    """Return a recipe of two epochs of small images and three of whole ones, three updates each, and a guard."""
    return Recipe(
        name="staged",
        epochs=5,
        batch=32,
        attack=TrainingAttack(steps=1),
        stages=(Stage(size=SMALL, epochs=2),),
        guard=Guard(updates=6, images=4, steps=20),
        validation=8,
    )


def test_hours_are_those_of_all_updates_and_of_all_measurements(clock, tiny, images, staged):
    estimate = training.estimate(tiny, images, staged, updates=2, progress=False)
    for stage, size, epochs in zip(estimate.stages, (SMALL, WHOLE), (2, 3), strict=True):
        updates, validation, guard = 3 * size, 0.1 * size * 8 * (2 + 3 * 10), 0.1 * size * 4 * (2 + 3 * 20)
        assert (stage.size, stage.epochs) == (size, epochs)
        assert stage.images_per_second == pytest.approx(32 / size, rel=1e-3)
        assert stage.hours == pytest.approx(epochs * (updates + validation + guard * 3 / 6) / 3600, abs=1e-4)
    assert estimate.hours == sum(stage.hours for stage in estimate.stages) > 0
    assert (estimate.images, estimate.recipe) == (108, staged)


def test_a_run_that_measures_nothing_is_its_updates(clock, tiny, images, recipe):
    unmeasured = recipe.model_copy(update={"validation": 0})
    (stage,) = training.estimate(tiny, images, unmeasured, progress=False).stages
    assert stage.hours == pytest.approx(3 * 3 * WHOLE / 3600, abs=1e-4)


def test_a_size_that_comes_back_is_one_line(clock, tiny, images, staged):
    there_and_back = (Stage(size=SMALL, epochs=1), Stage(size=WHOLE, epochs=2), Stage(size=SMALL, epochs=1))
    estimate = training.estimate(tiny, images, staged.model_copy(update={"stages": there_and_back}), progress=False)
    assert [(stage.size, stage.epochs) for stage in estimate.stages] == [(SMALL, 2), (WHOLE, 3)]
    assert [stage.images_per_second for stage in estimate.stages] == [32 / SMALL, 32 / WHOLE]


def test_nothing_is_written_and_the_document_is_read_back(tiny, images, staged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimate = training.estimate(tiny, images, staged, updates=1, progress=False)
    assert not list(tmp_path.iterdir())
    assert all(stage.images_per_second > 0 for stage in estimate.stages)
    estimate.save(tmp_path / "estimate.json")
    assert TrainingEstimate.load(tmp_path / "estimate.json") == estimate
    text = duration.table(estimate)
    assert f"| {SMALL} | 2 | {estimate.stages[0].images_per_second:.1f} |" in text
    assert f"| together | 5 | | {estimate.hours:.1f} |" in text


def test_what_cannot_be_trained_cannot_be_estimated(tiny, images, recipe):
    with pytest.raises(TrainingError, match="updates: expected at least 1, got 0"):
        training.estimate(tiny, images, recipe, updates=0)
    with pytest.raises(TrainingError, match="expected at least one batch of 200"):
        training.estimate(tiny, images, recipe.model_copy(update={"batch": 200}))
    with pytest.raises(DataError):
        training.estimate(tiny, images[:5], recipe)


def test_a_name_is_not_a_recipe(tiny, images):
    with pytest.raises(DocumentError, match=r'^recipe: expected a Recipe, got "paper"$'):
        training.estimate(tiny, images, "paper", progress=False)


@pytest.mark.parametrize(("share", "epochs"), [(1.001, 5), (0.999, 4), (2.001, 10), (0.3, 1)])
def test_as_many_epochs_fit_as_their_minutes_allow(clock, tiny, images, staged, share, epochs):
    """What the estimate itself takes counts too; the shape of the run stays."""
    whole = training.estimate(tiny, images, staged, progress=False)
    clock[0] = 0.0
    training.estimate(tiny, images, staged, progress=False)
    minutes = (clock[0] / 60 + share * 60 * whole.hours) / duration.CAUTION
    assert training.within_minutes(tiny, images, staged, minutes, progress=False) == staged.lasting(epochs)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_minutes_are_a_time(tiny, images, staged, minutes):
    with pytest.raises(TrainingError, match=r"minutes: expected more than 0"):
        training.within_minutes(tiny, images, staged, minutes)


def test_too_few_minutes_for_an_epoch_are_refused_with_those_that_would_do(clock, tiny, images, staged):
    expected = r"minutes: expected at least \d+ for an epoch of \d+ images here, got 1;"
    with pytest.raises(TrainingError, match=expected) as refused:
        training.within_minutes(tiny, images, staged, 1, progress=False)
    least = int(str(refused.value).split()[4])
    assert training.within_minutes(tiny, images, staged, least, progress=False).epochs == 1
    with pytest.raises(TrainingError):
        training.within_minutes(tiny, images, staged, least - 1, progress=False)
