"""Results documents with labels that tell their models, data and attacks apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from robnet_zoo.attacks import AnyAttack
from robnet_zoo.benchmarks.protocol import Protocol
from robnet_zoo.benchmarks.result import Measurement, ModelIdentity, Result
from robnet_zoo.errors import ReportError

CLEAN, WORST = "clean", "worst case"
NO_SUFFIXES: Mapping[str, str] = MappingProxyType({})
Item = TypeVar("Item")
Group = TypeVar("Group", bound=Hashable)


@dataclass(frozen=True)
class LabelledResult:
    """One document and what the report calls its parts.

    Args:
        model, source, data: their labels.
        measurements: by column, `clean` first and `worst case` last. A column says behind which attacks its own took
            its turn, so that what they left does not stand under one name with what an attack found alone.
        attacks: the parameters behind a column, where the protocol has them.
    """

    result: Result
    model: str
    source: str
    data: str
    measurements: Mapping[str, Measurement]
    attacks: Mapping[str, AnyAttack]

    def before(self, column: str) -> tuple[str, ...]:
        """Return the names of the attacks that left to a column's own only what they could not fool."""
        attack = self.attacks.get(column)
        return () if attack is None else self.result.protocol.before(attack.title)

    @property
    def n(self) -> int:
        """Return how many images every measurement holds."""
        return min(len(measurement.correct) for measurement in self.measurements.values())

    @property
    def whole(self) -> bool:
        """Return whether the document holds all images of the data."""
        return self.result.complete and self.result.shard is None and self.n == self.result.data.n

    @property
    def white_box(self) -> bool:
        """Return whether the attacks saw the model that they were to fool."""
        return self.result.protocol.threat == "white_box"

    @property
    def norms(self) -> tuple[str, ...]:
        """Return the norms of the attacks' balls, each once."""
        return tuple(sorted({attack.ball for attack in self.result.protocol.attacks}))

    @property
    def radius(self) -> str:
        """Return eps as the protocol spells it, with the norm unless that is l-infinity: `8/255`, `0.5 (l2)`."""
        eps, norms = self.result.protocol.eps, self.norms
        return eps if norms in ((), ("linf",)) else f"{eps} ({', '.join(norms)})"

    @property
    def conditions(self) -> str:
        """Return the radius and data: `eps 8/255, CIFAR-10 test images`."""
        return f"eps {self.radius}, {self.data}"


def labelled(results: Sequence[Result]) -> tuple[LabelledResult, ...]:
    """Label documents, in their order and each once; measurements of no image are left out.

    Raises: ReportError if no document is left.
    """
    different = list(_different(results))
    identities = [result.model for result in different] + [result.source for result in different if result.source]
    models = _labels((model.name, model.weights) for model in identities)
    data = _labels(((result.data.name, result.data.sha256) for result in different), _numbers(different))
    columns = _columns([attack for result in different for attack in result.protocol.attacks])
    entries = [_entry(result, models, data, columns) for result in different]
    measured = tuple(entry for entry in entries if entry.measurements)
    if not measured:
        raise ReportError(f"expected at least one result with an image measured, got {len(results)} without")
    return measured


def _different(results: Iterable[Result]) -> Iterator[Result]:
    """Yield documents in their order, each once; only those of the same model and images are compared in full."""
    earlier: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        alike = earlier.setdefault((result.model, result.source, result.data), [])
        if result not in alike:
            alike.append(result)
            yield result


def groups(items: Iterable[Item], key: Callable[[Item], Group]) -> dict[Group, list[Item]]:
    """Return the items of each key, in the order of first appearance."""
    by_key: dict[Group, list[Item]] = {}
    for item in items:
        by_key.setdefault(key(item), []).append(item)
    return by_key


