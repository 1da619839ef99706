"""What a run shows of itself: a live line, a CSV, TensorBoard events, and at the end curves and a model card."""

from __future__ import annotations

import csv
import io
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import torch

from robnet_zoo import environment
from robnet_zoo.architecture import Architecture, costs, document_name
from robnet_zoo.data import Images
from robnet_zoo.documents import write_atomically
from robnet_zoo.progress import bar as progress_bar
from robnet_zoo.training.recipe import Recipe, load_recipe, recipe_names
from robnet_zoo.training.state import Row, State
from robnet_zoo.version import __version__
from robnet_zoo.weights import sha256

EVENTS_EVERY = 20  # steps, between TensorBoard's points of the loss
COLUMNS = ("epoch", "size", "loss", "clean", "robust", "hours")


class Records:
    """The records of a run, from the state on that it starts with.

    steps: an epoch. begun: the share of the run's work that is over already. writes: whether this process does.
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
        """One more step is over, and with it the share `done` of the run's work."""
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
        if state.rescued:
            parts.append("guarded by PGD")
        return ", ".join([*parts, f"{_duration(left)} left"])

    def epoch(self, state: State) -> None:
        """One more epoch is over, and in the state's history."""
        write_csv(self.folder / "history.csv", state.history)
        assert self.events is not None
        for name, value in state.history[-1].items():
            if name not in ("epoch", "hours"):
                self.events.add_scalar(f"epoch/{name}", value, state.updates)
        self.events.flush()

    def finish(self, state: State, spec: Architecture, card: str) -> None:
        """The run is over: draw its curves and write its model card."""
        draw_curves(state.history, self.folder / "curves.png", title=f"{spec.name}, {self.recipe.name}")
        write_atomically(self.folder / "README.md", card.encode())


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def write_csv(path: Path, history: list[Row]) -> None:
    """The epochs of a run as a CSV, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="raise", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue().encode())


def draw_curves(history: list[Row], path: Path, *, title: str) -> None:
    """Loss, and accuracies on validation images, by epoch, as a PNG."""
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
            label="clean" if name == "clean" else "PGD-10",
        )
    accuracies.set(xlabel="epoch", ylabel="validation accuracy, %", ylim=(0, 100))
    accuracies.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(path, picture.getvalue())


def model_card(
    spec: Architecture,
    recipe: Recipe,
    training: Images,
    history: list[Row],
    *,
    validated: int,
    device: torch.device,
    weights: Path | None,
) -> str:
    """What was trained, on what, how, for how long, and what the held-out images say, in Markdown.

    validated: how many images were held out to be measured. weights: the file that the run began with, if it did.
    """
    last, cost = history[-1], costs(spec)
    chosen = last
    if recipe.select == "best":
        chosen = max((row for row in history if row["size"] == last["size"]), key=lambda row: row["robust"])
    bundled = recipe.name in recipe_names() and load_recipe(recipe.name) == recipe
    lines = [
        f"# {spec.name}, trained by the recipe `{recipe.name}`" + ("" if bundled else " as `recipe.json` has it"),
        "",
        recipe.description if bundled else "The recipe is none of those that the package brings.",
        "",
        f"- architecture: `{spec.name}`, hash `{spec.hash[:12]}`, {cost.parameters:,} parameters, "
        f"{cost.multiply_adds / 1e6:,.1f} M multiply-adds an image",
        *([] if weights is None else [f"- begun with {weights.name} (sha256 `{sha256(weights)[:12]}`)"]),
        f"- trained on: the first {len(training):,} images of {training.name} (sha256 `{training.sha256[:12]}`); the "
        "tenth after them was held out",
        f"- attack while training: `{recipe.attack.kind}`, eps {recipe.attack.eps}, {recipe.attack.steps} steps of "
        f"{recipe.attack.step}",
        f"- {recipe.epochs} epochs, batch {recipe.batch}, seed {recipe.seed}; {last['hours']:.2f} hours on "
        f"{environment.device(device)}, {os.environ.get('WORLD_SIZE', '1')} processes, torch {torch.__version__}, "
        f"robnet_zoo {__version__}",
    ]
    if "clean" in chosen:
        lines.append(
            f"- {validated} held-out images after epoch {chosen['epoch']:.0f}, whose weights these are: "
            f"{chosen['clean']:.1%} clean, {chosen['robust']:.1%} under PGD-10 at {recipe.attack.eps}"
        )
    lines += [
        "",
        "Held-out images are for choosing, not for reporting: measure test images with",
        "`robnet-zoo benchmark THIS_FOLDER --data TEST_IMAGES --protocol table1`.",
        "",
        "![curves](curves.png)",
        "",
        f"The recipe in full is `recipe.json`, the architecture `{document_name(spec)}`, every epoch a line of",
        "`history.csv`.",
    ]
    return "\n".join(lines) + "\n"
