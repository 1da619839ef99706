"""`robnet-zoo search ...`: a thin layer over `robnet_zoo.search`."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from robnet_zoo.cli.parameters import Output, show_bundled
from robnet_zoo.errors import SearchError
from robnet_zoo.search.config import config_names, load_config
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.space import Kind

REPORT = "report.html"  # in a search's folder

search = App(name="search", help="Architectures from an adversarially trained supernet (paper, section 3).")


@search.command
def run(*, config: str, data: str, output: Output, storage: str | None = None, workers: int = 1) -> None:
    """From data to specs: trains the supernets, evaluates candidates, picks, reports; run it again to go on.

    Parameters
    ----------
    config
        A bundled config (`robnet-zoo search configs`) or the path of one.
    data
        Training images, as for `train`; the last tenth is what candidates are judged on.
    output
        A folder for supernets, results, specs and report.
    storage
        Where candidates are kept: a path or sqlite:///PATH, postgresql://USER@HOST/DATABASE, journal:PATH; by default
        study.db in the folder.
    workers
        Processes on this machine that evaluate candidates; `search work` adds others, also from other machines.
    """
    from robnet_zoo.search.pipeline import Search

    whole = Search(load_config(config), data, output, storage)
    for path in whole.run(workers=workers):
        print(path)
    _write_report([StudyResult.load(path) for path in whole.documents.values()], output / REPORT)


@search.command
def supernet(*, config: str, data: str, output: Output, kind: Kind) -> None:
    """Train the supernet of one branch alone, as under torchrun; `search run` then goes on from it.

    Parameters
    ----------
    config
        The config of the search.
    data
        Training images.
    output
        The folder of the search.
    kind
        The branch: cell_based or cell_free.
    """
    from robnet_zoo.search.pipeline import Search

    print(Search(load_config(config), data, output).supernet(kind))


@search.command
def work(*, config: str, data: str, output: Output, kind: Kind, storage: str | None = None) -> None:
    """Evaluate candidates of a running search beside its other workers, until all of a branch are done.

    Parameters
    ----------
    config
        The config of the search.
    data
        The same training images.
    output
        The folder of the search, or a copy with its trained supernet.
    kind
        The branch: cell_based or cell_free.
    storage
        The storage of the search.
    """
    from robnet_zoo.search.pipeline import Search

    Search(load_config(config), data, output, storage).work(kind)


@search.command
def report(*results: Path, output: Output) -> None:
    """Draw the report of a search from its results, with the specs that it picks.

    Parameters
    ----------
    results
        Results documents: cell_based.json, cell_free.json.
    output
        The HTML page to write.
    """
    _write_report(_loaded(results), output)
    print(output)


@search.command
def pick(*results: Path, output: Output) -> None:
    """Write the specs that a search picks (appendix F) from its results.

    Parameters
    ----------
    results
        Results documents: cell_based.json, cell_free.json.
    output
        A folder for the specs.
    """
    from robnet_zoo.search.selection import picks

    for result in _loaded(results):
        for spec, _ in picks(result):
            spec.save(output / f"{spec.name}.json")
            print(output / f"{spec.name}.json")


def _write_report(results: list[StudyResult], path: Path) -> None:
    from robnet_zoo.reports.search import write_report
    from robnet_zoo.search.selection import picks

    write_report(results, path, picks=[picked for result in results for picked in picks(result)])


def _loaded(paths: tuple[Path, ...]) -> list[StudyResult]:
    if not paths:
        raise SearchError("expected one or more results documents, got none")
    return [StudyResult.load(path) for path in paths]


@search.command
def configs(name: str | None = None) -> None:
    """The bundled search configs, or one of them as JSON, to begin a config of one's own with.

    Parameters
    ----------
    name
        A bundled config or the path of one.
    """
    show_bundled(name, config_names, load_config)
