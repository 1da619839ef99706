"""`robnet-zoo search ...`: a thin layer over `robnet_zoo.search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from robnet_zoo.cli.parameters import OptionalOutput, Output, Quiet, is_first
from robnet_zoo.cli.starting import starting
from robnet_zoo.core.waiting import SignOfLife
from robnet_zoo.data.names import check_name
from robnet_zoo.errors import SearchError
from robnet_zoo.search.cells import Net
from robnet_zoo.search.config import load_config
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.space import Kind
from robnet_zoo.training.recipe import load_recipe

REPORT = "report.html"  # in a search's folder

search = App(name="search", help="Search for architectures in an adversarially trained supernet (paper, section 3).")


@search.command
def run(
    *,
    config: str,
    data: str,
    output: Output,
    storage: str | None = None,
    workers: int = 1,
    quiet: Quiet = False,
) -> None:
    """Search from data to specs: train the supernets, evaluate candidates, pick specs, write the report.

    After an interruption, the same command resumes.

    Args:
        config: A config, by bundled name (`robnet-zoo configs` lists them) or path.
        data: Training images, as for `train`; candidates are judged on the last tenth.
        output: A folder for supernets, results, specs and report.
        storage: Where the candidates are stored, by default in study.db in the folder: a path or sqlite:///PATH,
            postgresql://USER@HOST/DATABASE, journal:PATH.
        workers: The number of processes that evaluate candidates on this machine; `search work` adds others, from any
            machine.
    """
    chosen = load_config(config)
    check_name(data, train=True)
    with starting(shown=not quiet):
        from robnet_zoo.search.pipeline import Search

        whole = Search(chosen, data, output, storage, shown=not quiet)
    for path in whole.run(workers=workers):
        if not quiet:
            print(path)
    results = [StudyResult.load(path) for path in whole.documents.values()]
    with SignOfLife("writing the report", shown=not quiet):
        _write_report(results, output / REPORT)


@search.command
def supernet(*, config: str, data: str, output: Output, kind: Kind, quiet: Quiet = False) -> None:
    """Train only the supernet of a branch, for instance under torchrun; `search run` then continues from it.

    Args:
        config: The config of the search.
        data: Training images.
        output: The folder of the search.
        kind: The branch: cell_based or cell_free.
    """
    chosen = load_config(config)
    check_name(data, train=True)
    with starting(shown=not quiet):
        from robnet_zoo.search.pipeline import Search

        whole = Search(chosen, data, output, shown=not quiet)
    path = whole.supernet(kind)
    if is_first() and not quiet:
        print(path)


@search.command
def work(
    *, config: str, data: str, output: Output, kind: Kind, storage: str | None = None, quiet: Quiet = False
) -> None:
    """Join a running search as a worker, until all candidates of a branch are evaluated.

    Args:
        config: The config of the search.
        data: The same training images.
        output: The folder of the search, or a copy with its trained supernet.
        kind: The branch: cell_based or cell_free.
        storage: The storage of the search.
    """
    chosen = load_config(config)
    check_name(data, train=True)
    with starting(shown=not quiet):
        from robnet_zoo.search.pipeline import Search

        whole = Search(chosen, data, output, storage, shown=not quiet)
    whole.work(kind)


@search.command
def report(*results: Path, output: Output, quiet: Quiet = False) -> None:
    """Write the report of a search from its results, with the specs that it picks.

    Args:
        results: Results documents: cell_based.json, cell_free.json.
        output: The file to write: .html, .md or .csv.
    """
    loaded = _loaded(results)
    with starting(shown=not quiet):
        _write_report(loaded, output)
    if not quiet:
        print(output)


@search.command
def pick(*results: Path, output: Output, quiet: Quiet = False) -> None:
    """Write the specs that a search picks (appendix F) from its results.

    Args:
        results: Results documents: cell_based.json, cell_free.json.
        output: A folder for the specs.
    """
    from robnet_zoo.search.selection import picks

    for result in _loaded(results):
        for spec, _ in picks(result):
            spec.save(output / f"{spec.name}.json")
            if not quiet:
                print(output / f"{spec.name}.json")


@search.command
def cells(
    study: Path,
    /,
    *,
    count: Annotated[int, Parameter(name=["--count", "-n"])] = 20,
    output: Output,
    by: str = "robust",
    kind: Kind | None = None,
    group: str | None = None,
    network: Net = "full",
    storage: str | None = None,
    quiet: Quiet = False,
) -> None:
    """Write the best candidates of a study as specs, with an index of their accuracies.

    Each is a spec that `train`, `show` and `compile` take. Files of others in the folder are never overwritten.

    Args:
        study: A results document such as cell_based.json, or the folder of a search, finished or not.
        count: How many candidates of each branch, at most.
        output: A folder for the specs and index.json.
        by: The column that ranks them: robust, clean (after finetuning), inherited_robust, inherited_clean, density,
            convolutions (more is better), parameters, multiply_adds, fsp, seconds (less is better).
        kind: The only branch: cell_based or cell_free.
        group: The only group of candidates.
        network: Whether specs are in the full network, as picks are, or in that of the search, which was measured.
        storage: Where the search of the folder stores its candidates, if not in study.db there.
    """
    with starting(shown=not quiet):
        from robnet_zoo.reports.search.chosen import cells_table
        from robnet_zoo.search.cells import choose_cells

        chosen = choose_cells(study, count=count, by=by, kind=kind, group=group, network=network, storage=storage)
    paths = chosen.save(output)
    if not quiet:
        print(cells_table(chosen.index))
        print(paths[-1])


@search.command
def standalone(
    study: Path,
    /,
    *,
    data: str,
    output: Output,
    count: Annotated[int, Parameter(name=["--count", "-n"])] = 20,
    group: str | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    quiet: Quiet = False,
) -> None:
    """Train candidates of a study on their own, and say how well inherited accuracy ranks them.

    After an interruption, the same command resumes; a larger number adds candidates. torchrun can start it.

    Args:
        study: A results document such as cell_based.json.
        data: The training images of the search.
        output: A folder for standalone.json and the training runs.
        count: How many candidates, the first ones of the group.
        group: Theirs, by default the first of the branch.
        recipe: A recipe, by bundled name or path; by default that of the supernet.
        epochs: Of the training, in place of the recipe's.
    """
    result = StudyResult.load(study)
    check_name(data, train=True)
    with starting(shown=not quiet):
        from robnet_zoo.reports.search.standalone import standalone_table
        from robnet_zoo.search.standalone import DOCUMENT, train_standalone

    chosen = result.branch.supernet if recipe is None else load_recipe(recipe)
    chosen = chosen.overridden({} if epochs is None else {"epochs": epochs})
    trained = train_standalone(result, data, output, count=count, group=group, recipe=chosen, progress=not quiet)
    if is_first() and not quiet:
        print(standalone_table(trained))
        print(output / DOCUMENT)


@search.command
def findings(
    *,
    table: Path,
    robust: str = "robust",
    clean: str | None = None,
    space: str | None = None,
    output: OptionalOutput = None,
    quiet: Quiet = False,
) -> None:
    """Say what a table of adversarially trained cells, of any search space, says about the paper's findings.

    Args:
        table: A CSV file with a header, or a JSON list of objects. A column `operations` has the six digits of cells of
            NAS-Bench-201, or a column `genotype` genotypes of DARTS, or a column `spec` specs.
        robust: The column of robust accuracies, as shares of 1 or in percent.
        clean: The column of clean accuracies; by default `clean`, if there is one.
        space: What to call the search space; by default the file's name.
        output: A file for the document of the numbers.
    """
    with starting(shown=not quiet):
        from robnet_zoo.reports.search.tables import lines
        from robnet_zoo.search.analysis.tables import table_findings

        result = table_findings(table, robust=robust, clean=clean, space=space)
    if output is not None:
        result.save(output)
    if not quiet:
        print(*lines(result), *([] if output is None else [output]), sep="\n")


@search.command
def score(
    study: Annotated[Path | None, Parameter(negative=())] = None,
    *,
    table: Annotated[Path | None, Parameter(negative=())] = None,
    supernet: Annotated[Path | None, Parameter(negative=())] = None,
    data: str,
    robust: str | None = None,
    scores: tuple[str, ...] | None = None,
    channels: int | None = None,
    pixels: int | None = None,
    images: int = 16,
    draws: int = 1,
    seed: int = 0,
    output: Output,
    quiet: Quiet = False,
) -> None:
    """Say how cheap scores rank a study's finetuned candidates, or a table of adversarially trained cells.

    A score is computed on a network at random weights, or of a candidate also at the weights that it inherits. The
    cells of a table are compiled at a small size. After an interruption, the same command resumes.

    Args:
        study: A results document of a search, whose candidates are scored in the search's own network.
        table: In place of a study, a table as for `search findings`, with a column `genotype` or `spec`.
        supernet: The folder of the study's supernet, or its model.safetensors: candidates inherit its weights.
        data: Images to score on, as for `train`.
        robust: The table's column of robust accuracies; by default `robust`.
        scores: Some of convolutions, parameters, fsp_distance, gradient_norm, input_gradient_norm, input_alignment,
            consistency, robust_ntk_trace; by default all.
        channels: C of the networks of a table's cells; by default 8.
        pixels: The side of the images that those take; by default 16.
        images: How many images, the first ones.
        draws: How many draws of random weights are averaged.
        seed: Of the draws.
        output: A file for the document of the numbers.
    """
    check_name(data, train=True)
    if (study is None) == (table is None):
        raise SearchError(f"expected a study or --table, got {'neither' if study is None else 'both'}")
    sizes = {"channels": channels, "pixels": pixels}
    given = {key: value for key, value in sizes.items() if value is not None}
    of_tables = [*given, *(["robust"] if robust is not None else [])]
    if study is not None and of_tables:
        raise SearchError(f"--{of_tables[0]}: expected --table with it, got a study")
    if table is not None and supernet is not None:
        raise SearchError("--supernet: expected a study with it, got --table, whose cells have no supernet")
    with starting(shown=not quiet):
        from robnet_zoo.data import load
        from robnet_zoo.reports.search.scores import score_summary, score_table
        from robnet_zoo.search.analysis.tables import ROBUST
        from robnet_zoo.search.ranking import RankingSize, rank_study, rank_table
        from robnet_zoo.search.scores import SCORES

        loaded = load(data, train=True)
    chosen = tuple(SCORES) if scores is None else scores
    if table is not None:
        size = RankingSize.parse(given | {"images": images, "draws": draws, "seed": seed})
        result = rank_table(
            table, loaded, robust=robust or ROBUST, size=size, scores=chosen, output=output, progress=not quiet
        )
    else:
        assert study is not None
        result = rank_study(
            study,
            loaded,
            supernet=supernet,
            count=images,
            draws=draws,
            seed=seed,
            scores=chosen,
            output=output,
            progress=not quiet,
        )
    if not quiet:
        print(score_table(result))
        print(score_summary(result))
        print(output)


@search.command
def lookup(
    *,
    table: Path,
    robust: str = "robust",
    evaluations: int = 100,
    seeds: int = 50,
    methods: tuple[str, ...] | None = None,
    draw: Path | None = None,
    output: OptionalOutput = None,
    quiet: Quiet = False,
) -> None:
    """Compare methods of search on a table of NAS-Bench-201's cells, where an evaluation is a lookup.

    Args:
        table: As for `search findings`, with a column `operations` that has all cells of the space.
        robust: The column of robust accuracies.
        evaluations: How many architectures a search evaluates.
        seeds: How often each method searches.
        methods: Out of uniform, tpe, nsga2 and evolution; by default all.
        draw: A file for a picture, .svg or .png.
        output: A file for the document of the numbers.
    """
    with starting(shown=not quiet):
        from robnet_zoo.reports.search.lookup import draw_lookup, lookup_table
        from robnet_zoo.search.lookup import METHODS, search_table

        result = search_table(
            table,
            robust=robust,
            evaluations=evaluations,
            seeds=seeds,
            methods=tuple(METHODS) if methods is None else methods,
        )
    if output is not None:
        result.save(output)
    if draw is not None:
        draw_lookup(result, draw)
    if not quiet:
        print(lookup_table(result), *[path for path in (output, draw) if path is not None], sep="\n")


def _write_report(results: list[StudyResult], path: Path) -> None:
    from robnet_zoo.reports.search import write
    from robnet_zoo.search.selection import picks

    write(results, path, picks=[picked for result in results for picked in picks(result)])


def _loaded(paths: tuple[Path, ...]) -> list[StudyResult]:
    if not paths:
        raise SearchError("expected one or more results documents, got none")
    return [StudyResult.load(path) for path in paths]
