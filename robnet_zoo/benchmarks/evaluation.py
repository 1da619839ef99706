"""Measure a classifier on real images: clean, and under each attack of a protocol.

The original, in float32 and eval mode, judges what the attacks propose (`robnet_zoo.attacks.continuous_batching`).
Every outcome is written down at once, so a run that was stopped at any moment continues from there. Images can be split
over processes. Neither changes a result.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from robnet_zoo import attacks
from robnet_zoo.attacks import BatchAttack, BatchOutcome, IterativeAttack
from robnet_zoo.attacks.ball import length, within
from robnet_zoo.attacks.losses import is_right, margin_of_answer
from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.kept import packed
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.record import Recording
from robnet_zoo.benchmarks.result import Alarm, Result, Shard
from robnet_zoo.benchmarks.targets.probe import PROBED, probed
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.progress import bar as progress_bar
from robnet_zoo.core.waiting import SignOfLife
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images
from robnet_zoo.data.images import check_within
from robnet_zoo.errors import TargetError

NO_COST = dict.fromkeys(("tries", "forwards", "backwards", "judged", "unconfirmed"), 0)
Add = Callable[[Mapping[str, Any]], None]


def evaluate(
    target: Target,
    images: Images,
    protocol: Protocol,
    *,
    output: str | os.PathLike[str] | None = None,
    shard: Shard | None = None,
    keep_images: bool = False,
    progress: bool = True,
) -> Result:
    """Measure a target under the white-box attacks of a protocol.

    An interrupted run (Ctrl-C) saves its outcomes so far as a document that is not `complete`. The same call then
    continues; a document that is complete is not measured again.

    Args:
        images: the first `protocol.n` of them are measured.
        output: where the document is saved. A journal lies beside it until then.
        shard: measure only this part of the images; `robnet_zoo.benchmarks.shards.merge` joins the parts.
        keep_images: whether to save the adversarial images beside the document (`robnet_zoo.benchmarks.kept`).
        progress: whether to show progress on stderr.

    Raises: DataError if the images do not fit, TargetError if the attacks need what the target does not offer.
    """
    Protocol.require(protocol, argument="protocol")
    if protocol.threat != "white_box":
        raise TargetError(f"{protocol.name}: expected a source to attack, as this is a transfer, got none")
    path = None if output is None else Path(output)
    (result,) = _evaluate([Recording(target, images, protocol, None, shard, path, keep_images)], progress=progress)
    return result


def evaluate_transfer(
    targets: Sequence[Target],
    source: Target,
    images: Images,
    protocol: Protocol,
    *,
    outputs: Sequence[str | os.PathLike[str] | None] | None = None,
    shard: Shard | None = None,
    keep_images: bool = False,
    progress: bool = True,
) -> list[Result]:
    """Attack a source in full length, have each target judge the resulting images, and return a document a target.

    The attacks run once, however many targets there are. Arguments and errors are those of `evaluate`.

    Args:
        targets: they judge the images.
        source: the attacks look at it.
        outputs: where the documents are saved, one for each target.
    """
    Protocol.require(protocol, argument="protocol")
    if protocol.threat != "transfer":
        raise TargetError(f"{protocol.name}: expected no source, as this is a white box, got {source.name}")
    paths = [None if output is None else Path(output) for output in outputs or [None] * len(targets)]
    runs = [
        Recording(target, images, protocol, source, shard, path, keep_images)
        for target, path in zip(targets, paths, strict=True)
    ]
    return _evaluate(runs, progress=progress)


def _look(runs: Sequence[Recording]) -> None:
    """Replace the targets of runs, and their source, by what a look at them shows. Raises TargetError."""
    source = None if runs[0].source is None else _probed(runs[0].source, runs[0])
    for run in runs:
        run.target, run.source = _probed(run.target, run), source
    _check_gradients(runs[0].target if source is None else source, runs[0].protocol)


def _probed(target: Target, run: Recording) -> Target:
    """Return a target in the protocol's dtype, with what a look at it with the first images shows if they are valid."""
    target = target.proposing_in(run.protocol.dtype)
    low, high = (shown := run.images.batch(slice(PROBED))[0]).aminmax()
    fine = any(attack.gradient_free or attack.precise for attack in run.protocol.attacks)
    return probed(target, shown, fine=fine) if low >= 0 and high <= 1 else target


