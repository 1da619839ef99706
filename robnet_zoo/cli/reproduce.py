"""`robnet-zoo reproduce`: the paper's tables and figures, from data to trained weights to measured table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from robnet_zoo.cli.parameters import Json, Output, fail, merged, partial, show_bundled
from robnet_zoo.reproduce.scale import FULL, Scale, load_scale

if TYPE_CHECKING:
    from robnet_zoo.reproduce.result import Reproduced
    from robnet_zoo.reproduce.work import Reproduction

reproduce = App(
    name="reproduce", help="The paper's tables and figures, from data to trained weights to measured table."
)
ScaleOverrides = partial(Scale)


@reproduce.default
def run(
    plan: str,
    *,
    data: Annotated[list[str], Parameter(negative=())],
    test: Annotated[list[str], Parameter(negative=())],
    output: Output,
    scale: str = FULL,
    seeds: Annotated[list[int] | None, Parameter(negative=())] = None,
    rows: Annotated[list[str] | None, Parameter(negative=())] = None,
    beside: Annotated[list[str] | None, Parameter(negative=())] = None,
    agenda: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
    overrides: Annotated[ScaleOverrides | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
) -> None:
    """Train and measure what a table or figure of the paper asks for. What was stopped goes on when the same command is
    given again; what another plan has trained in the same folder is taken over; the same command, given beside itself,
    shares the work.

    Parameters
    ----------
    plan
        table1, table2, table3, table4, table6, table7, table8, figure1, figure10, or the path of a plan.
    data
        Training images, as for `train`; of several data sets (table3: svhn, cifar100, tiny-imagenet) in that order.
    test
        Images to measure on, as for `benchmark`, likewise.
    output
        A folder for trained models, results, the document of it all and its report.
    scale
        A bundled scale (full, small), or the path of one; the flags of its fields override them.
    seeds
        Of the trainings; by default 0.
    rows
        These rows of the table alone, by the paper's names: "ResNet-18".
    beside
        Further models, measured as they are, by the names that `benchmark` takes.
    agenda
        Only say what would be trained and measured, what is there already, and how long the rest takes.
    """
    from robnet_zoo.reports.reproduce.page import write
    from robnet_zoo.reproduce.plan import load_plan
    from robnet_zoo.reproduce.work import Reproduction, Source

    chosen = load_plan(plan) if rows is None else load_plan(plan).of(rows)
    if len(data) != len(test):
        fail(f"--data, --test: expected as many of the one as of the other, got {len(data)} and {len(test)}")
    sources = [Source(*pair) for pair in zip(data, test, strict=True)]
    bundled = load_scale(scale)
    size = merged(bundled, overrides)
    if size != bundled:
        size = size.model_copy(update={"name": "own"})
    work = Reproduction(chosen, sources, output, scale=size, seeds=seeds or [0], beside=beside or [])
    lines = _agenda(work)
    if agenda:
        print("\n".join(lines))
        return
    if not as_json:
        print("\n".join(lines), flush=True)
    result = work.run()
    for note in work.notes:
        print(note)
    page = work.document.with_suffix(".html")
    write(result, page)
    print(result.dumps() if as_json else _said(result, page), end="")


@reproduce.command
def report(result: Path, *, output: Output) -> None:
    """Draw the report of a plan from its document.

    Parameters
    ----------
    result
        The document that `reproduce` has left in its folder.
    output
        The file to write: .html or .md.
    """
    from robnet_zoo.reports.reproduce.page import write
    from robnet_zoo.reproduce.result import Reproduced

    write(Reproduced.load(result), output)
    print(output)


@reproduce.command
def plans(name: str | None = None) -> None:
    """The bundled plans, or one of them as JSON, to begin a plan of one's own with.

    Parameters
    ----------
    name
        A bundled plan or the path of one.
    """
    from robnet_zoo.reproduce.plan import load_plan, plan_names

    show_bundled(name, plan_names, load_plan, about="title", width=10)


def _agenda(work: Reproduction) -> list[str]:
    from robnet_zoo.reproduce.work import spell

    lines = [f"{work.plan.title}. {work.scale}"]
    found = work.agenda()
    for line in found:
        state = "there already" if line.done else f"about {spell(line.seconds)}"
        lines.append(f"  {line.job.verb:8} {line.job.name}: {state}")
    lines += [f"  measure  {name}, beside: not timed, as it is loaded only then" for name in work.beside]
    done = sum(line.done for line in found)
    left = sum(line.seconds for line in found)
    lines.append(f"{done} of {len(found)} there already; about {spell(left)} left, at the speed measured just now")
    return lines


def _said(result: Reproduced, page: Path) -> str:
    from robnet_zoo.reports.reproduce.page import order, table
    from robnet_zoo.reports.robustness.plain import table_lines

    lines = [
        line
        for part in result.parts
        for block in (table(result, part), order(result, part))
        for line in table_lines(block)
    ]
    return "\n".join([*lines, str(page)]) + "\n"
