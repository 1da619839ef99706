"""`robnet-zoo reproduce`: the paper's tables and figures, from data to trained weights to measured table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from robnet_zoo.cli.overrides import merged, partial
from robnet_zoo.cli.parameters import Json, OptionalOutput, Output, Quiet, fail, remark
from robnet_zoo.cli.starting import starting
from robnet_zoo.reproduce.scale import FULL, Scale, load_scale

if TYPE_CHECKING:
    from robnet_zoo.reproduce.jobs import AgendaLine
    from robnet_zoo.reproduce.reproduction import Reproduction
    from robnet_zoo.reproduce.result import ReproductionResult

reproduce = App(
    name="reproduce", help="Reproduce the paper's tables and figures, from data to trained weights to measured table."
)
ScaleOverrides = partial(Scale)


@reproduce.default
def run(
    plan: str,
    *,
    data: Annotated[list[str] | None, Parameter(negative=())] = None,
    test: Annotated[list[str] | None, Parameter(negative=())] = None,
    output: OptionalOutput = None,
    scale: str = FULL,
    seeds: Annotated[list[int] | None, Parameter(negative=())] = None,
    rows: Annotated[list[str] | None, Parameter(negative=())] = None,
    beside: Annotated[list[str] | None, Parameter(negative=())] = None,
    agenda: Annotated[bool, Parameter(negative=())] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    overrides: Annotated[ScaleOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Train and measure what a table or figure of the paper needs.

    After an interruption, the same command resumes. Started twice at once, it shares the work. Models that another plan
    has trained in the same folder are used again.

    Args:
        plan: A plan, by bundled name (`robnet-zoo plans` lists them), such as table1, or by path.
        data: Training images, as for `train`; several times for several data sets, in the plan's order (table3: svhn,
            cifar100, tiny-imagenet). Required.
        test: Images to measure on, as for `benchmark`, in the same order. Required except for --agenda, which counts
            the training images without it.
        output: A folder for trained models, results, the document of the whole and its report. Required.
        scale: A scale, by bundled name (full, small) or path. Its fields are flags, which override it.
        seeds: The seeds of the trainings; by default 0.
        rows: Only these rows, by the paper's names, such as "ResNet-18".
        beside: Further models to measure as they are, named as for `benchmark`.
        agenda: Only print what would be trained and measured, what is there already, and how long the rest takes.
    """
    from robnet_zoo.reproduce.plan import load_plan

    chosen = load_plan(plan) if rows is None else load_plan(plan).with_rows(rows)
    test = data if agenda and not test else test
    if not data or not test or output is None:
        given = {"--data": data, "--test": test, "--output": output}
        fail(f"expected {', '.join(flag for flag, value in given.items() if not value)} for {chosen.name}, got none")
    if len(data) != len(test):
        fail(f"--data, --test: expected equally many of both, got {len(data)} and {len(test)}")
    bundled = load_scale(scale)
    size = merged(bundled, overrides)
    if size != bundled:
        size = size.model_copy(update={"name": f"own-{size.fingerprint}"})
    with starting(shown=not (quiet or as_json)):
        from robnet_zoo.reports.reproduce import write
        from robnet_zoo.reproduce.reproduction import Reproduction, Source

        sources = [Source(*pair) for pair in zip(data, test, strict=True)]
        work = Reproduction(chosen, sources, output, scale=size, seeds=seeds or [0], beside=beside or [])
        listed = work.agenda()
    if agenda:
        print(_agenda_as_json(work, listed) if as_json else _agenda(work, listed))
        return
    if not as_json and not quiet:
        print(_agenda(work, listed), flush=True)
    result = work.run(progress=not quiet)
    for note in work.notes:
        remark(note)
    page = work.document.with_suffix(".html")
    write(result, page)
    if as_json or not quiet:
        print(result.dumps() if as_json else _summary(result, page), end="")


@reproduce.command
def report(result: Path, *, output: Output, quiet: Quiet = False) -> None:
    """Write the report of a plan from its document.

    Args:
        result: The document that `reproduce` has left in its folder.
        output: The file to write: .html, .md or .csv.
    """
    with starting(shown=not quiet):
        from robnet_zoo.reports.reproduce import write
        from robnet_zoo.reproduce.result import ReproductionResult

        write(ReproductionResult.load(result), output)
    if not quiet:
        print(output)


def _agenda(work: Reproduction, agenda: list[AgendaLine]) -> str:
    from robnet_zoo.reproduce.reproduction import spell

    lines = [f"{work.plan.title}. {work.scale}"]
    for line in agenda:
        state = "there already" if line.done else f"about {spell(line.seconds)}"
        lines.append(f"  {line.job.verb:8} {line.job.name}: {state}")
    lines += [f"  measure  {name}, beside: not timed, as it is loaded only then" for name in work.beside]
    done = sum(line.done for line in agenda)
    left = sum(line.seconds for line in agenda)
    lines.append(f"{done} of {len(agenda)} there already; about {spell(left)} left, at the speed measured just now")
    return "\n".join(lines)


def _agenda_as_json(work: Reproduction, agenda: list[AgendaLine]) -> str:
    jobs = [
        {"verb": line.job.verb, "name": line.job.name, "done": line.done, "seconds": line.seconds} for line in agenda
    ]
    scale = work.scale.model_dump(mode="json")
    return json.dumps({"plan": work.plan.name, "scale": scale, "jobs": jobs, "beside": [*work.beside]}, indent=1)


def _summary(result: ReproductionResult, page: Path) -> str:
    from robnet_zoo.reports.markdown import table_lines
    from robnet_zoo.reports.reproduce import order, table

    lines = [
        line
        for part in result.parts
        for block in (table(result, part), order(result, part))
        for line in table_lines(block)
    ]
    return "\n".join([*lines, str(page)]) + "\n"
