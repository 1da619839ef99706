"""The results document: every image's outcome under every attack, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from robnet_zoo.benchmarks.protocol import Count, Protocol, Sha256
from robnet_zoo.core.documents import Document, Tuple, parse_json, problems_error, read_bytes, renamed, version
from robnet_zoo.core.statistics import Interval, ShareInterval, wilson
from robnet_zoo.errors import DocumentError, ResultError

Bit = Literal[0, 1]
Natural = Annotated[int, Field(ge=0)]
EXPORTS = ".exports.json"  # how the name of a document of exports ends (`robnet_zoo.benchmarks.exports`)
ROUNDING = 1e-6  # of an interval that another library computed
SCALE = 32  # characters of a drawn interval
COSTS = ("forwards", "backwards", "judged")
LEDGER = ("steps", "margins", "distances", "tries", *COSTS, "unconfirmed", "broken_by")


class ModelIdentity(Document):
    """The identity of the function that was measured.

    state_sha256: of a torch model's state dict (`zoo.weights.state_sha256`). file_sha256: of the file that its weights
    were read from, if there was one, or of the ONNX file. parameters: how many. precision, exported_from: for an ONNX
    file of ours, its arithmetic, and the state_sha256 of the weights that it says it was exported from. mean, std: what
    the inputs, which are in [0, 1], were normalised with on their way into the model.
    """

    name: str
    kind: Literal["torch", "onnx"] = "torch"
    spec_hash: str | None = None
    state_sha256: Sha256 | None = None
    file_sha256: Sha256 | None = None
    parameters: Natural | None = None
    precision: Literal["fp32", "fp16", "int8"] | None = None
    exported_from: Sha256 | None = None
    mean: Tuple[float] | None = None
    std: Tuple[float] | None = None

    @classmethod
    def upgraded(cls, data: Mapping[Any, Any]) -> Mapping[Any, Any]:
        return renamed(data, "weights_sha256", "file_sha256" if data.get("kind") == "onnx" else "state_sha256")

    @model_validator(mode="after")
    def _check_hashes(self) -> Self:
        if self.state_sha256 is None and self.file_sha256 is None:
            raise problems_error([((), "expected state_sha256 or file_sha256, got neither")])
        return self

    @property
    def weights(self) -> str:
        """Return the hash that tells these weights from others: of the state dict, or of a file without one."""
        sha256 = self.state_sha256 or self.file_sha256
        assert sha256 is not None, "one of them is there, as every document is checked"
        return sha256


class DataIdentity(Document):
    """The images of a measurement: the first n of a set, whose pixels and labels have this hash. classes: names."""

    name: str
    sha256: Sha256
    n: Count
    classes: Tuple[str] = ()


class Shard(Document):
    """Every `count`-th batch of images, from batch `index` on."""

    index: Natural
    count: Count

    def samples(self, n: int, batch: int) -> list[int]:
        """Return which of n images the shard has: whole batches, so that no batch depends on the shards."""
        return [sample for sample in range(n) if sample // batch % self.count == self.index]


class Measurement(Document):
    """The outcomes of one attack, one for each image, in the order of the images.

    correct: 1 if the image is still classified rightly; where attacks take turns (`Protocol.in_turn`), an image that
    one of them has fooled is wrong for the later ones too, with the same outcome and at no cost. steps: how many steps
    had been taken when it was first fooled, -1 if it was not. margins: the largest one seen, positive where fooled.
    distances: of the image found, or last tried, in the norm of the attack. forwards, backwards: of the form that
    proposes; judged: forwards of the original. unconfirmed: successes that the form that proposes claimed and the
    original did not confirm, or that lay outside the ball or the box: they count as none. broken_by: the part of
    AutoAttack that fooled the model, `clean` if none was needed, null where none did; its forwards and backwards are
    those of the batch, spread over its images. samples: which images the lists are of, where a document is not
    complete.
    """

    attack: str
    accuracy: float
    interval: ShareInterval  # Wilson, 95 %
    correct: Tuple[Bit]
    steps: Tuple[int] = ()
    margins: Tuple[float | None] = ()  # null where logits were NaN
    distances: Tuple[float] = ()
    tries: Tuple[int] = ()
    forwards: Tuple[int] = ()
    backwards: Tuple[int] = ()
    judged: Tuple[int] = ()
    unconfirmed: Tuple[int] = ()
    broken_by: Tuple[str | None] = ()
    flags: Tuple[str] = ()  # what AutoAttack warns of
    samples: Tuple[int] | None = None
    seconds: float

    @model_validator(mode="after")
    def _check(self) -> Self:
        lengths = {name: len(getattr(self, name)) for name in LEDGER}
        share = sum(self.correct) / len(self.correct) if self.correct else 0.0
        if abs(self.accuracy - share) > 1e-9:
            raise problems_error([(("accuracy",), f"expected {share}, as `correct` has it, got {self.accuracy}")])
        if self.correct and max(abs(a - b) for a, b in zip(self.interval, self._wilson, strict=True)) > ROUNDING:
            low, high = self._wilson
            raise problems_error([(("interval",), f"expected {low} to {high}, Wilson's, got {list(self.interval)}")])
        wrong = {name: length for name, length in lengths.items() if length not in (0, len(self.correct))}
        if wrong:
            expected = f"expected {len(self.correct)} entries, one an image, got"
            raise problems_error([((name,), f"{expected} {length}") for name, length in wrong.items()])
        return self

    @property
    def _wilson(self) -> Interval:
        return wilson(sum(self.correct), len(self.correct))


class Alarm(Document):
    """A sign that a figure may not be what it seems. `name` is a key of `checks.results.ALARMS`; `text` says what was
    seen."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


