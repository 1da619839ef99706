"""How cheap scores rank the adversarially trained cells of a table, or the candidates of a study: `search score`.

Each cell of a table is compiled at a small size and scored at random weights, each candidate of a study in the search's
own network, at random weights or at those that it inherits. Scores of several draws of the weights are averaged. Every
architecture is written down at once, so a run that was stopped at any moment continues from there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import stats

from robnet_zoo.benchmarks.journal import Journal
from robnet_zoo.core.documents import Document, Tuple, nearest, shown
from robnet_zoo.core.environment import software
from robnet_zoo.core.files import file_sha256
from robnet_zoo.core.progress import bar
from robnet_zoo.core.statistics import LEVEL, Interval, IntervalEstimate
from robnet_zoo.core.units import LinfPixels, in_image_units
from robnet_zoo.data import Images, check_fits, resized
from robnet_zoo.errors import ArgumentError, DataError, SearchError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.nn.compiler import compile, subnetwork
from robnet_zoo.nn.network import Network
from robnet_zoo.search.analysis.estimates import Floats, at_least
from robnet_zoo.search.analysis.tables import ROBUST, read_specs
from robnet_zoo.search.result import StudyResult
from robnet_zoo.search.scores import BASELINE, SCORES, Scoring, computed
from robnet_zoo.training.loop import MODEL
from robnet_zoo.zoo.weights import state_sha256

RESAMPLES = 2000  # of the bootstrap
LEAST = 10  # cells
FINETUNED = "finetuned"  # what the robust accuracies of a study's candidates are called
Drawn = Callable[[Genotype, int], Network]  # the network of an architecture, by the seed of its weights


class Ranking(Document):
    """How a score ranks architectures.

    Args:
        score: its name.
        rising: whether a higher score is said to mean more robustness; if not, its negative is correlated.
        spearman, kendall: its rank correlation with robust accuracy, and Kendall's tau-b, with bootstrap intervals.
        beyond: Spearman's correlation minus that of the baseline, on the same resampled architectures; of the others
            alone.
        seconds: to compute it for all of them.
        values: the score of each, in the order of the table or study.
    """

    score: str
    rising: bool
    spearman: IntervalEstimate | None = None
    kendall: IntervalEstimate | None = None
    beyond: IntervalEstimate | None = None
    seconds: float
    values: Tuple[float]


class RankingSize(Document):
    """The size at which architectures are scored.

    Args:
        channels: C of every network; its number of cells is that of the table or study.
        pixels: the side of the images that it takes.
        images: how many images, the first of the data.
        eps: the radius of attacks, in image units.
        draws: of random weights, whose scores are averaged.
        seed: of the draws.
    """

    channels: Annotated[int, Field(ge=1, le=1000)] = 8
    pixels: Annotated[int, Field(ge=8, le=512)] = 16
    images: Annotated[int, Field(ge=2, le=100_000)] = 16
    eps: LinfPixels = "8/255"
    draws: Annotated[int, Field(ge=1, le=1000)] = 1
    seed: Annotated[int, Field(ge=0)] = 0


class RankingResult(Document):
    """How scores rank the cells of a table, or the candidates of a study.

    Args:
        space: the name of the table or study.
        file_sha256: of its file.
        supernet_state_sha256: of the supernet whose weights the networks inherit; theirs are random without one.
        robust: the column of the accuracies; of a study `finetuned`.
        n: how many architectures.
        size: at which they were scored.
        data, data_sha256: of the images.
        software: what computed the scores.
        seconds: of the whole run, without interruptions.
        rankings: one for each score.
    """

    space: str
    file_sha256: str
    supernet_state_sha256: str | None = None
    robust: str
    n: int
    size: RankingSize
    data: str
    data_sha256: str
    software: dict[str, str]
    seconds: float
    rankings: Tuple[Ranking]


def rank_table(
    path: str | os.PathLike[str],
    images: Images,
    *,
    robust: str = ROBUST,
    size: RankingSize | None = None,
    scores: Iterable[str] = tuple(SCORES),
    output: Path | None = None,
    progress: bool = False,
) -> RankingResult:
    """Score the cells of a table, and return how each score ranks them.

    Args:
        path: of the table, with a column of DARTS' genotypes or of specs.
        images: to score on; they are resized to the cells' input size.
        robust: the column of robust accuracies.
        size: at which cells are scored.
        scores: out of SCORES; the baseline is always among them.
        output: a file for the result. Beside it, a journal keeps the cells that are done until the run is over, so that
            one that was stopped continues.
        progress: whether progress is shown on stderr.

    Raises:
        ArgumentError: an unknown score.
        SearchError: fewer cells than LEAST, or a score that is not finite.
        DocumentError: a file that is not such a table, or a journal of another run.
        DataError: too few images, or images that do not fit the cells.
    """
    size = RankingSize() if size is None else size
    names = _names(scores)
    cells = [(_sized(spec, size), accuracy) for spec, accuracy in read_specs(path, robust=robust)]
    at_least(LEAST, len(cells), what="cells")
    batch = _batch(images, size)
    for spec, _ in cells:
        check_fits(batch, input_size=spec.network.input_size, num_classes=spec.network.num_classes)
    told = {"space": Path(path).stem, "file_sha256": file_sha256(Path(path)), "robust": robust}
    return _ranked(cells, batch, images, names, size, _random, told, output=output, progress=progress)


def rank_study(
    path: str | os.PathLike[str],
    images: Images,
    *,
    supernet: str | os.PathLike[str] | None = None,
    count: int = 16,
    draws: int = 1,
    seed: int = 0,
    scores: Iterable[str] = tuple(SCORES),
    output: Path | None = None,
    progress: bool = False,
) -> RankingResult:
    """Score the finetuned candidates of a study in the search's own network, and return how each score ranks them.

    What they are ranked by is their robust accuracy after finetuning.

    Args:
        path: of the study's document.
        images: to score on; they are resized to the network's input size.
        supernet: the folder of the study's supernet, or its `model.safetensors`, whose weights the candidates inherit;
            by default their weights are random.
        count: how many images, the first ones.
        draws: of random weights, whose scores are averaged. Of inherited ones there is one.
        seed: of the draws, and of the scores' own random numbers.
        scores, output, progress: as `rank_table` takes them.

    Raises:
        ArgumentError: an unknown score, fewer than 2 images, or several draws of inherited weights.
        SearchError: fewer finetuned candidates than LEAST, images that are not square, weights that are not those of
            the study's supernet, or a score that is not finite.
        DocumentError: a file that is not a study, or a journal of another run.
        DataError: too few images, or images that do not fit the network.
    """
    study, names = StudyResult.load(path), _names(scores)
    network = study.branch.network
    if count < 2:
        raise ArgumentError(f"count: expected 2 or more images, got {count}")
    if network.input_size[1] != network.input_size[2]:
        raise SearchError(f"{os.fsdecode(path)}: expected a search on square images, got {network.input_size}")
    size = RankingSize(
        channels=network.channels,
        pixels=network.input_size[1],
        images=count,
        eps=study.config.evaluation.eps,
        draws=draws,
        seed=seed,
    )
    candidates = [(study.spec(each), each.after.robust) for each in study.candidates if each.after is not None]
    at_least(LEAST, len(candidates), what="finetuned candidates")
    told = {"space": Path(path).stem, "file_sha256": file_sha256(Path(path)), "robust": FINETUNED}
    drawn: Drawn = _random
    if supernet is not None:
        if draws > 1:
            raise ArgumentError(f"draws: expected 1 of inherited weights, got {draws}")
        whole = _supernet(Path(supernet), study)
        drawn = lambda spec, _: subnetwork(whole, spec)  # noqa: E731
        told["supernet_state_sha256"] = study.supernet_state_sha256
    batch = _batch(images, size)
    check_fits(batch, input_size=network.input_size, num_classes=network.num_classes)
    return _ranked(candidates, batch, images, names, size, drawn, told, output=output, progress=progress)


def _supernet(path: Path, study: StudyResult) -> Network:
    """Return a study's supernet. Raises SearchError for any other weights."""
    file = path / MODEL if os.path.isdir(path) else path
    try:
        state = load_file(file)
    except (OSError, SafetensorError) as error:
        raise SearchError(f"{file}: expected the weights of a supernet, got: {error}") from error
    if (sha256 := state_sha256(state)) != study.supernet_state_sha256:
        wanted = study.supernet_state_sha256[:12]
        raise SearchError(f"{file}: expected the study's supernet, state sha256 {wanted}, got {sha256[:12]}")
    whole = _random(study.space.supernet(), 0)
    whole.load_state_dict(state)
    return whole


