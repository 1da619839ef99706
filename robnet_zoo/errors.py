"""Every error that the package raises on purpose. Each message is one line: what was expected, what was got, and where.

`RobnetZooError` is the base of all of them. Each is also one of Python's own, a ValueError or a RuntimeError or,
where a file is in the way, a FileExistsError, so that code which knows nothing of this package can catch it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

MAX_PROBLEMS = 100  # problems collected from a document
MAX_LISTED = 4  # problems spelled out in a message; the rest are counted


class RobnetZooError(Exception):
    """The base of every error below. Unprintable characters of a message, as file names may have, are escaped."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*(printable(each) if isinstance(each, str) else each for each in arguments))


class DocumentError(RobnetZooError, ValueError):
    """A document is not what it should be.

    problems: one text a problem, each of the form `place: expected ..., got ...`; at most MAX_PROBLEMS are collected.
    str() is a single printable line: the source, then the problems.
    """

    def __init__(self, problems: Iterable[str], *, source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        listed = "; ".join(self.problems[:MAX_LISTED])
        more = len(self.problems) - MAX_LISTED
        if more > 0:
            listed += f"; and {more if len(self.problems) < MAX_PROBLEMS else 'many'} more"
        super().__init__(f"{source}: {listed}" if source else listed)

    def __reduce__(self) -> tuple[Callable[..., DocumentError], tuple[Any, ...]]:
        return (partial(type(self), source=self.source), (self.problems,))  # a worker's error reaches its parent whole


def printable(text: str) -> str:
    """Return the text with control characters and other unprintable ones escaped."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


class ArgumentError(RobnetZooError, ValueError):
    """An argument has a value that the function cannot work with. The message names it and says what is expected."""


class ModelError(RobnetZooError, ValueError, TypeError):
    """A model cannot be built as asked, or is not of the kind that a function works with."""


class WeightsError(RobnetZooError, RuntimeError):
    """Weights are missing, damaged or another architecture's. The message names the file and says what to do."""


class DataError(RobnetZooError, ValueError):
    """Data is missing, unreadable or not labelled images. The message names the file."""


class CheckpointError(DocumentError):
    """A checkpoint cannot be read or does not fit its spec. The message names the file and the places."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint asks for code to be run. Nothing of it was run."""


class OutputExistsError(RobnetZooError, FileExistsError):
    """Writing a result would replace something else. Nothing was written."""


class OnnxFileError(RobnetZooError, RuntimeError):
    """An ONNX file is not a classifier of images, or cannot be read. The message names the file and the reason."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        super().__init__(f"{path}: {' '.join(text.split())}")

    def __reduce__(self) -> tuple[type[OnnxFileError], tuple[Path, str]]:
        return (type(self), (self.path, self.text))  # a worker's error reaches its parent whole


class UnsupportedError(RobnetZooError, RuntimeError):
    """Part of an ONNX graph cannot be expressed in torch. The message names it."""


class VerificationError(RobnetZooError, RuntimeError):
    """An exported file computes other logits than its model, or does not run."""


class ExportError(RobnetZooError, RuntimeError):
    """A model cannot be exported, or the file does not give the model's logits. Nothing was written."""


class AttackError(RobnetZooError, ValueError):
    """An attack cannot work with these images, labels or parameters."""


class AutoAttackError(RobnetZooError, RuntimeError):
    """AutoAttack cannot run: its library is missing, or the model is not what it needs."""


class TrainingError(RobnetZooError, RuntimeError):
    """A training run cannot go on. Its last checkpoint is left as it is."""


class DivergedError(TrainingError):
    """The loss of a training, or its gradient, is NaN or infinite."""


class OutOfStepError(RobnetZooError, RuntimeError):
    """Processes that train one network hold different weights."""


class LeftError(RobnetZooError, RuntimeError):
    """A process is gone while others still wait for it. It is the one that knows why."""


class TargetError(RobnetZooError, RuntimeError):
    """A model to be measured cannot be found, loaded or judged. The message names it."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


class ResultError(RobnetZooError, ValueError):
    """A results document does not hold what is asked of it."""


class BundleError(RobnetZooError, ValueError):
    """Weights cannot be put into the package: their documents do not belong together."""


class SpeedError(RobnetZooError, RuntimeError):
    """A timing script's methods do not do the same work, so their times cannot be compared."""


class RobustBenchError(RobnetZooError, ValueError):
    """A result is not what RobustBench compares."""


class StatisticsError(RobnetZooError, ValueError):
    """Numbers cannot be estimated or compared: there are too few, or they do not belong together."""


class SearchError(RobnetZooError, RuntimeError):
    """A search cannot go on."""


class ReproduceError(RobnetZooError, RuntimeError):
    """A plan cannot be carried out."""


class ReportError(RobnetZooError, ValueError):
    """A report cannot be written: an unknown kind of file, or documents that cannot be shown."""


class EditorError(RobnetZooError, ValueError):
    """The editor cannot do what its page asks for, or cannot be served."""


class StoppedError(RobnetZooError, RuntimeError):
    """An attack that is watched was stopped by whoever watched it."""
