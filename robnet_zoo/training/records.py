"""The records of a run: a live line, a CSV, TensorBoard events, and curves at the end."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from robnet_zoo.core.files import write_atomically
from robnet_zoo.core.progress import bar as progress_bar
from robnet_zoo.core.progress import sparkline
from robnet_zoo.training.recipe import Recipe
from robnet_zoo.training.state import HistoryRow, State
from robnet_zoo.training.validation import ATTACK

EVENTS_EVERY = 20  # steps, between TensorBoard's points of the loss
COLUMNS = ("epoch", "size", "loss", "clean", "robust", "hours")


class Records:
    """The records of a run, from its present state on.

    Args:
        folder: where to write them.
        recipe, state: of the run.
        steps: batches an epoch.
        begun: the share of the run's work that is done already.
        shown: whether to show a line.
        writes: whether this is the process that writes.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, state: State, *, steps: int, begun: float, shown: bool, writes: bool
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only here: every command would wait for it

        self.folder, self.recipe, self.begun = folder, recipe, begun
        self.events = SummaryWriter(str(folder / "tensorboard"), purge_step=state.updates + 1) if writes else None
        done = (state.epoch - 1) * steps + state.step
        self.bar = progress_bar(
            total=recipe.epochs * steps * recipe.batch, done=done * recipe.batch, shown=shown and writes, own_eta=True
        )
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        if self.events is not None:
            self.events.close()

    def step(self, state: State, loss: float, *, done: float) -> None:
        """Record a step.

        Args:
            state: of the run after it.
            loss: of the step.
            done: the share of the run's work that is now done.
        """
        self.bar.update(self.recipe.batch)
        left = (time.monotonic() - self.started) * (1 - done) / (done - self.begun)
        self.bar.set_postfix_str(self._line(state, left), refresh=False)
        if self.events is not None and state.step % EVENTS_EVERY == 0:
            self.events.add_scalar("training/loss", loss, state.updates)
            self.events.add_scalar("training/lr", state.optimizer.param_groups[0]["lr"], state.updates)

    def _line(self, state: State, left: float) -> str:
        parts = [f"epoch {state.epoch}/{self.recipe.epochs}", f"loss {state.loss / state.step:.3f}"]
        if state.history and "clean" in state.history[-1]:
            parts += [f"{name} {state.history[-1][name]:.1%}" for name in ("clean", "robust")]
            parts[-1] += f" {sparkline([row['robust'] for row in state.history if 'robust' in row])}"
        if state.rescued:
            parts.append("guarded by PGD")
        return ", ".join([*parts, f"{_duration(left)} left"])

    def epoch(self, state: State) -> None:
        """Record an epoch, which the history of the state holds."""
        write_csv(self.folder / "history.csv", state.history)
        assert self.events is not None
        for name, value in state.history[-1].items():
            if name not in ("epoch", "hours"):
                self.events.add_scalar(f"epoch/{name}", value, state.updates)
        self.events.flush()

    def finish(self, state: State, name: str) -> None:
        """Draw the curves of a run that is over. name: of its architecture."""
        draw_curves(state.history, self.folder / "curves.png", title=f"{name}, {self.recipe.name}")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def write_csv(path: Path, history: list[HistoryRow]) -> None:
    """Write the epochs of a run as a CSV, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue().encode())


def draw_curves(history: list[HistoryRow], path: Path, *, title: str) -> None:
    """Draw loss and accuracies on validation images by epoch.

    Args:
        history: a row an epoch.
        path: the PNG to write.
        title: of the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    losses.plot(epochs, [row["loss"] for row in history], color="0.2", marker=".")
    losses.set(xlabel="epoch", ylabel="training loss", title=title)
    for name, colour in (("clean", "tab:blue"), ("robust", "tab:red")):
        measured = [row for row in history if name in row]
        accuracies.plot(
            [row["epoch"] for row in measured],
            [100 * row[name] for row in measured],
            color=colour,
            marker=".",
            label="clean" if name == "clean" else ATTACK,
        )
    accuracies.set(xlabel="epoch", ylabel="validation accuracy, %", ylim=(0, 100))
    accuracies.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(path, picture.getvalue())
