"""Input gradients a second by how threads wait, idle and loaded: `python -m robnet_zoo.benchmarks.speed.threads`.

Each setting is a process of its own, since torch reads it once, and serves all rounds. In a round the settings take
turns at the same work beside the same load, so that a drift of the machine's speed reaches them all; a figure is the
median of the rounds. Loads: an idle machine; one busy process; and two busy processes a core. They are started by the
benchmark, so nothing else should run. Each process takes up to 2 GB.
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Annotated, Literal, get_args

import torch
from tqdm import tqdm

from robnet_zoo.attacks.gradient import input_gradient
from robnet_zoo.benchmarks.speed.forms import random_batch, with_statistics
from robnet_zoo.core.documents import Document, Tuple, exactly
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.precision import resolve_dtype
from robnet_zoo.core.threads import CHOICES
from robnet_zoo.core.wording import counted
from robnet_zoo.genotype.specs import load_spec
from robnet_zoo.nn.compiler import compile, for_inference

Load = Literal["idle", "one busy process", "two busy processes a core"]
DEFAULT = "default"
SETTINGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        DEFAULT: {},
        **{f"GOMP_SPINCOUNT={count}": {"GOMP_SPINCOUNT": str(count)} for count in (50_000, 20_000, 5_000, 1_000)},
        "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
        "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1"},
    }
)
WORKS = (("robnet_micro", 8), ("robnet_free", 32))  # (spec, images a batch)
COST = 0.03  # of an idle machine's speed: what a setting may cost to be chosen
READY = "ready"


class WaitingSpeed(Document):
    """One setting at one work beside one load.

    images_per_second: the median of the rounds. rounds: what each measured. limited: a single gradient took longer than
    the limit, and the figure is an upper bound.
    """

    setting: str
    spec: str
    batch: int
    beside: Load
    images_per_second: float
    rounds: Tuple[float]
    limited: bool = False


class ThreadsResult(Document):
    """A results document of this benchmark. seconds: the least that is timed at once. limit: the most, in seconds."""

    schema_version: Annotated[Literal[1], exactly(1)] = 1
    rounds: int
    seconds: float
    limit: float
    cores: int
    device: str
    software: dict[str, str]
    speeds: Tuple[WaitingSpeed]


def measure(
    works: Sequence[tuple[str, int]] = WORKS,
    *,
    settings: Mapping[str, Mapping[str, str]] = SETTINGS,
    rounds: int = 3,
    seconds: float = 1.5,
    limit: float = 20.0,
) -> ThreadsResult:
    """Time every setting at every work beside every load.

    Args:
        works: bundled names or paths of specs, and the images of a batch.
        settings: environment variables by the name of the setting; those of `core.threads.CHOICES` are else unset.
        rounds: how often each is timed.
        seconds: how long at least.
        limit: in seconds; a setting that makes no gradient in this time is not timed again beside that load.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    loads: dict[Load, int] = dict(zip(get_args(Load), (0, 1, 2 * cores), strict=True))  # busy processes
    speeds: dict[tuple[str, str, int, Load], list[float]] = {}
    limited = set()
    with ExitStack() as stack:
        servers = {name: stack.enter_context(_server(works, settings[name])) for name in settings}
        turns = [(work, load) for _ in range(rounds) for load in loads for work in range(len(works))]
        for work, load in tqdm(turns, unit=" turns"):
            for setting, server in servers.items():
                case = (setting, *works[work], load)
                if case in limited:
                    continue
                with _busy(loads[load]):
                    answer = server.ask(work, seconds, limit)
                speed = works[work][1] / limit if answer is None else answer
                speeds.setdefault(case, []).append(round(speed, 3))
                if answer is None:
                    limited.add(case)
                    server.wait()  # until it has finished, now that the load is gone
    return ThreadsResult(
        rounds=rounds,
        seconds=seconds,
        limit=limit,
        cores=cores,
        device=device(),
        software=software(),
        speeds=tuple(
            WaitingSpeed(
                setting=case[0],
                spec=case[1],
                batch=case[2],
                beside=case[3],
                images_per_second=round(statistics.median(measured), 3),
                rounds=tuple(measured),
                limited=case in limited,
            )
            for case, measured in speeds.items()
        ),
    )