def _random(spec: Genotype, seed: int) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # torch's initialisation takes no generator
        return compile(spec)


def _ranked(
    cells: Sequence[tuple[Genotype, float]],
    batch: Images,
    images: Images,
    names: Sequence[str],
    size: RankingSize,
    drawn: Drawn,
    told: Mapping[str, str],
    *,
    output: Path | None,
    progress: bool,
) -> RankingResult:
    """Score architectures, or what is left of them, and return how each score ranks them.

    Args:
        cells: each with its robust accuracy.
        batch: of the images, which is scored on.
        drawn: makes their networks.
        told: what the document says of where they come from.
    """
    key = [*told.values(), names, size.model_dump(mode="json"), images.sha256, sorted(software().items())]
    journal = None if output is None else output.with_name(f"{output.name}.journal")
    with Journal(journal, hashlib.sha256(json.dumps(key).encode()).hexdigest()) as kept:
        with bar(total=len(cells), done=len(kept.entries), unit="architectures", shown=progress) as shown_progress:
            for spec, _ in cells[len(kept.entries) :]:
                kept.add(_scored(spec, batch, names, size, drawn))
                shown_progress.update()
        result = RankingResult(
            **told,
            n=len(cells),
            size=size,
            data=images.name,
            data_sha256=images.sha256,
            software=software(),
            seconds=round(sum(entry["seconds"] for entry in kept.entries), 1),
            rankings=_rankings(names, kept.entries, [accuracy for _, accuracy in cells]),
        )
        if output is not None:
            result.save(output)
        kept.close(delete=True)
    return result