class Example(Document):
    """An image that an attack fooled the model on. clean, adversarial: PNG files, in base64, each pixel rounded to the
    nearest of 256 values; before, after: the classes that the model gives to these very pictures."""

    sample: Natural
    attack: str
    label: Natural
    before: Natural
    after: Natural
    clean: str
    adversarial: str


class Result(Document):
    """A results document: protocol, models, data, software, device, and every image's outcome.

    source: of a transfer, the model that the attacks looked at. provenance: where the model comes from, in words.
    complete: False while images are missing, as in a document that an interrupted run leaves. worst_case: an image
    counts as right only if every attack left it right. examples: images that the last attack fooled the model on.
    images_sha256: of the file beside the document that holds all adversarial images (`benchmarks.kept`), if they were
    kept.
    """

    max_bytes: ClassVar[int] = 64 * 2**20

    schema_version: Annotated[Literal[3], version(3, oldest=2)] = 3
    protocol: Protocol
    model: ModelIdentity
    source: ModelIdentity | None = None
    provenance: str | None = None
    data: DataIdentity
    shard: Shard | None = None
    complete: bool = True
    software: dict[str, str]
    device: str
    alarms: Tuple[Alarm] = ()
    measurements: Tuple[Measurement]
    worst_case: Measurement | None = None
    examples: Tuple[Example] = ()
    images_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if problem := self._measurements_problem() or self._turns_problem():
            raise problems_error([(("measurements",), problem)])
        if self.worst_case is not None:
            lengths = {len(part.correct) for part in (*self.measurements, self.worst_case)}
            if len(lengths) != 1 or worst_case(self.measurements).correct != self.worst_case.correct:
                expected = "expected 1 for the images that every measurement has right, else 0, got others"
                raise problems_error([(("worst_case", "correct"), expected)])
        return self

    def _measurements_problem(self) -> str:
        """Return what is wrong with the measurements as a whole, or nothing.

        A complete document has each attack of its protocol once, behind `clean`, with an outcome for every image.
        """
        titles = [part.attack for part in self.measurements]
        wanted = ["clean", *(attack.title for attack in self.protocol.attacks)]
        if titles != (wanted if self.complete else [title for title in wanted if title in titles]):
            return f"expected {', '.join(wanted)}, each once, got {', '.join(titles) or 'none'}"
        if not self.complete:
            return ""
        n = self.data.n
        if self.shard is not None:
            n = len(self.shard.samples(n, self.protocol.batch))
        short = next((part for part in self.measurements if len(part.correct) != n), None)
        return "" if short is None else f"expected {n} images, got {len(short.correct)} under {short.attack}"

    def _turns_problem(self) -> str:
        """Return what is wrong with the attacks that took turns, whose costs are added image by image, or nothing."""
        parts = [part for part in self.in_turn if part.correct]
        for key in COSTS:
            without = [part.attack for part in parts if not getattr(part, key)]
            if 0 < len(without) < len(parts):
                return f"expected {key} of all attacks in turn or of none, got none of {', '.join(without)}"
        return ""

    @property
    def in_turn(self) -> list[Measurement]:
        """Return the measurements of the attacks that took turns (`Protocol.in_turn`), in their order."""
        return [part for part in self.measurements if part.attack in (self.protocol.in_turn or ())]

    def accuracy(self, attack: str) -> float:
        """Return the share of images classified rightly under an attack, or `clean`. Raises ResultError."""
        return self.measurement(attack).accuracy

    def measurement(self, attack: str) -> Measurement:
        """Return the measurement of an attack, of `clean` or of `worst_case`. Raises ResultError if there is none."""
        for measurement in (*self.measurements, *([self.worst_case] if self.worst_case else [])):
            if measurement.attack == attack:
                return measurement
        names = ", ".join(measurement.attack for measurement in self.measurements)
        raise ResultError(f"{self.model.name}: expected a measurement of {attack}, got {names}")

    def __str__(self) -> str:
        """Return alarms, then a table of accuracies with their intervals, drawn to scale."""
        from robnet_zoo.benchmarks.checks.results import kind_of  # which imports this module

        source = "" if self.source is None else f", attacked through {self.source.name}"
        if self.source is not None and self.source.weights == self.model.weights:
            source += " (a white box, as its weights are the same)"
        lines = [f"{self.model.name}{source}: {self.protocol.name}, eps {self.protocol.eps}, {self.data.name}"]
        lines += [f"{kind_of(alarm).severity.word} {alarm}" for alarm in self.alarms]
        lines += [self.protocol.turns] if self.protocol.turns else []
        rows = [
            (
                measurement.attack,
                f"{measurement.accuracy:.2%}",
                f"{measurement.interval:.1%}",
                f"{sum(measurement.correct)} of {len(measurement.correct)}",
                _drawn(measurement.interval, measurement.accuracy),
            )
            for measurement in (*self.measurements, *([self.worst_case] if self.worst_case else []))
        ]
        table = [("attack", "accuracy", "95 % interval", "images", f"{'0 %':{SCALE - 5}}100 %"), *rows]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for name, *cells in table:
            right = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([f"{name:{widths[0]}}", *right]).rstrip())
        return "\n".join(lines)


