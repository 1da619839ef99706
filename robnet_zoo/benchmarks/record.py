"""One results document in the making: what is measured on what, what was found so far, and the document of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robnet_zoo.attacks import Attack
from robnet_zoo.attacks.continuous_batching import in_full_batch
from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.examples import examples
from robnet_zoo.benchmarks.journal import Journal
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import LEDGER, Alarm, DataIdentity, Measurement, Result, Shard, measured, worst_case
from robnet_zoo.benchmarks.targets.target import Target
from robnet_zoo.core.documents import Document
from robnet_zoo.core.environment import device, software
from robnet_zoo.data import Images, check_fits
from robnet_zoo.errors import DataError

SINGULAR = {"steps": "step", "margins": "margin", "distances": "distance"}  # of a ledger's list, in an entry
Entry = dict[str, Any]


@dataclass
class Run:
    """One document in the making: a target, and how its outcomes are found.

    images: those of the protocol, the first ones of `whole`.
    """

    target: Target
    images: Images
    protocol: Protocol
    source: Target | None
    shard: Shard | None
    output: Path | None
    whole: Images = field(init=False)
    journal: Journal = field(init=False)
    alarms: list[Alarm] = field(default_factory=list)  # that the probes gave

    def __post_init__(self) -> None:
        self.whole = self.images
        self.images = _fitting(self.target, self.images, self.protocol)
        count = 1 if self.shard is None else self.shard.count
        if len(self.images) <= (count - 1) * self.protocol.batch:
            expected = f"expected at least {count} batches of {self.protocol.batch} for as many shards"
            raise DataError(f"{self.images.name}: {expected}, got {len(self.images)} images")
        place = None if self.output is None else self.output.absolute()
        if place is not None and (place.is_dir() or any(p.exists() and not p.is_dir() for p in place.parents)):
            raise DataError(f"{self.output}: expected the path of a file to write, got one that cannot be")

    @property
    def samples(self) -> list[int]:
        """Which images this process measures: whole batches, so that no batch depends on the shards."""
        shard, batch = self.shard or Shard(index=0, count=1), self.protocol.batch
        return [sample for sample in range(len(self.images)) if sample // batch % shard.count == shard.index]

    @property
    def data(self) -> DataIdentity:
        """The images, by hash."""
        images = self.images
        return DataIdentity(name=images.name, sha256=images.sha256, n=len(images), classes=tuple(images.classes))

    def finished(self) -> Result | None:
        """The document of this very run, if it is there and complete. Raises DataError if there is another."""
        if self.output is None or not self.output.exists():
            return None
        found = Result.load(self.output)
        source = None if self.source is None else self.source.identity
        expected = (self.protocol, self.target.identity, source, self.data, self.shard, software())
        if (found.protocol, found.model, found.source, found.data, found.shard, found.software) != expected:
            got = "got that of another model, protocol, data or version"
            raise DataError(f"{self.output}: expected no file or the document of this run, {got}")
        if found.complete and (left := self._journal_path) is not None:
            left.unlink(missing_ok=True)  # of a process that was killed between its last two steps
        return found if found.complete else None

    @property
    def _journal_path(self) -> Path | None:
        return None if self.output is None else self.output.with_name(f"{self.output.name}.journal")

    def open(self) -> Journal:
        """The journal of this run, which its key names: whatever decides an outcome."""
        parts: tuple[Document | None, ...] = (
            self.protocol,
            self.target.identity,
            None if self.source is None else self.source.identity,
            self.shard,
            self.data,
        )
        text = [device(self.target.device), *(part.dumps() if part else "" for part in parts)]
        key = hashlib.sha256(repr([*text, sorted(software().items())]).encode()).hexdigest()
        self.journal = Journal(self._journal_path, key)
        return self.journal

    def missing(self, attack: str, samples: Sequence[int]) -> list[int]:
        """Of these images, those whose outcome under an attack the journal does not hold yet."""
        done = {entry["sample"] for entry in self.journal.entries if entry["attack"] == attack}
        return [sample for sample in samples if sample not in done]

    def batch(self, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (N, C, H, W) and labels (N,), where the target is."""
        images, labels = self.images.batch(torch.tensor(samples))
        return images.to(self.target.device), labels.to(self.target.device)

    def judged(self, images: Tensor) -> Tensor:
        """The target's logits, (N, K), in batches that are always full."""
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
        """The results document of what the journal holds."""
        titles = ["clean", *(attack.title for attack in self.protocol.attacks)]
        entries: dict[str, list[Entry]] = {title: [] for title in titles}
        for entry in self.journal.entries:
            entries[entry["attack"]].append(entry)
        attack_of: dict[str, Attack] = {attack.title: attack for attack in self.protocol.attacks}
        measurements = tuple(
            _measurement(title, attack_of.get(title), sorted(found, key=itemgetter("sample")), complete=complete)
            for title, found in entries.items()
            if found
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
        whole: dict[str, Any] = {"alarms": (*self.alarms, *alarms.from_result(result))}
        if len(measurements) > 1:
            whole["worst_case"] = worst_case(measurements)
        if self.source is None:
            whole["examples"] = examples(self.target, self.images, self.protocol, self.samples, measurements)
        return result.model_copy(update=whole)


def _fitting(target: Target, images: Images, protocol: Protocol) -> Images:
    """The images of the protocol, if they can be shown to the target."""
    if protocol.n is not None:
        if protocol.n > len(images):
            raise DataError(f"{images.name}: expected {protocol.n} images for {protocol.name}, got {len(images)}")
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


def _measurement(title: str, attack: Attack | None, entries: Sequence[Entry], *, complete: bool) -> Measurement:
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
