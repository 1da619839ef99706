"""Checkpoints of a run: written atomically, after a time or a number of updates; only the newest are kept."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robnet_zoo.core import lazy
from robnet_zoo.core.files import write_atomically
from robnet_zoo.errors import TrainingError

if TYPE_CHECKING:
    import torch
else:
    torch = lazy.module("torch")

DAMAGED = (pickle.UnpicklingError, RuntimeError, KeyError, EOFError, TypeError, ValueError)
OTHERS = (RuntimeError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Keeping:
    """When checkpoints are written besides after each epoch, and how many are kept.

    seconds: since the last one. updates: between two, if given. count: how many are kept.
    """

    seconds: float = 120.0
    updates: int | None = None
    count: int = 2

    def __post_init__(self) -> None:
        if self.seconds < 0 or self.count < 1 or (self.updates is not None and self.updates < 1):
            raise TrainingError(f"expected seconds >= 0, updates >= 1 and a count >= 1 of checkpoints, got {self}")


@dataclass
class Checkpoints:
    """The files `UPDATES.pt` of a folder."""

    folder: Path
    keeping: Keeping
    saved_at: float = field(default_factory=time.monotonic)

    def files(self) -> list[Path]:
        """Return all of them, the newest last."""
        return sorted(self.folder.glob("[0-9]*.pt"))

    def due(self, before: int, updates: int) -> bool:
        """Return whether a checkpoint should be written now. before: the updates at the last question."""
        every = self.keeping.updates
        regular = every is not None and updates // every > before // every
        return regular or time.monotonic() - self.saved_at >= self.keeping.seconds

    def save(self, updates: int, state: Mapping[str, Any]) -> None:
        """Write a checkpoint and delete the oldest ones. Raises TrainingError if it cannot be written."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        path = self.folder / f"{updates:010}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, buffer.getvalue())
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written; the checkpoint before it is intact: {error}") from error
        for old in self.files()[: -self.keeping.count]:
            old.unlink(missing_ok=True)
        self.saved_at = time.monotonic()

    def load_newest(self, restore: Callable[[Any], None]) -> bool:
        """Pass the newest state to `restore`, and return whether there is one. Raises TrainingError if damaged."""
        files = self.files()
        if not files:
            return False
        newest = files[-1]
        try:
            state = torch.load(newest, weights_only=True, map_location="cpu")
        except OSError as error:
            raise TrainingError(f"{newest}: cannot be read: {error}") from error
        except DAMAGED as error:
            before = f"delete it to resume from {files[-2].name}" if len(files) > 1 else "there is none before it"
            advice = f"if the file is damaged, {before}"
            reason = str(error) or type(error).__name__
            raise TrainingError(f"{newest}: expected a checkpoint of this run; {advice}: {reason}") from error
        try:
            restore(state)
        except torch.OutOfMemoryError:
            raise
        except OTHERS as error:  # an intact file from which this run cannot resume
            expected = "" if isinstance(error, TrainingError) else "expected a checkpoint of this run: "
            raise TrainingError(f"{newest}: {expected}{' '.join(str(error).split())}") from error
        return True