def _check_gradients(looked_at: Target, protocol: Protocol) -> None:
    """Raise TargetError unless the attacks get the gradients that they need."""
    needing = [attack.title for attack in protocol.attacks if not attack.gradient_free]
    if looked_at.proposer is None and needing:
        raise TargetError(
            f"{looked_at.name}: expected gradients for {', '.join(needing)}, got none: {looked_at.why_not}; "
            "the protocol `square` needs none, nor does `transfer` with another model as its --source"
        )


def _evaluate(runs: Sequence[Recording], *, progress: bool) -> list[Result]:
    """Fill the journals of runs that share everything but their targets, and return their documents, saved."""
    with SignOfLife("reading what is there", shown=progress) as sign:
        written = [run.finished() for run in runs]
        missing = [run for run, result in zip(runs, written, strict=True) if result is None]
        if missing:
            sign.says(f"trying {missing[0].target.name} on a few images")
            _look(missing)
    fresh = iter(_fill(missing, progress=progress) if missing else ())
    return [next(fresh) if result is None else result for result in written]


def _fill(runs: Sequence[Recording], *, progress: bool) -> list[Result]:
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.open())
        total = sum(len(run.samples) * (1 + len(run.protocol.attacks)) for run in runs)
        done = sum(len(run.journal.entries) for run in runs)
        if done and progress:
            text = f"resuming: {done:,} of {counted(total, 'outcome')} are in {runs[0].journal.path}"
            logging.getLogger(__name__).warning("%s", text)
        with SignOfLife("looking for what would mislead the attacks", shown=progress):
            for run in runs:  # first, as this takes seconds and the attacks take hours
                run.alarms = _target_alarms(run)
        try:
            with progress_bar(total=total, done=done, unit="outcomes", shown=progress) as bar:
                _measure(runs, bar)
            with SignOfLife("checking the outcomes", shown=progress):
                results = [run.document(complete=True) for run in runs]
        except KeyboardInterrupt:
            for run in runs:
                if run.output is not None and run.journal.entries:
                    run.document(complete=False).save(run.output)
            raise
        results = [run.save(result) for run, result in zip(runs, results, strict=True)]
        for run in runs:
            run.journal.close(delete=True)
    return results


def _target_alarms(run: Recording) -> list[Alarm]:
    """Return the alarms of a few queries, with as many images at once as the protocol says or fit into memory."""
    batch = run.protocol.batch
    while True:
        try:
            return alarms.from_target(run.target, run.images, seed=run.protocol.seed, batch=batch, whole=run.whole)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
            batch //= 2


def _measure(runs: Sequence[Recording], bar: tqdm[Any]) -> None:
    """Add the missing outcomes to the journals: clean, then attack by attack."""
    protocol = runs[0].protocol
    for samples in runs[0].chunks:
        logits = [_clean(run, samples, bar) for run in runs]
        for attack in protocol.attacks:
            bar.set_description(attack.title)
            if isinstance(attack, BatchAttack):
                _attack_batches(runs[0], attack, samples, bar)
            elif runs[0].source is not None:
                _transfer(runs, attack, samples, logits, bar)
            else:
                _attack(runs[0], attack, samples, logits[0], bar)


