"""A results document in the making: a target, its images, the outcomes so far, and the document that they give."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robnet_zoo.attacks import Attack, IterativeAttack
from robnet_zoo.attacks.arguments import radii
from robnet_zoo.attacks.continuous_batching import in_full_batch
from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.examples import examples
from robnet_zoo.benchmarks.journal import Journal, lock_file
from robnet_zoo.benchmarks.kept import check_keeping, kept_path, load_kept, save_kept
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import LEDGER, Alarm, DataIdentity, Measurement, Result, Shard, measured, worst_case
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.documents import Document
from robnet_zoo.core.environment import device, software
from robnet_zoo.core.wording import counted
from robnet_zoo.data import Images, check_fits
from robnet_zoo.errors import DataError, DocumentError, TargetError

CHUNK = 32  # batches whose float32 images are held in memory at once
SINGULAR = {"steps": "step", "margins": "margin", "distances": "distance"}  # of a ledger's list, in an entry


@dataclass
class Recording:
    """A results document in the making.

    Args:
        target: it is measured.
        images: the protocol's images, the first ones of `whole`.
        protocol: says how.
        source: in a transfer, the model that the attacks look at.
        shard: the part of the images that this process measures, or None for all of them.
        output: where the document is saved.
        keep_images: whether the adversarial images are saved beside it.

    Raises: DataError if the images do not fit, or the document cannot be written there; AttackError for a radius that
        is none; TargetError for a model that is no target.
    """

    target: Target
    images: Images
    protocol: Protocol
    source: Target | None
    shard: Shard | None
    output: Path | None
    keep_images: bool = False
    whole: Images = field(init=False)
    journal: Journal = field(init=False)
    alarms: list[Alarm] = field(default_factory=list)  # what the target's checks raised
    answers: dict[int, int] = field(default_factory=dict)  # the class of each image without attack, -1 if not finite
    classes: int = 0  # of the target, once it has answered

    def __post_init__(self) -> None:
        for model in (self.target, *([] if self.source is None else [self.source])):
            if not isinstance(model, Target):
                made = "of_module(model, name=...) or load_target(NAME)"
                raise TargetError(f"expected a target, made by {made}, got {type(model).__name__}")
        if not isinstance(self.images, Images):
            raise DataError(f"expected images as data.load(NAME) gives them, got {type(self.images).__name__}")
        self.whole = self.images
        self.images = _fitting(self.target, self.images, self.protocol)
        count = 1 if self.shard is None else self.shard.count
        if len(self.images) <= (count - 1) * self.protocol.batch:
            expected = f"expected at least {count} batches of {self.protocol.batch} for as many shards"
            advice = "take fewer shards, more images (-n) or a smaller batch (--batch)"
            raise DataError(f"{self.images.name}: {expected}, got {counted(len(self.images), 'image')}; {advice}")
        image = self.images.batch(slice(1))[0]
        for attack in self.protocol.attacks:
            radii(self.protocol.eps_value, image, norm=attack.ball, minimal=attack.minimal)
        if self.keep_images:
            check_keeping(self.output, sharded=self.shard is not None)
        path = None if self.output is None else self.output.absolute()
        if path is not None and (
            (path.exists() and not path.is_file()) or any(p.exists() and not p.is_dir() for p in path.parents)
        ):
            raise DataError(f"{self.output}: expected the path of a file to write, got one that cannot be")

    @property
    def samples(self) -> list[int]:
        """Return the images that this process measures."""
        shard = self.shard or Shard(index=0, count=1)
        return shard.samples(len(self.images), self.protocol.batch)

    @property
    def chunks(self) -> list[list[int]]:
        """Return `samples` in the parts that are measured one after another."""
        samples, size = self.samples, CHUNK * self.protocol.batch
        return [samples[start : start + size] for start in range(0, len(samples), size)]

    @property
    def data(self) -> DataIdentity:
        """Return the identity of the images."""
        images = self.images
        return DataIdentity(name=images.name, sha256=images.sha256, n=len(images), classes=tuple(images.classes))

    def finished(self) -> Result | None:
        """Return the document of this very run if it is there and complete. Raises DataError if another one is."""
        if self.output is None or not self.output.exists():
            return None
        advice = "take another --output, or delete the file"
        try:
            written = Result.load(self.output)
        except DocumentError as error:
            raise DataError(f"{error}; expected no file or the document of this run there; {advice}") from error
        source = None if self.source is None else self.source.identity
        pairs = {  # the document's, and this run's
            "model": (written.model, self.target.identity),
            "source": (written.source, source),
            "n": (written.data.n, self.data.n),
            "data": (written.data.name, self.data.name),
            "choice of images": (written.data, self.data),
            "shard": (written.shard, self.shard),
            "version": (written.software, software()),
            **{f"protocol.{name}": (getattr(written.protocol, name), value) for name, value in self.protocol},
        }
        differing = [name for name, (there, here) in pairs.items() if there != here]
        if "n" in differing or "data" in differing:  # which alone make the images others
            differing = [name for name in differing if name not in ("choice of images", "protocol.n")]
        if differing:
            got = f"got one that differs in {', '.join(differing)}"
            raise DataError(f"{self.output}: expected no file or the document of this run, {got}; {advice}")
        if written.complete and self.keep_images:
            load_kept(self.output, written)
        if written.complete and (journal := self._journal_path) is not None:
            for leftover in (journal, lock_file(journal)):  # of a process that was killed between its last two steps
                leftover.unlink(missing_ok=True)
        return written if written.complete else None

    @property
    def _journal_path(self) -> Path | None:
        return None if self.output is None else self.output.with_name(f"{self.output.name}.journal")

    def open(self) -> Journal:
        """Open the journal, whose key holds whatever decides an outcome. Raises DocumentError for another run's."""
        parts: tuple[Document | None, ...] = (
            self.protocol,
            self.target.identity,
            None if self.source is None else self.source.identity,
            self.shard,
            self.data,
        )
        text = [device(self.target.device), *(part.dumps() if part else "" for part in parts)]
        if self.keep_images:
            text.append("with images")
        key = hashlib.sha256(repr([*text, sorted(software().items())]).encode()).hexdigest()
        self.journal = Journal(self._journal_path, key)
        return self.journal

    def save(self, result: Result) -> Result:
        """Save a document, after the images that it is to keep, and return it with their hash."""
        if self.output is not None:
            if self.keep_images:
                path = kept_path(self.output)
                sha256 = save_kept(path, self.journal.entries, shape=self.images.shape)
                result = result.model_copy(update={"images_sha256": sha256})
            result.save(self.output)
        return result

    def missing(self, attack: str, samples: Sequence[int]) -> list[int]:
        """Return those of these images whose outcome under an attack the journal does not hold yet."""
        done = {entry["sample"] for entry in self.journal.entries if entry["attack"] == attack}
        return [sample for sample in samples if sample not in done]

    def fooled_before(self, attack: str, samples: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yield the outcome of each of these images that attacks before this one fooled, if they run in turn."""
        before, wanted = self.protocol.before(attack), set(samples)
        for entry in self.journal.entries:
            if entry["attack"] in before and not entry["correct"] and entry["sample"] in wanted:
                wanted.remove(entry["sample"])
                yield entry

    def reached_before(self, attack: str, samples: Sequence[int]) -> list[float]:
        """Return the largest margin of each image under the attacks before this one, if they run in turn.

        It is -infinity where there were none or where the margin is not finite.
        """
        before, reached = self.protocol.before(attack), dict.fromkeys(samples, -math.inf)
        for entry in self.journal.entries:
            if entry["attack"] in before and entry["sample"] in reached and entry["margin"] is not None:
                reached[entry["sample"]] = max(reached[entry["sample"]], entry["margin"])
        return list(reached.values())

    def batch(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return images (N, C, H, W) and labels (N,) on the target's device."""
        images, labels = self.images.batch(torch.tensor(samples))
        return images.to(self.target.device), labels.to(self.target.device)

    def judged(self, images: Tensor) -> Tensor:
        """Return the target's logits, (N, K), computed in batches that are always full."""
        size, start, logits = self.protocol.batch, 0, []
        while start < len(images):
            some = images[start : start + size]
            try:
                logits.append(in_full_batch(self.target.judge, some, size))
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size //= 2
                continue
            start += len(some)
        return torch.cat(logits)

    def document(self, *, complete: bool) -> Result:
        """Return the results document of what the journal holds.

        A white-box attack is done first with the images that it fools, so a document that is not complete has no part
        of a chunk: most of its images would be fooled, which says nothing of the others.
        """
        titles = ["clean", *(attack.title for attack in self.protocol.attacks)]
        entries: dict[str, list[dict[str, Any]]] = {title: [] for title in titles}
        for entry in self.journal.entries:
            entries[entry["attack"]].append(entry)
        attack_of: dict[str, Attack] = {attack.title: attack for attack in self.protocol.attacks}
        if not complete and self.source is None:
            for title, attack in attack_of.items():
                if isinstance(attack, IterativeAttack):
                    done = {entry["sample"] for entry in entries[title]}
                    kept = {sample for chunk in self.chunks if done.issuperset(chunk) for sample in chunk}
                    entries[title] = [entry for entry in entries[title] if entry["sample"] in kept]
        measurements = tuple(
            _measurement(title, attack_of.get(title), sorted(outcomes, key=itemgetter("sample")), complete=complete)
            for title, outcomes in entries.items()
            if outcomes
        )
        result = Result(
            protocol=self.protocol,
            model=self.target.identity,
            source=None if self.source is None else self.source.identity,
            provenance=self.target.provenance,
            data=self.data,
            shard=self.shard,
            complete=complete,
            software=software(),
            device=device(self.target.device),
            measurements=measurements,
        )
        if not complete:
            return result
        whole: dict[str, Any] = {"alarms": self._all_alarms(result)}
        if len(measurements) > 1:
            whole["worst_case"] = worst_case(measurements)
        if self.source is None:
            whole["examples"] = examples(self.target, self.images, self.protocol, self.samples, measurements)
        return result.model_copy(update=whole)

    def _all_alarms(self, result: Result) -> tuple[Alarm, ...]:
        """Return the alarms of the target's checks, of its answers and all outcomes; the latter count more."""
        labels = self.images.labels[torch.tensor(self.samples)].tolist()
        answers = [self.answers[sample] for sample in self.samples]
        counted = alarms.from_result(result)
        seen = [alarm for alarm in self.alarms if alarm.name not in {other.name for other in counted}]
        return (*seen, *alarms.from_answers(answers, labels, classes=self.classes), *counted)


def _fitting(target: Target, images: Images, protocol: Protocol) -> Images:
    """Return the images of the protocol. Raises DataError if they cannot be shown to the target."""
    if protocol.n is not None:
        if protocol.n > len(images):
            n = len(images)
            advice = f"-n {n}, or protocol.model_copy(update={{'n': {n}}}) in Python, takes them all"
            expected = f"expected {counted(protocol.n, 'image')} for {protocol.name}"
            raise DataError(f"{images.name}: {expected}, got {n:,}; {advice}")
        images = images[: protocol.n]
    wanted = protocol.data
    if wanted and wanted.sha256 and images.sha256 != wanted.sha256:
        expected = f"expected the images of {protocol.name}, {wanted.name} (sha256 {wanted.sha256[:12]})"
        raise DataError(f"{images.name}: {expected}, got others ({images.sha256[:12]})")
    if target.num_classes is not None and images.classes and len(images.classes) > target.num_classes:
        names = ", ".join(images.classes[:3]) + (", ..." if len(images.classes) > 3 else "")
        expected = f"expected images of at most the {target.num_classes} classes of {target.name}"
        raise DataError(f"{images.name}: {expected}, got {len(images.classes)}: {names}")
    if target.input_size is not None and target.num_classes is not None:
        check_fits(images, input_size=target.input_size, num_classes=target.num_classes)
    return images


def _measurement(
    title: str, attack: Attack | None, entries: Sequence[Mapping[str, Any]], *, complete: bool
) -> Measurement:
    correct = [entry["correct"] for entry in entries]
    ledger: dict[str, Any] = {
        name: tuple(entry[SINGULAR.get(name, name)] for entry in entries)
        for name in LEDGER
        if all(SINGULAR.get(name, name) in entry for entry in entries)
    }
    if attack is not None:
        raised = {flag for entry in entries for flag in entry.get("flags", ())}
        ledger["flags"] = attack.flags(ledger.get("broken_by", ()), raised)
    if not complete:
        ledger["samples"] = tuple(entry["sample"] for entry in entries)
    return measured(title, correct, seconds=sum(entry["seconds"] for entry in entries), **ledger)
