"""Batches prepared ahead of time: the same ones, begun earlier."""

import threading

import pytest
import torch

from robnet_zoo.errors import DataError
from robnet_zoo.training.prefetch import Prefetcher

INDICES = torch.arange(3)


class Prepared:
    """What was asked for, and by which thread."""

    def __init__(self):
        self.updates, self.threads, self.begun = [], [], threading.Event()

    def __call__(self, indices, update):
        self.updates.append(update)
        self.threads.append(threading.current_thread())
        self.begun.set()
        if update == 13:
            raise DataError("gone")
        return indices.float(), torch.full((len(indices),), update)


def test_a_batch_is_begun_before_it_is_asked_for_and_prepared_once():
    prepared = Prepared()
    with Prefetcher(prepared, threaded=True) as drawn:
        drawn.begin(INDICES, 5)
        assert prepared.begun.wait(10)
        images, labels = drawn.get(INDICES, 5)
    assert prepared.updates == [5]
    assert prepared.threads != [threading.main_thread()]
    assert torch.equal(images, INDICES.float())
    assert labels.tolist() == [5, 5, 5]


def test_a_batch_of_another_update_than_was_foreseen_is_prepared_anew():
    prepared = Prepared()
    with Prefetcher(prepared, threaded=True) as drawn:
        drawn.begin(INDICES, 5)
        assert drawn.get(INDICES, 6)[1].tolist() == [6, 6, 6]
        assert drawn.get(INDICES, 7)[1].tolist() == [7, 7, 7]


def test_an_error_is_raised_where_the_batch_is_asked_for():
    with Prefetcher(Prepared(), threaded=True) as drawn:
        drawn.begin(INDICES, 13)
        with pytest.raises(DataError, match="gone"):
            drawn.get(INDICES, 13)


def test_nothing_is_begun_where_that_would_not_help():
    prepared = Prepared()
    with Prefetcher(prepared, threaded=False) as drawn:
        drawn.begin(INDICES, 5)
        assert prepared.updates == []
        drawn.get(INDICES, 5)
    assert prepared.threads == [threading.main_thread()]