@contextmanager
def _adding(run: Recording, attack: str, bar: tqdm[Any], *, since: float | None = None) -> Iterator[Add]:
    """Yield a function that adds an outcome under this attack to the journal, with the seconds since the last one.

    since: when work on the first one began, by `time.perf_counter`; by default now.
    """
    last = time.perf_counter() if since is None else since

    def add(entry: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.perf_counter()
        run.journal.add({"attack": attack, **entry, "seconds": round(now - last, 6)})
        last = now
        bar.update(1)

    yield add


def _clean(run: Recording, samples: Sequence[int], bar: tqdm[Any]) -> Tensor:
    """Measure without an attack and return the logits, (N, K)."""
    bar.set_description("clean")
    with _adding(run, "clean", bar) as add:
        images, labels = run.batch(samples)
        logits = run.judged(images)
        lowest, highest = int(run.images.labels.min()), int(run.images.labels.max())
        if lowest < 0 or 1 == lowest < highest == logits.shape[1]:
            check_within(run.images, num_classes=logits.shape[1])
        if logits.shape[1] <= max(highest, 1):
            expected = f"expected logits (N, K) with K > {max(highest, 1)}"
            expected += ", the highest label" if highest else ", an answer for each of two classes or more"
            raise TargetError(f"{run.target.name}: {expected}, got {tuple(logits.shape)}")
        run.classes = logits.shape[1]
        run.answers.update(zip(samples, logits.argmax(1).where(logits.isfinite().all(1), -1).tolist(), strict=True))
        right = is_right(logits, labels).tolist()
        margins = margin_of_answer(logits, labels, torch.full_like(labels, -1)).tolist()
        by_sample = dict(zip(samples, zip(right, margins, strict=True), strict=True))
        for sample in run.missing("clean", samples):
            correct, value = by_sample[sample]
            add({"sample": sample, "correct": int(correct), "margin": _number(value), "judged": 1})
    return logits


def _attack(run: Recording, attack: IterativeAttack, samples: Sequence[int], logits: Tensor, bar: tqdm[Any]) -> None:
    """Run a white-box attack, or one that sees answers alone, on the images that have no outcome yet."""
    if run.protocol.before(attack.title):
        _take_over(run, attack, samples, bar)
    left = run.missing(attack.title, samples)
    if not left:
        return
    images, labels = run.batch(left)
    position = {sample: index for index, sample in enumerate(samples)}
    right = is_right(logits, run.images.labels[torch.tensor(samples)].to(logits.device)).tolist()
    with _adding(run, attack.title, bar) as add:

        def record(outcome: attacks.Outcome) -> None:
            success = outcome.fooled and right[position[outcome.sample]]
            add(
                _image(run, outcome.image, success=success)
                | {
                    "sample": outcome.sample,
                    "correct": int(not outcome.fooled and right[position[outcome.sample]]),
                    "step": -1 if outcome.step is None else outcome.step,
                    "margin": _number(outcome.margin),
                    "distance": outcome.distance,
                    "tries": outcome.tries,
                    "forwards": outcome.forwards,
                    "backwards": outcome.backwards,
                    "judged": outcome.judged,
                    "unconfirmed": outcome.unconfirmed,
                }
            )

        clean = logits[[position[sample] for sample in left]]
        reached = torch.tensor(run.reached_before(attack.title, left))
        _look_in_turn(run, attack, _Batch(left, images, labels, clean, reached), record)


def _take_over(run: Recording, attack: IterativeAttack, samples: Sequence[int], bar: tqdm[Any]) -> None:
    """Count the images that attacks before this one fooled as fooled by it too, at no cost."""
    left = run.missing(attack.title, samples)
    with _adding(run, attack.title, bar) as add:
        for entry in run.fooled_before(attack.title, left):
            add({key: value for key, value in entry.items() if key not in ("attack", "seconds")} | NO_COST)


class _Batch(NamedTuple):
    """Images that an attack begins with.

    They are known by their numbers. images: (N, C, H, W). labels: (N,). clean: logits without attack, (N, K). reached:
    the margins under the attacks before it, (N,).
    """

    samples: list[int]
    images: Tensor
    labels: Tensor
    clean: Tensor
    reached: Tensor

    def only(self, samples: Set[int]) -> _Batch:
        """Return those images alone."""
        kept = [index for index, sample in enumerate(self.samples) if sample in samples]
        tensors = (part[kept] for part in (self.images, self.labels, self.clean, self.reached))
        return _Batch([self.samples[index] for index in kept], *tensors)


def _look_in_turn(
    run: Recording, attack: IterativeAttack, batch: _Batch, record: Callable[[attacks.Outcome], None]
) -> None:
    """Run an attack on each form that it looks at, on the images that the forms before did not show how to fool."""
    *before, final = run.target.forms_for(attack, run.protocol.looks)
    held: dict[int, attacks.Outcome] = {}

    def hold(outcome: attacks.Outcome) -> None:
        whole = _together(held.pop(outcome.sample, None), outcome)
        if whole.fooled:
            record(whole)
        else:
            held[whole.sample] = whole

    def finish(outcome: attacks.Outcome) -> None:
        record(_together(held.get(outcome.sample), outcome))

    for number, form in enumerate((*before, final)):
        some = batch.only(held.keys()) if number else batch
        if some.samples:
            attacks.run(
                attack,
                form,
                some.images,
                some.labels,
                eps=run.protocol.eps_value,
                seed=run.protocol.seed,
                samples=some.samples,
                slots=run.protocol.batch,
                judge=run.target.judge,
                clean_logits=some.clean,
                reached=some.reached,
                on_outcome=finish if number == len(before) else hold,
            )


def _together(first: attacks.Outcome | None, second: attacks.Outcome) -> attacks.Outcome:
    """Return the outcome of two attacks on an image, of which the first, if there was one, did not fool the target."""
    if first is None:
        return second
    return replace(
        second,
        margin=max(first.margin, second.margin),
        tries=first.tries + second.tries,
        forwards=first.forwards + second.forwards,
        backwards=first.backwards + second.backwards,
        judged=first.judged + second.judged,
        unconfirmed=first.unconfirmed + second.unconfirmed,
    )


def _transfer(
    runs: Sequence[Recording], attack: IterativeAttack, samples: Sequence[int], logits: Sequence[Tensor], bar: tqdm[Any]
) -> None:
    """Attack the source batch by batch and have every target judge the images."""
    source, batch = runs[0].source, runs[0].protocol.batch
    assert source is not None
    missing = [set(run.missing(attack.title, samples)) for run in runs]
    for start in range(0, len(samples), batch):
        some = samples[start : start + batch]
        if all(left.isdisjoint(some) for left in missing):
            continue
        images, labels = runs[0].batch(some)
        eps, seed = runs[0].protocol.eps_value, runs[0].protocol.seed
        began = time.perf_counter()
        crafted = attacks.craft(
            attack,
            source.form_for(attack),
            images.to(source.device),
            labels.to(source.device),
            eps=eps,
            seed=seed,
            samples=some,
            slots=batch,
        )
        crafting = time.perf_counter() - began  # each document tells what its target alone would have taken
        for run, left, before in zip(runs, missing, logits, strict=True):
            right = is_right(before[start : start + batch], labels)
            _judge_transfer(run, attack, some, left, crafted, right, bar, crafting=crafting)


def _judge_transfer(
    run: Recording,
    attack: IterativeAttack,
    samples: Sequence[int],
    left: Set[int],
    crafted: Sequence[attacks.Outcome],
    right: Tensor,
    bar: tqdm[Any],
    *,
    crafting: float,
) -> None:
    """Add a target's verdicts on the images that were made on the source; an image that was wrong before stays wrong.

    An image outside the ball, as attacks that look for the smallest distance may give, does not fool the target.
    crafting: the seconds that it took to make the images.
    """
    images, labels = run.batch(samples)
    with _adding(run, attack.title, bar, since=time.perf_counter() - crafting) as add:
        adversarial = torch.stack([outcome.image for outcome in crafted]).to(images.device)
        logits = run.judged(adversarial)
        distances = length(adversarial - images, attack.ball)
        outside = ~within(distances, run.protocol.eps_value)
        correct = ((is_right(logits, labels) | outside) & right).tolist()
        margins = margin_of_answer(logits, labels, torch.full_like(labels, -1)).tolist()
        right_before = right.tolist()
        for index, sample in enumerate(samples):
            if sample in left:
                success = right_before[index] and not correct[index]
                add(
                    _image(run, adversarial[index], success=success)
                    | {
                        "sample": sample,
                        "correct": int(correct[index]),
                        "margin": _number(margins[index]),
                        "distance": float(distances[index]),
                        "tries": crafted[index].tries,
                        "forwards": crafted[index].forwards,
                        "backwards": crafted[index].backwards,
                        "judged": 1,
                    }
                )


def _attack_batches(run: Recording, attack: BatchAttack, samples: Sequence[int], bar: tqdm[Any]) -> None:
    """Attack batch by batch, as each image's outcome depends on the others beside it.

    Out of memory, a batch is attacked in halves. That changes its outcomes, so the document states it.
    """
    whole = size = run.protocol.batch
    left, start = set(run.missing(attack.title, samples)), 0
    with _adding(run, attack.title, bar) as add:
        while start < len(samples):
            end = min(start + size, (start // whole + 1) * whole)
            some = samples[start:end]
            if not left.isdisjoint(some):
                images, labels = run.batch(some)
                eps, forms = run.protocol.eps_value, run.target.forms_for(attack, run.protocol.looks)
                try:
                    outcomes = [
                        attack.run_batch(form, images, labels, eps=eps, seed=run.protocol.seed) for form in forms
                    ]
                except torch.OutOfMemoryError:
                    if size == 1:
                        raise
                    size //= 2
                    start -= start % whole  # the same parts after an interruption, which leaves some of them done
                    continue
                flags = tuple(dict.fromkeys(flag for outcome in outcomes for flag in outcome.flags))
                if size < whole:
                    flags += (f"out of memory: attacked in batches of {size} instead of {whole}",)
                wrong = [(~is_right(run.judged(outcome.images), labels)).tolist() for outcome in outcomes]
                looks = zip(*map(partial(_entries, run), outcomes, wrong), strict=True)
                for sample, entries in zip(some, looks, strict=True):
                    if sample in left:
                        add({"sample": sample, **_worst(entries), "flags": flags})
                left.difference_update(some)
            start = end


def _image(run: Recording, image: Tensor, *, success: bool) -> dict[str, str]:
    """Return the part of an entry that keeps an adversarial image, (C, H, W), where a run keeps those that succeed."""
    return {"image": packed(image)} if run.keep_images and success else {}


def _entries(run: Recording, outcome: BatchOutcome, confirmed: Sequence[bool]) -> Iterator[dict[str, Any]]:
    """Yield an entry for each image. confirmed: whether the target, asked again, is wrong on it."""
    for index, (fooled, wrong) in enumerate(zip(outcome.fooled, confirmed, strict=True)):
        success = fooled and wrong and outcome.broken_by[index] != "clean"
        yield _image(run, outcome.images[index], success=success) | {
            "correct": int(not (fooled and wrong)),
            "margin": _number(outcome.margins[index]),
            "distance": outcome.distances[index],
            "forwards": _share(outcome.forwards, index, len(confirmed)),
            "backwards": _share(outcome.backwards, index, len(confirmed)),
            "judged": 1,
            "unconfirmed": int(outcome.unconfirmed[index] or (fooled and not wrong)),
            "broken_by": outcome.broken_by[index] if fooled and wrong else None,
        }


def _worst(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the entry of an image that was attacked through several forms: the first that fooled, and all costs."""
    worst = min(entries, key=itemgetter("correct"))
    sums = {name: sum(entry[name] for entry in entries) for name in ("forwards", "backwards", "judged", "unconfirmed")}
    return worst | sums


def _share(total: int, index: int, count: int) -> int:
    """Return the share of the part `index` if a total is spread over `count` parts as evenly as integers allow."""
    return total // count + (index < total % count)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