def columns(entries: Iterable[LabelledResult]) -> list[str]:
    """Return all columns of some documents: clean, the attacks as the fullest document orders them, the worst case."""
    fullest_first = sorted(entries, key=lambda entry: -len(entry.measurements))
    names = list(dict.fromkeys(name for entry in fullest_first for name in entry.measurements))
    first, last = [name for name in (CLEAN,) if name in names], [name for name in (WORST,) if name in names]
    return [*first, *(name for name in names if name not in (CLEAN, WORST)), *last]


def after(name: str, before: Sequence[str]) -> str:
    """Return the name of an attack with those that took their turns before it: `square (after adaptive_apgd)`."""
    return f"{name} (after {', '.join(before)})" if before else name


def proposing(protocol: Protocol) -> str:
    """Return the precision in which images are proposed; the device says whether it has it (`core.precision`)."""
    return protocol.dtype if protocol.dtype == "float32" else f"{protocol.dtype} where the device has it"


def parameters_of(attack: AnyAttack) -> dict[str, str]:
    """Return an attack's parameters except its name as texts, its kind first."""
    others = attack.model_dump(exclude={"name", "kind"})
    return {"kind": attack.kind} | {key: str(value) for key, value in others.items()}


def _entry(
    result: Result,
    models: Mapping[tuple[str, str], str],
    data: Mapping[tuple[str, str], str],
    columns: Mapping[tuple[str, str], str],
) -> LabelledResult:
    attacks = {attack.title: attack for attack in result.protocol.attacks}

    def alone(name: str) -> str:
        return columns[name, str(parameters_of(attacks[name]))] if name in attacks else name

    def column(name: str) -> str:
        return after(alone(name), [alone(earlier) for earlier in result.protocol.before(name)])

    def label(model: ModelIdentity) -> str:
        return models[model.name, model.weights]

    measured = {column(item.attack): item for item in result.measurements if item.correct}
    ordered = {CLEAN: measured.pop(CLEAN)} if CLEAN in measured else {}
    ordered |= measured
    if result.worst_case is not None and result.worst_case.correct:
        ordered[WORST] = result.worst_case
    return LabelledResult(
        result,
        label(result.model),
        label(result.source) if result.source else "",
        data[result.data.name, result.data.sha256],
        ordered,
        {column(title): attack for title, attack in attacks.items()},
    )


def _numbers(results: Iterable[Result]) -> dict[str, str]:
    """Return `, n = 100` by the hash of images, where their number alone tells them from others of the same name."""
    numbers = {(result.data.name, result.data.sha256): result.data.n for result in results}
    repeated = Counter((name, n) for (name, _), n in numbers.items())
    return {sha: f", n = {n:,}" for (name, sha), n in numbers.items() if repeated[name, n] == 1}


def _labels(items: Iterable[tuple[str, str]], suffixes: Mapping[str, str] = NO_SUFFIXES) -> dict[tuple[str, str], str]:
    """Map (name, sha256) to the name, with a suffix where a name stands for several things.

    Args:
        items: names and hashes.
        suffixes: by hash, where it is not to be the beginning of the hash.
    """
    hashes = {name: {sha for _, sha in pairs} for name, pairs in groups(items, lambda pair: pair[0]).items()}
    return {
        (name, sha): name if len(namesakes) == 1 else f"{name}{suffixes.get(sha, f' ({sha[:8]})')}"
        for name, namesakes in hashes.items()
        for sha in namesakes
    }


def _columns(attacks: Sequence[AnyAttack]) -> dict[tuple[str, str], str]:
    """Map (title, parameters) to the title, with what differs where a title stands for several attacks."""
    labels: dict[tuple[str, str], str] = {}
    for title, namesakes in groups(attacks, lambda attack: attack.title).items():
        variants = [parameters_of(attack) for attack in namesakes]
        keys = dict.fromkeys(key for variant in variants for key in variant)
        differing = [key for key in keys if len({variant.get(key) for variant in variants}) > 1]
        for variant in variants:
            details = ", ".join(f"{key} {variant[key]}" for key in differing if key in variant)
            labels[title, str(variant)] = f"{title} ({details})" if details else title
    return labels