def _names(scores: Iterable[str]) -> list[str]:
    chosen = list(dict.fromkeys([BASELINE, *scores]))
    for name in chosen:
        if name not in SCORES:
            raise ArgumentError(f"scores: unknown score {shown(name)}{nearest(name, SCORES)}")
    return chosen


def _sized(spec: Genotype, size: RankingSize) -> Genotype:
    """Return a cell of the table in a network of the size at which it is scored."""
    input_size = (spec.network.input_size[0], size.pixels, size.pixels)
    network = spec.network.model_copy(update={"channels": size.channels, "input_size": input_size})
    return spec.model_copy(update={"network": network})


def _batch(images: Images, size: RankingSize) -> Images:
    if len(images) < size.images:
        raise DataError(f"{images.name}: expected at least {size.images:,} images, got {len(images):,}")
    return resized(images[: size.images], size.pixels)


def _scored(spec: Genotype, batch: Images, names: Sequence[str], size: RankingSize, drawn: Drawn) -> dict[str, Any]:
    """Return the mean scores of an architecture over the draws of its weights, and the seconds that each took."""
    begun = time.perf_counter()
    ((images, labels),) = batch.batches(len(batch))
    totals, seconds = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for draw in range(size.draws):
        seed = int.from_bytes(hashlib.blake2b(f"{size.seed} {draw}".encode(), digest_size=7).digest(), "little")
        scoring = Scoring(drawn(spec, seed), images, labels, in_image_units(size.eps), seed)
        for name in names:
            started = time.perf_counter()
            totals[name] += computed(SCORES[name], scoring)
            seconds[name] += time.perf_counter() - started
    scores = {name: total / size.draws for name, total in totals.items()}
    strange = next((name for name, value in scores.items() if not math.isfinite(value)), None)
    if strange is not None:
        raise SearchError(f"{strange}: expected a finite score, got {scores[strange]} of {spec.dumps()[:200]}")
    each = {name: round(value, 4) for name, value in seconds.items()}
    return {"scores": scores, "each": each, "seconds": round(time.perf_counter() - begun, 4)}


def _rankings(
    names: Sequence[str], entries: Sequence[dict[str, Any]], accuracies: Sequence[float]
) -> tuple[Ranking, ...]:
    """Return the rankings by each score."""
    robust = np.array(accuracies)
    values = {name: np.array([entry["scores"][name] for entry in entries]) for name in names}
    signed = {name: values[name] * (1 if SCORES[name].rising else -1) for name in names}
    rankings = []
    for name in names:
        varies = len(set(values[name].tolist())) > 1 and len(set(accuracies)) > 1
        compared = varies and name != BASELINE and len(set(values[BASELINE].tolist())) > 1
        rankings.append(
            Ranking(
                score=name,
                rising=SCORES[name].rising,
                spearman=bootstrapped(signed[name], robust, kendall=False) if varies else None,
                kendall=bootstrapped(signed[name], robust, kendall=True) if varies else None,
                beyond=bootstrapped(signed[name], robust, signed[BASELINE], kendall=False) if compared else None,
                seconds=round(sum(entry["each"][name] for entry in entries), 1),
                values=values[name].tolist(),
            )
        )
    return tuple(rankings)


def bootstrapped(x: Floats, y: Floats, other: Floats | None = None, *, kendall: bool) -> IntervalEstimate:
    """Return the rank correlation of x and y, or by how much it exceeds that of another number and y.

    The interval has the percentiles of resampled observations (Efron, 1979), always the same ones.

    Args:
        x: (n,).
        y: (n,).
        other: (n,).
        kendall: whether it is Kendall's tau-b instead of Spearman's.
    """
    correlation = _kendall if kendall else _spearman

    def estimate(rows: Any) -> Floats:
        values = correlation(x[rows], y[rows])
        return values if other is None else values - correlation(other[rows], y[rows])

    rows = np.random.default_rng(0).integers(0, len(x), (RESAMPLES, len(x)))
    low, high = np.nanpercentile(estimate(rows), [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    value = float(estimate(np.arange(len(x))[None])[0])
    return IntervalEstimate(value=value, interval=Interval(float(low), float(high)), n=len(x))


def _spearman(x: Floats, y: Floats) -> Floats:
    """Return Spearman's correlation of each row, (m,), of x and y, (m, n); NaN where one is constant."""
    ranks = [stats.rankdata(each, axis=1) for each in (x, y)]
    first, second = (each - each.mean(1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore"):
        correlations: Floats = (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return correlations


def _kendall(x: Floats, y: Floats) -> Floats:
    """Return Kendall's tau-b of each row, (m,), of x and y, (m, n); NaN where one is constant."""
    return np.array([stats.kendalltau(*pair).statistic for pair in zip(x, y, strict=True)])
