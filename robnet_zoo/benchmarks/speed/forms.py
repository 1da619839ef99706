"""Images a second of a spec's forms, side by side in one run: `python -m robnet_zoo.benchmarks.speed.forms`.

The forms take turns, round after round, so that a drift of the machine's speed reaches them all; a figure is the
median of the rounds. Work: `forward` without gradients; `gradient`, the loss's gradient with respect to the images;
`training`, forward and backward to all parameters and one SGD step.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.speed.naive import naive
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.timing import in_turns
from robnet_zoo.core.wording import counted
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile, for_inference, for_training
from robnet_zoo.nn.network import Network

Work = Literal["forward", "gradient", "training"]
Case = tuple[str, Work]  # (form, work)
WORKS: tuple[Work, ...] = get_args(Work)


class FormSpeed(Document):
    """One form doing one kind of work."""

    form: str
    work: Work
    images_per_second: float
    ratio: Annotated[float, Field(description="to the naive form in float32, same work")]


class SpeedResult(Document):
    """A results document of this benchmark."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    spec: str
    spec_hash: str
    batch: int
    rounds: int
    device: str
    software: dict[str, str]
    rows: Tuple[FormSpeed]


DTYPES = (torch.float32, torch.bfloat16)


def measure(spec: Genotype, *, batch: int = 32, rounds: int = 5) -> SpeedResult:
    """Time the naive, compiled, inference and training forms of a spec on this machine's CPU.

    Args:
        spec: the architecture.
        batch: images at once.
        rounds: how often each form is timed.
    """
    images, labels = random_batch(spec, batch, torch.Generator().manual_seed(0))
    cases = _cases(spec, images, labels)
    times = in_turns(cases, rounds=rounds)
    speeds = {case: batch / statistics.median(seconds) for case, seconds in times.items()}
    return SpeedResult(
        spec=spec.name,
        spec_hash=spec.hash,
        batch=batch,
        rounds=rounds,
        device=device(),
        software=software(),
        rows=tuple(
            FormSpeed(
                form=form,
                work=work,
                images_per_second=round(speed, 2),
                ratio=round(speed / speeds["naive float32", work], 2),
            )
            for (form, work), speed in speeds.items()
        ),
    )


def random_batch(spec: Genotype, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return noise of the size of a spec's images, (N, C, H, W), with labels, (N,).

    Args:
        spec: the architecture.
        batch: N.
        generator: draws both.
    """
    images = torch.rand(batch, *spec.network.input_size, generator=generator)
    return images, torch.randint(0, spec.network.num_classes, (batch,), generator=generator)


def _cases(spec: Genotype, images: Tensor, labels: Tensor) -> dict[Case, Callable[[], object]]:
    network = with_statistics(compile(spec), images)
    cases: dict[Case, Callable[[], object]] = {}
    for dtype in DTYPES:
        kind = str(dtype).removeprefix("torch.")
        forms: dict[str, nn.Module] = {
            f"naive {kind}": _autocast(naive(copy.deepcopy(network), spec), dtype),
            f"compiled {kind}": _autocast(network, dtype),
            f"inference {kind}": for_inference(network, dtype=dtype),
        }
        for name, form in forms.items():
            cases[name, "forward"] = partial(forward, form, images)
            cases[name, "gradient"] = partial(input_gradient, form, images, labels)
        for name in (f"naive {kind}", f"compiled {kind}"):
            cases[name, "training"] = partial(_training_step, forms[name], images, labels)
        form = for_training(copy.deepcopy(network), dtype=dtype)
        cases[f"training {kind}", "training"] = partial(_training_step, form, images, labels)
    return cases


def with_statistics(network: Network, images: Tensor) -> Network:
    """Let the batch norms see the images once, so that activations have the size of a trained network's.

    With the initial statistics they shrink from cell to cell into denormal numbers, which processors compute slowly.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def _autocast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return model if dtype == torch.float32 else _Autocast(model, dtype)


class _Autocast(nn.Module):
    """A model in mixed precision, as a user would run it without an inference form."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", self.dtype):
            return self.model(x).float()


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, (N, K), without gradients."""
    return model(images)


def _training_step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()
    model.eval()


def table(result: SpeedResult) -> str:
    """Return the result as a Markdown table.

    Cells are images a second, and in brackets the ratio to the naive form in float32.
    """
    forms = list(dict.fromkeys(row.form for row in result.rows))
    cells = {(row.form, row.work): f"{row.images_per_second:.1f} ({row.ratio:.2f}x)" for row in result.rows}
    lines = [
        f"{result.spec}, batch {result.batch}, {result.device}, median of {counted(result.rounds, 'round')}",
        "",
        "| form | forward | input gradient | training step |",
        "|---|---|---|---|",
    ]
    lines += [f"| {form} | " + " | ".join(cells.get((form, work), "") for work in WORKS) + " |" for form in forms]
    return "\n".join(lines)


def main(spec: str = "robnet_free", *, batch: int = 32, rounds: int = 5, output: Path | None = None) -> None:
    """Time the forms of a spec and print the table.

    Args:
        spec: A bundled spec or the path of one.
        batch: Images at once.
        rounds: How often each form is timed.
        output: Where the results document is saved, if anywhere.
    """
    result = measure(load_spec(spec), batch=batch, rounds=rounds)
    print(table(result))
    if output is not None:
        result.save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