def _drawn(interval: Interval, accuracy: float) -> str:
    """Return an interval and its accuracy as characters on a scale from 0 to 1."""
    low, at, high = (round(share * (SCALE - 1)) for share in (interval.low, accuracy, interval.high))
    marks = ["-" if low <= index <= high else " " for index in range(SCALE)]
    marks[low], marks[high], marks[at] = "[", "]", "|"
    return "".join(marks)


def measured(attack: str, correct: Sequence[Bit], *, seconds: float, **lists: Any) -> Measurement:
    """Return a measurement with its accuracy and interval from outcomes.

    Args:
        attack: its title.
        correct: 1 for each image that is still classified rightly, else 0.
        seconds: of the wall clock.
        lists: the other fields of `Measurement`.
    """
    right, n = sum(correct), len(correct)
    return Measurement(
        attack=attack,
        accuracy=right / n,
        interval=wilson(right, n),
        correct=tuple(correct),
        seconds=round(seconds, 3),
        **lists,
    )


def worst_case(measurements: Sequence[Measurement]) -> Measurement:
    """Return the measurement in which an image counts as right only if it is right in every one of these."""
    columns = zip(*(measurement.correct for measurement in measurements), strict=True)
    correct: list[Bit] = [1 if all(column) else 0 for column in columns]
    return measured("worst_case", correct, seconds=sum(measurement.seconds for measurement in measurements))


def results_in(
    folder: Path, pattern: str = "*.json", *, pass_over: Callable[[DocumentError], None] = lambda error: None
) -> list[Path]:
    """Return the results documents of a folder, sorted by name; other files are left out.

    Args:
        folder: where they are.
        pattern: of their names, whose case does not matter.
        pass_over: is told of each file that cannot be read as strict JSON, as results documents are.
    """
    named = [path for path in sorted(folder.iterdir()) if fnmatch(path.name.lower(), pattern.lower())]
    return [path for path in named if _is_result(path, pass_over)]


def _is_result(path: Path, pass_over: Callable[[DocumentError], None]) -> bool:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DocumentError(["expected a file, got a folder or a device"], source=str(path))
        content = parse_json(read_bytes(path), source=str(path))
    except DocumentError as error:
        pass_over(error)
        return False
    return isinstance(content, dict) and {"protocol", "measurements"} <= set(content)
