"""Prefetching: prepare the next batch while this one is trained on, so that a GPU need not wait for picture files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from torch import Tensor

Batch = tuple[Tensor, Tensor]  # images (N, C, H, W), labels (N,)


class Prefetcher:
    """Batches from `prepare(indices, update)`, of which the next is begun before it is needed.

    Args:
        prepare: makes the images and labels of an update from their indices, (N,).
        threaded: whether to begin early. Where images are in memory, a thread would cost more than it saves.
    """

    def __init__(self, prepare: Callable[[Tensor, int], Batch], *, threaded: bool) -> None:
        self.prepare = prepare
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="next batch") if threaded else None
        self.coming: tuple[int, Future[Batch]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def begin(self, indices: Tensor, update: int) -> None:
        """Begin to prepare the batch of a coming update."""
        if self.pool is not None:
            self.coming = update, self.pool.submit(self.prepare, indices, update)

    def get(self, indices: Tensor, update: int) -> Batch:
        """Return the batch of an update, prepared only now if another was begun. Raises whatever `prepare` raises."""
        coming, self.coming = self.coming, None
        if coming is not None and coming[0] == update:
            return coming[1].result()
        return self.prepare(indices, update)
