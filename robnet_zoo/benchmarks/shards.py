"""Join the documents of shards, which several processes or machines measured, into one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch.distributed as dist

from robnet_zoo.attacks import Attack
from robnet_zoo.benchmarks.checks import results as alarms
from robnet_zoo.benchmarks.examples import EXAMPLES
from robnet_zoo.benchmarks.result import LEDGER, Measurement, Result, measured, worst_case
from robnet_zoo.errors import DataError


def merge(results: Sequence[Result]) -> Result:
    """Return the document of a whole run from those of its shards.

    Raises: DataError unless the documents are the shards 0 to n - 1 of one run: the same protocol, models, data and
    software versions.
    """
    first = results[0]
    count = first.shard.count if first.shard else 0
    indices = sorted(result.shard.index for result in results if result.shard and result.shard.count == count)
    if indices != list(range(count)) or len(results) != count:
        raise DataError(f"expected each of the shards 0 to {max(count - 1, 0)} once, got {indices} of {len(results)}")
    for key in ("protocol", "model", "source", "data", "software", "complete"):
        if any(getattr(result, key) != getattr(first, key) for result in results):
            raise DataError(f"expected shards of one run, got documents that differ in `{key}`")
    if not first.complete:
        raise DataError("expected shards that are complete, got some that were interrupted")
    ordered = sorted(results, key=lambda result: result.shard.index if result.shard else 0)
    attack_of = {attack.title: attack for attack in first.protocol.attacks}
    measurements = tuple(
        _joined(
            [result.measurement(part.attack) for result in ordered],
            attack_of.get(part.attack),
            first.data.n,
            first.protocol.batch,
        )
        for part in first.measurements
    )
    examples = sorted((example for result in results for example in result.examples), key=attrgetter("sample"))
    merged = first.model_copy(
        update={
            "shard": None,
            "device": "; ".join(dict.fromkeys(result.device for result in ordered)),
            "measurements": measurements,
            "worst_case": worst_case(measurements) if len(measurements) > 1 else None,
            "examples": tuple(examples[:EXAMPLES]),
            "alarms": (),
            "images_sha256": None,
        }
    )
    probed = dict.fromkeys(
        alarm for result in ordered for alarm in result.alarms if alarm not in alarms.from_result(result)
    )
    if not all(any(alarm.name == "chance_level" for alarm in result.alarms) for result in ordered):
        probed = {alarm: None for alarm in probed if alarm.name != "chance_level"}  # by chance in a part alone
    return merged.model_copy(update={"alarms": (*probed, *alarms.from_result(merged))})


def gather(mine: Sequence[Result], outputs: Sequence[Path | None]) -> list[Result]:
    """Merge documents under torchrun; the first process saves and returns them, the others return none.

    Args:
        mine: the documents of this process's shard, for the same targets in the same order on every process.
        outputs: where each merged document is saved.
    """
    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=timedelta(days=30))  # a slow process is not a dead one
    texts: list[list[str]] = [[]] * dist.get_world_size()
    dist.all_gather_object(texts, [result.dumps() for result in mine])
    if dist.get_rank():
        return []
    merged = [merge([Result.loads(text) for text in shards]) for shards in zip(*texts, strict=True)]
    for result, output in zip(merged, outputs, strict=True):
        if output is not None:
            result.save(output)
    return merged


def _joined(parts: Sequence[Measurement], attack: Attack | None, n: int, batch: int) -> Measurement:
    """Return an attack's measurement from those of the shards, which take turns, a batch each."""

    def woven(name: str) -> tuple[Any, ...]:
        lists = [iter(getattr(part, name)) for part in parts]
        present = len(getattr(parts[0], name))
        return tuple(next(lists[sample // batch % len(parts)]) for sample in range(n)) if present else ()

    ledger = {name: woven(name) for name in LEDGER}
    if attack is not None:
        ledger["flags"] = attack.flags(ledger["broken_by"], {flag for part in parts for flag in part.flags})
    return measured(parts[0].attack, woven("correct"), seconds=sum(part.seconds for part in parts), **ledger)
