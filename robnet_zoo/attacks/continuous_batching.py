"""Continuous batching: a fixed number of slots, each with an image of its own at a step of its own.

A slot whose image is fooled or finished takes the next image, so every row of every batch works. The fast form of a
model proposes. The original judges every success that it claims, in float32 and eval mode and in separate batches, and
an image whose success is not confirmed goes back to where it was. Random numbers are keyed by sample and batches keep
their shape, so neither the order nor the other images change what happens to an image. At the end, when the queue is
empty, idle slots look ahead if the attack can: they ask an image's next queries in advance, as they are if the earlier
ones bring nothing, and what follows one that does is dropped. Slots that are idle even so are left out of the batch, if
the smaller one has been seen to give the same bits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import takewhile

import torch
from torch import Tensor

from robnet_zoo.attacks.arguments import check_classifier, check_images, check_number, class_numbers, described, radii
from robnet_zoo.attacks.attack import MOST_SLOTS, Classifier, IterativeAttack, Rows, Seen
from robnet_zoo.attacks.ball import in_box, length, within
from robnet_zoo.attacks.losses import is_fooled, margin_of_answer
from robnet_zoo.attacks.outcome import Outcome
from robnet_zoo.attacks.random import Key
from robnet_zoo.core.wording import counted
from robnet_zoo.errors import AttackError, RobnetZooError

FORESIGHT = 32  # queries of an image at once, at most
FEW = 8  # slots, from which on batches are only halved, as each width may need a trace or a CUDA graph of its own


@dataclass
class _Job:
    """One image on its way through tries and slots."""

    index: int  # among the images given
    attempt: int = 0
    rows: Rows | None = None  # where it resumes, if it was taken out of its slot
    learnt: Rows = field(default_factory=dict)  # by the tries before
    candidate: Tensor | None = None  # (C, H, W), to be judged
    step: int = 0  # at which the candidate was seen
    final: bool = False  # whether nothing comes after the candidate in this try
    margin: float = -float("inf")
    forwards: int = 0
    backwards: int = 0
    judged: int = 0
    unconfirmed: int = 0
    best: tuple[float, Tensor, int] | None = None  # distance, image and step of the nearest success so far


def run(
    attack: IterativeAttack,
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | Tensor,
    targets: Tensor | None = None,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    slots: int = 64,
    judge: Classifier | None = None,
    early: bool = True,
    clean_logits: Tensor | None = None,
    reached: Tensor | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Attack images, and return their outcomes, in the order of the images.

    An image that the judge gets wrong without attack counts as fooled at step 0. An answer that is not finite is wrong.
    An image outside the ball or the box, or one that the model claims and the judge does not confirm, is not a success
    and counts as `unconfirmed`. When an accelerator is out of memory, the number of slots is halved.

    Args:
        attack: what moves the images.
        model: the classifier that the attack looks at.
        images: (N, C, H, W) in [0, 1].
        labels: integers of any type, (N,) or (N, 1).
        eps: the radius of the balls in image units, a number or (N,).
        targets: (N,), the classes to reach; without them any wrong class is a success.
        seed: of all random numbers.
        samples: N numbers that key the random numbers of the images, by default 0 to N - 1.
        slots: how many images are attacked at once.
        judge: the classifier that decides on success, by default the model. Another one makes this a transfer attack,
            for which `early` should be False: then every image runs its full length, and its last iterate is judged.
        early: whether an image is done as soon as it is fooled.
        clean_logits: (N, K), the judge's, if they are known already.
        reached: (N,), the largest margins that attacks before this one came to, for an attack that asks for them.
        on_outcome: is called with each outcome as it comes.

    Raises:
        AttackError: images leave [0, 1] or are none that the model takes, labels or targets are not classes of the
            model, a target is the label, eps is not a radius, there are too few classes for the attack, the model has
            no gradients that the attack asks for or is in training mode, or there is not a single slot.
    """
    return Batcher(
        attack,
        model,
        images,
        labels,
        eps=eps,
        targets=targets,
        seed=seed,
        samples=samples,
        slots=slots,
        judge=model if judge is None else judge,
        early=early,
        clean_logits=clean_logits,
        reached=reached,
        on_outcome=on_outcome,
    ).run()


