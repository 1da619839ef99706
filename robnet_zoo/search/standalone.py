"""What inherited accuracy is worth: some candidates of a study, trained on their own from random weights.

Each is trained by the trainer's own loop in a folder of its own, and measured as the search measured it but on other
held-out images, so that what the choice of images does to an accuracy is not taken for agreement. The document is
written behind each candidate, so a run that was stopped at any moment resumes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from robnet_zoo.core.documents import nearest, shown
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import ArgumentError, SearchError
from robnet_zoo.nn.network import Network
from robnet_zoo.search.evaluation import measure
from robnet_zoo.search.pipeline import Search
from robnet_zoo.search.result import Candidate, StandaloneResult, StudyResult, TrainedCandidate
from robnet_zoo.training import Recipe, train
from robnet_zoo.training.distributed import joined

DOCUMENT = "standalone.json"  # in the folder
LEAST = 4  # candidates, of which a rank correlation has an interval
FEWEST = 20  # held-out images


def train_standalone(
    study: StudyResult,
    source: str,
    folder: str | os.PathLike[str],
    *,
    count: int = 20,
    group: str | None = None,
    recipe: Recipe | None = None,
    progress: bool = True,
) -> StandaloneResult:
    """Train the first candidates of a study on their own, and measure them as the search did.

    They see the images that the supernet was trained on, and are measured on the held-out images behind those that the
    search measured on: on as many if there are so many. After an interruption, the same call resumes; a larger count
    adds candidates. Under torchrun, each process takes its part of every batch.

    Args:
        study: the results of a branch.
        source: its images, as `data.load` takes them.
        folder: for `standalone.json`, and a training run's folder for each candidate.
        count: how many candidates, the first ones of the group.
        group: theirs; by default the first of the branch.
        recipe: of the training; by default that of the supernet, every update of which trains the whole network here.
        progress: whether progress is shown on stderr.

    Raises:
        ArgumentError: a count below 4.
        SearchError: an unknown group, too few candidates or held-out images, other images than the study's, or a folder
            with candidates of another study or recipe.
        Whatever `training.train` raises.
    """
    if count < LEAST:
        raise ArgumentError(f"count: expected {LEAST} or more candidates, for a rank correlation, got {count}")
    names = [each.name for each in study.branch.groups]
    chosen = names[0] if group is None else group
    if chosen not in names:
        raise SearchError(f"unknown group {shown(chosen)}{nearest(chosen, names)}")
    candidates = study.group(chosen)[:count]
    if len(candidates) < count:
        raise SearchError(f"{chosen}: expected {counted(count, 'candidate')}, got {len(candidates)}")
    folder, recipe = Path(folder), recipe or study.branch.supernet
    part = Search(study.config, source, folder, shown=progress).part(study.kind)
    if part.search.images.sha256 != study.data_sha256:
        wanted, got = study.data_sha256[:12], part.search.images.sha256[:12]
        raise SearchError(f"{source}: expected the images of the study, sha256 {wanted}, got {got}")
    held_out, seen = part.split[1], study.config.evaluation.validation
    evaluation = study.config.evaluation.model_copy(update={"validation": min(seen, len(held_out) - seen)})
    if evaluation.validation < FEWEST:
        raise SearchError(
            f"{source}: expected {FEWEST} or more held-out images beside the {seen:,} that the search measured on, got "
            f"{len(held_out) - seen}"
        )
    with joined() as world:
        result = StandaloneResult(
            search=study.config.name,
            kind=study.kind,
            supernet_state_sha256=study.supernet_state_sha256,
            data=study.data,
            data_sha256=study.data_sha256,
            training=len(part.given.split()[0]),
            validation=evaluation.validation,
            recipe=recipe,
            software=software(),
            device=device(world.device),
        )
        result = _resumed(result, folder / DOCUMENT, candidates)
        for candidate in candidates[len(result.candidates) :]:
            started, spec = time.perf_counter(), study.spec(candidate)
            if world.first:
                part.search.say(f"{spec.name}, {len(result.candidates) + 1} of {count}")
            network = train(spec, part.given, recipe, folder / spec.name, progress=progress)
            assert isinstance(network, Network)
            accuracy, _ = measure(network, held_out[seen:], evaluation, seed=study.config.seed)
            trained = TrainedCandidate(
                candidate=candidate, standalone=accuracy, seconds=round(time.perf_counter() - started, 3)
            )
            result = result.model_copy(update={"candidates": (*result.candidates, trained)})
            if world.first:
                result.save(folder / DOCUMENT)
            world.wait()
    return result


def _resumed(result: StandaloneResult, path: Path, candidates: Sequence[Candidate]) -> StandaloneResult:
    """Return a result with the candidates that its file has.

    Args:
        result: without candidates.
        path: of the file, if there is one.
        candidates: that are to be trained.

    Raises: SearchError if the file is of something else.
    """
    if not path.is_file():
        return result
    written = StandaloneResult.load(path)
    same = all(known.candidate == wanted for known, wanted in zip(written.candidates, candidates, strict=False))
    if not (same and written.continues(result)):
        raise SearchError(f"{path}: expected candidates of this study and recipe, got others; choose another folder")
    return written