class _Server:
    """A process with one setting that times gradients when it is asked to."""

    def __init__(self, answers: IO[str], questions: IO[str]) -> None:
        self._answers, self._questions = answers, questions

    def ask(self, work: int, seconds: float, limit: float) -> float | None:
        """Return the images a second that a work gets through, or None if the answer does not come in time.

        Args:
            work: its number.
            seconds: how long it is measured.
            limit: how many seconds later the answer may come.
        """
        print(work, seconds, file=self._questions, flush=True)
        ready, _, _ = select.select([self._answers], [], [], seconds + limit)
        return float(self._answers.readline()) if ready else None

    def wait(self) -> None:
        """Wait for an answer and drop it."""
        self._answers.readline()


@contextmanager
def _server(works: Sequence[tuple[str, int]], setting: Mapping[str, str]) -> Iterator[_Server]:
    own = {name: value for name, value in os.environ.items() if name not in CHOICES} | dict(setting)
    code = f"from robnet_zoo.benchmarks.speed.threads import serve; serve({list(works)!r})"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().strip() == READY, "a process of the benchmark did not start"
            yield _Server(process.stdout, process.stdin)
        finally:
            process.kill()


@contextmanager
def _busy(count: int) -> Iterator[None]:
    """Keep so many processes busy."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    if count:
        time.sleep(0.2)  # until they are
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def serve(works: Sequence[tuple[str, int]]) -> None:
    """Answer each line `work seconds` of the standard input with images a second."""
    generator = torch.Generator().manual_seed(0)
    prepared = []
    for name, batch in works:
        spec = load_spec(name)
        images, labels = random_batch(spec, batch, generator)
        form = for_inference(with_statistics(compile(spec), images), dtype=resolve_dtype("bfloat16"))
        input_gradient(form, images, labels)  # warms up
        prepared.append((form, images, labels))
    print(READY, flush=True)
    for line in sys.stdin:
        work, seconds = line.split()
        form, images, labels = prepared[int(work)]
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < float(seconds):
            input_gradient(form, images, labels)
            count += 1
        print(count * len(images) / elapsed, flush=True)


def chosen(result: ThreadsResult) -> str:
    """Return the setting to take: the fastest beside loads of those that cost an idle machine at most COST.

    Fastest is the highest geometric mean of the speeds beside each load, at each work. One thread is not considered,
    since sums depend on the number of threads.
    """
    speeds = {(row.setting, row.spec, row.beside): row.images_per_second for row in result.speeds}
    specs = {row.spec for row in result.speeds}
    settings = [name for name in dict.fromkeys(row.setting for row in result.speeds) if "NUM_THREADS" not in name]
    cheap = [
        name
        for name in settings
        if all(speeds[name, spec, "idle"] >= (1 - COST) * speeds[DEFAULT, spec, "idle"] for spec in specs)
    ]
    loaded = {
        name: [speed for (setting, _, load), speed in speeds.items() if setting == name and load != "idle"]
        for name in cheap
    }
    return max(cheap, key=lambda name: statistics.geometric_mean(loaded[name]))


def table(result: ThreadsResult) -> str:
    """Return the result as a Markdown table: images a second."""
    works = dict.fromkeys((row.spec, row.batch) for row in result.speeds)
    columns = [(*work, load) for work in works for load in get_args(Load)]
    cells = {
        (row.setting, row.spec, row.batch, row.beside): f"{'under ' * row.limited}{row.images_per_second:.1f}"
        for row in result.speeds
    }
    head = f"Images a second, {result.device}, median of {counted(result.rounds, 'round')}"
    lines = [head, "", "| setting | " + " | ".join(f"{spec}, batch {batch}: {load}" for spec, batch, load in columns)]
    lines[-1] += " |"
    lines.append("|---|" + "---:|" * len(columns))
    settings = dict.fromkeys(row.setting for row in result.speeds)
    lines += [f"| {name} | " + " | ".join(cells[name, *column] for column in columns) + " |" for name in settings]
    return "\n".join(lines)


def main(*, rounds: int = 3, seconds: float = 1.5, limit: float = 20.0, output: Path | None = None) -> None:
    """Time the settings, and print the table and the setting to take.

    Args:
        rounds: How often each setting is timed.
        seconds: How long at least.
        limit: A setting that makes no gradient in these seconds is not timed again beside that load.
        output: Where the results document is saved, if anywhere.
    """
    result = measure(rounds=rounds, seconds=seconds, limit=limit)
    print(table(result))
    print(f"\nto take: {chosen(result)}")
    if output is not None:
        result.save(output)


if __name__ == "__main__":
    import cyclopts

    cyclopts.run(main)