def craft(
    attack: IterativeAttack,
    model: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | Tensor,
    targets: Tensor | None = None,
    seed: int = 0,
    samples: Sequence[int] | None = None,
    slots: int = 64,
) -> list[Outcome]:
    """Return adversarial images for others to judge: each runs the full length of one try and counts as not fooled.

    Images that the model gets wrong without attack are attacked like all others.

    Args:
        attack: what moves the images.
        model: the classifier that the attack looks at.
        images: (N, C, H, W) in [0, 1].
        labels: (N,).
        eps: the radius of the balls in image units, a number or (N,).
        targets: (N,), the classes to reach; without them any wrong class is a success.
        seed: of all random numbers.
        samples: N numbers that key the random numbers of the images, by default 0 to N - 1.
        slots: how many images are attacked at once.

    Raises: AttackError as `run` does.
    """
    batcher = Batcher(attack, model, images, labels, eps=eps, targets=targets, seed=seed, samples=samples, slots=slots)
    return batcher.run()


@dataclass
class Batcher:
    """One call of `run` or, without a judge, of `craft`: its arguments, the slots and the jobs in and outside them."""

    attack: IterativeAttack
    model: Classifier
    images: Tensor
    labels: Tensor
    _: KW_ONLY
    eps: float | Tensor
    targets: Tensor | None = None
    seed: int = 0
    samples: Sequence[int] | None = None
    slots: int = 64
    judge: Classifier | None = None  # None: nothing is judged
    early: bool = False
    clean_logits: Tensor | None = None
    reached: Tensor | None = None
    on_outcome: Callable[[Outcome], None] = lambda outcome: None
    rows: Rows = field(default_factory=dict)
    jobs: list[_Job | None] = field(default_factory=list)  # of each slot
    refused: set[int] = field(default_factory=set)  # widths of a batch that gave other bits
    queue: deque[_Job] = field(default_factory=deque)
    waiting: list[_Job] = field(default_factory=list)  # to be judged
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def run(self) -> list[Outcome]:
        """Attack all images, and return their outcomes, in the order of the images."""
        self._check()
        if not len(self.images):
            return []
        self.jobs = [None] * self.slots
        looked = int(self.clean_logits is None)
        while self.clean_logits is None:
            try:
                chunks = [self._judged(self.images[i : i + self.slots]) for i in range(0, len(self.images), self.slots)]
                self.clean_logits = torch.cat(chunks)
            except torch.OutOfMemoryError:
                self._halve()
            except RobnetZooError:
                raise
            except RuntimeError as error:  # of torch, for another dtype or shape than the model's
                text = " ".join(str(error).split())[:200]
                raise AttackError(
                    f"expected images that the model takes, got {described(self.images)}: {text}"
                ) from error
        self._start(looked)
        while self.queue or self.waiting or any(self.jobs):
            try:
                self._fill()
                if any(self.jobs):
                    self._step()
                if len(self.waiting) >= self.slots or not (self.queue or any(self.jobs)):
                    self._confirm()
            except torch.OutOfMemoryError:
                self._halve()
        return [self.outcomes[index] for index in range(len(self.images))]

    def _check(self) -> None:
        if not isinstance(self.attack, IterativeAttack):
            raise AttackError(f"expected an attack that moves image by image, got {type(self.attack).__name__}")
        for classifier in (self.model, self.judge):
            if classifier is not None:
                check_classifier(classifier)
        self.early = self.early and self.attack.early
        check_number("slots", self.slots, least=1, most=MOST_SLOTS)
        check_number("seed", self.seed, least=0)
        check_images(self.images)
        count = len(self.images)
        self.labels = class_numbers(self.labels, self.images)
        if self.targets is None:
            self.targets = torch.full_like(self.labels, -1)
        else:
            self.targets = class_numbers(self.targets, self.images, name="targets")
            if same := int((self.targets == self.labels).sum()):
                raise AttackError(
                    f"expected other classes than the labels as targets, got the label of {counted(same, 'image')}"
                )
        self.eps = radii(self.eps, self.images, norm=self.attack.ball, minimal=self.attack.minimal)
        if self.reached is None:
            self.reached = self.images.new_full((count,), -torch.inf)
        if self.reached.shape != (count,):
            raise AttackError(f"expected reached of shape {(count,)}, got {tuple(self.reached.shape)}")
        self.reached = self.reached.to(self.images)
        self.samples = range(count) if self.samples is None else self.samples
        if len(self.samples) != count:
            raise AttackError(f"expected {count} samples, a number for each image, got {len(self.samples)}")

    def _start(self, looked: int) -> None:
        """Queue what the judge gets right; the rest is fooled. looked: how often the judge has seen each image."""
        assert self.clean_logits is not None
        assert self.targets is not None
        classes = self.clean_logits.shape[1]
        lowest = int(min(self.labels.min(), self.targets.min() + 1))  # -1 for no target
        highest = int(max(self.labels.max(), self.targets.max()))
        if lowest < 0 or highest >= classes:
            raise AttackError(f"expected labels and targets from 0 to {classes - 1}, got {lowest} to {highest}")
        self.attack.check(classes)
        margins = margin_of_answer(self.clean_logits, self.labels, self.targets).tolist()
        fooled = is_fooled(self.clean_logits, self.labels, self.targets).tolist()
        # Those that withstand run longest: when they come first, slots stay full to the end.
        for index in sorted(range(len(margins)), key=lambda index: margins[index]):
            job = _Job(index, margin=margins[index], judged=looked)
            if fooled[index] and self.judge is not None:
                self._finish(job, self.images[index], fooled=True, step=0)
            else:
                self.queue.append(job)

    def _fill(self) -> None:
        """Put queued jobs into the free slots."""
        if len(self.queue) > self.jobs.count(None) and len(self.jobs) < self.slots:
            self._resize(range(len(self.jobs)), self.slots)
        free = [slot for slot, job in enumerate(self.jobs) if job is None]
        assigned = list(zip(free, self.queue, strict=False))
        fresh = [(slot, job) for slot, job in assigned if job.rows is None]
        if fresh:
            self._place([slot for slot, _ in fresh], self._begin([job for _, job in fresh]))
        for slot, job in assigned:
            if job.rows is not None:
                self._place([slot], {key: value[None] for key, value in job.rows.items()})
        for slot, job in assigned:  # only now, as memory may run out before
            job.rows, self.jobs[slot] = None, self.queue.popleft()

    def _begin(self, jobs: Sequence[_Job]) -> Rows:
        index = torch.tensor([job.index for job in jobs], device=self.images.device)
        assert isinstance(self.eps, Tensor)
        assert self.targets is not None
        assert self.clean_logits is not None
        assert self.samples is not None
        assert self.reached is not None
        rows = {
            "clean": self.images[index],
            "label": self.labels[index],
            "target": self.targets[index],
            "eps": self.eps[index][:, None, None, None],
            "clean_logits": self.clean_logits[index],
            "reached": self.reached[index],
            "t": torch.zeros_like(index),
        }
        for name, values in self.attack.unknown(rows).items():
            rows[name] = torch.stack([job.learnt.get(name, value) for job, value in zip(jobs, values, strict=True)])
        self.attack.begin(rows, [Key(self.seed, self.samples[job.index], job.attempt) for job in jobs])
        return rows

    def _place(self, slots: Sequence[int], rows: Rows) -> None:
        if not self.rows:  # every slot gets a row, so that shapes stay the same
            tiled = _tiled(range(len(slots)), self.slots)
            self.rows = {key: value[tiled].clone() for key, value in rows.items()}
        where = torch.tensor(slots, device=self.images.device)
        for key, value in rows.items():
            self.rows[key] = self.rows[key].index_copy(0, where, value)

    def _step(self) -> None:
        """Query the model once, and take one step in every slot, or several where idle slots looked ahead."""
        asked, queries = self._look_ahead()
        asked, seen, passed = self._reach(asked, self.attack.query(self.model, asked), queries)
        rows = dict(asked)
        margins = margin_of_answer(seen.logits, rows["label"], rows["target"])
        self.attack.advance(rows, seen)
        rows["t"] = rows["t"] + 1
        claimed = margins > 0 if self.early else torch.zeros_like(margins, dtype=torch.bool)
        finished = self.attack.finished(rows)
        flags = torch.stack([claimed.double(), finished.double(), margins.double()]).tolist()  # one transfer
        self.rows = rows  # only now, as memory may run out before
        for slot, job in enumerate(self.jobs):
            if job is None:
                continue
            is_claimed, is_finished, value = (row[slot] for row in flags)
            job.forwards += seen.forwards * (1 + len(passed[slot]))
            job.backwards += seen.backwards * (1 + len(passed[slot]))
            if self.early:  # a claim, or what the source of a transfer says, is not the judge's
                job.margin = max([job.margin, *passed[slot], *([] if is_claimed else [value])])
            if is_claimed or is_finished:
                self._park(slot, job, None if not is_claimed else asked["x"][slot])
        self._shrink(asked, seen)

    @property
    def _depth(self) -> int:
        """Return how many queries of an image may be asked at once."""
        return FORESIGHT if self.attack.foreseeable else 1

    def _look_ahead(self) -> tuple[Rows, list[list[int]]]:
        """Return the rows to ask, and for each slot the rows of its queries, in order: its own, then idle slots'."""
        rows, queries = self.rows, [[slot] for slot in range(len(self.jobs))]
        owners = [slot for slot, job in enumerate(self.jobs) if job is not None]
        idle = [slot for slot, job in enumerate(self.jobs) if job is None]
        if not idle or self._depth == 1:
            return rows, queries
        taken, ahead = 0, [{key: value[owners] for key, value in rows.items()}]
        while taken < len(idle) and len(ahead) < self._depth:
            count = min(len(owners), len(idle) - taken)
            ahead.append(self.attack.foreseen({key: value[:count] for key, value in ahead[-1].items()}))
            for owner, row in zip(owners, idle[taken : taken + count], strict=False):
                queries[owner].append(row)
            taken += count
        where = torch.tensor(idle[:taken], device=self.images.device)
        later = {key: torch.cat([part[key] for part in ahead[1:]]) for key in rows}
        return {key: value.index_copy(0, where, later[key]) for key, value in rows.items()}, queries

    def _reach(self, rows: Rows, seen: Seen, queries: list[list[int]]) -> tuple[Rows, Seen, list[list[float]]]:
        """Return, for each slot, the query that its search reaches, the answer, and the margins of those it passed."""
        if all(len(own) == 1 for own in queries):
            return rows, seen, [[] for _ in queries]
        margins = margin_of_answer(seen.logits, rows["label"], rows["target"])
        over = self.attack.finished(rows | {"t": rows["t"] + 1})
        ends = ((margins > 0) & self.early) | self.attack.brings(rows, seen) | over
        is_end, value = torch.stack([ends.double(), margins.double()]).tolist()  # one transfer
        passed = [list(takewhile(lambda row: not is_end[row], own[:-1])) for own in queries]
        reached = [own[len(before)] for own, before in zip(queries, passed, strict=True)]
        answers = Seen(seen.logits[reached], forwards=seen.forwards, backwards=seen.backwards)
        margins_passed = [[value[row] for row in before] for before in passed]
        return {key: tensor[reached] for key, tensor in rows.items()}, answers, margins_passed

    def _shrink(self, asked: Rows, seen: Seen) -> None:
        """Leave out slots that are idle, once nothing waits for them and a quarter of them are, or half of a few.

        Slots that look ahead are not idle. asked, seen: the last query. The narrower batch has to answer it with the
        same bits, or outcomes would depend on which other images are attacked. If it does not, its width is not tried
        again.
        """
        busy = [slot for slot, job in enumerate(self.jobs) if job is not None]
        if self.queue or not busy:
            return
        wanted = min(len(busy) * self._depth, len(self.jobs))
        allowed = (set(self._widths()) - self.refused) | {len(self.jobs)}
        width = min(width for width in allowed if width >= wanted)
        if width == len(self.jobs):
            return
        kept = _tiled(busy, width)
        again = self.attack.query(self.model, {key: value[kept] for key, value in asked.items()})
        if torch.equal(again.logits, seen.logits[kept]) and (
            again.gradient is None or seen.gradient is None or torch.equal(again.gradient, seen.gradient[kept])
        ):
            self._resize(busy, width)
        else:
            self.refused.add(width)

    def _widths(self) -> Iterator[int]:
        """Yield what a batch may be cut down to: halves of halves and, of more than a few slots, three quarters too."""
        width = self.slots
        while width > 1:
            if width > FEW:
                yield width * 3 // 4
            width //= 2
            yield width

    def _resize(self, slots: Sequence[int], width: int) -> None:
        """Keep these slots, in a batch of another width."""
        self.rows = {key: value[_tiled(slots, width)] for key, value in self.rows.items()}
        self.jobs = [self.jobs[slot] for slot in slots] + [None] * (width - len(slots))

    def _park(self, slot: int, job: _Job, claimed: Tensor | None) -> None:
        """Take a job out of its slot and have its candidate judged."""
        job.rows = {key: value[slot].clone() for key, value in self.rows.items()}
        job.step = int(job.rows["t"]) - (claimed is not None)
        job.final = claimed is None
        job.candidate = claimed.clone() if claimed is not None else self._last(job)
        self.jobs[slot] = None
        self.waiting.append(job)

    def _last(self, job: _Job) -> Tensor:
        assert job.rows is not None
        rows = {key: value[None] for key, value in job.rows.items()}
        return self.attack.result(rows, rows["x"])[0]

    def _judged(self, images: Tensor) -> Tensor:
        return in_full_batch(self.model if self.judge is None else self.judge, images, self.slots)

    def _confirm(self) -> None:
        """Judge the candidates that wait, a full batch of them at most."""
        jobs = self.waiting[: self.slots]
        if self.judge is None:
            for job in jobs:
                assert job.candidate is not None
                self._finish(job, job.candidate, fooled=False, step=None)
            del self.waiting[: len(jobs)]
            return
        candidates = torch.stack([job.candidate for job in jobs if job.candidate is not None])
        index = torch.tensor([job.index for job in jobs], device=self.images.device)
        assert self.targets is not None
        labels, targets = self.labels[index], self.targets[index]
        logits = self._judged(candidates)
        del self.waiting[: len(jobs)]  # after the forward, which may run out of memory
        inside = self._inside(candidates, index)
        fooled = is_fooled(logits, labels, targets)
        margins = torch.where(inside, margin_of_answer(logits, labels, targets), -torch.inf)
        flags = torch.stack([fooled & inside, fooled & ~inside]).tolist()
        for job, success, outside, value in zip(jobs, *flags, margins.tolist(), strict=True):
            job.judged += 1
            job.margin = max(job.margin, value)
            job.unconfirmed += outside and job.final  # one that is not final is counted with the claims
            self._decide(job, success)

    def _decide(self, job: _Job, success: bool) -> None:
        assert job.candidate is not None
        assert job.rows is not None
        if success and self.attack.minimal:
            self._keep(job)
        elif success:
            self._finish(job, job.candidate, fooled=True, step=job.step)
            return
        if not job.final:
            job.unconfirmed += 1
            if bool(self.attack.finished({key: value[None] for key, value in job.rows.items()})):
                job.candidate, job.final, job.step = self._last(job), True, int(job.rows["t"])
                self.waiting.append(job)
            else:
                self.queue.appendleft(job)
            return
        assert self.clean_logits is not None
        if job.attempt + 1 < self.attack.tries(self.clean_logits.shape[1]):
            learnt = self.attack.learnt({key: value[None] for key, value in job.rows.items()})
            job.learnt = {key: value[0] for key, value in learnt.items()}
            job.attempt, job.rows = job.attempt + 1, None
            self.queue.appendleft(job)  # so that an image is done before others begin, and little is lost if all stops
        elif job.best is not None:
            distance, image, step = job.best
            assert isinstance(self.eps, Tensor)
            inside = bool(within(torch.tensor(distance), self.eps[job.index].cpu()))
            self._finish(job, image, fooled=inside, step=step if inside else None)
        else:
            self._finish(job, job.candidate, fooled=False, step=None)

    def _keep(self, job: _Job) -> None:
        """Remember the nearest success of all tries."""
        assert job.candidate is not None
        distance = float(length((job.candidate - self.images[job.index])[None], self.attack.ball))
        if job.best is None or distance < job.best[0]:
            job.best = (distance, job.candidate, job.step)

    def _inside(self, candidates: Tensor, index: Tensor) -> Tensor:
        """Return which candidates lie in [0, 1] and, unless the attack is minimal, in their balls: bool (N,)."""
        boxed = in_box(candidates)
        if self.attack.minimal:
            return boxed
        assert isinstance(self.eps, Tensor)
        return boxed & within(length(candidates - self.images[index], self.attack.ball), self.eps[index])

    def _finish(self, job: _Job, image: Tensor, *, fooled: bool, step: int | None) -> None:
        assert self.samples is not None
        outcome = Outcome(
            sample=self.samples[job.index],
            image=image,
            fooled=fooled,
            step=step,
            margin=job.margin,
            distance=float(length((image - self.images[job.index])[None], self.attack.ball)),
            tries=job.attempt + 1,
            forwards=job.forwards,
            backwards=job.backwards,
            judged=job.judged,
            unconfirmed=job.unconfirmed,
        )
        self.outcomes[job.index] = outcome
        self.on_outcome(outcome)

    def _halve(self) -> None:
        """Go on with half as many slots, and put what they hold back into the queue."""
        if self.slots == 1:
            raise
        held = [(slot, job) for slot, job in enumerate(self.jobs) if job is not None]
        for slot, job in reversed(held):
            job.rows = {key: value[slot].clone() for key, value in self.rows.items()}
            self.queue.appendleft(job)
        self.slots //= 2
        self.jobs, self.rows = [None] * self.slots, {}


@torch.no_grad()
def in_full_batch(model: Classifier, images: Tensor, size: int) -> Tensor:
    """Return the logits, (N, K), of images in a batch that always has the same shape.

    Args:
        model: the classifier.
        images: (N, C, H, W); N is at most `size`.
        size: of the batch, which the first image fills up.

    Raises: AttackError if the classifier gives anything else.
    """
    count = len(images)
    if count < size:
        images = torch.cat([images, images[:1].expand(size - count, -1, -1, -1)])
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise AttackError(f"expected logits (N, K) of {len(images)} images, got {got}")
    return logits[:count]


def _tiled(slots: Sequence[int], width: int) -> list[int]:
    """Return `width` slots, these again and again, so that every row of a batch has something to compute."""
    return [slots[i % len(slots)] for i in range(width)]
