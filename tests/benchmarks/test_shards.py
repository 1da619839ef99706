"""Shards that several processes measured give the document of one process."""

import json

import pytest

from robnet_zoo import data
from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.result import Result, Shard
from robnet_zoo.benchmarks.shards import merge
from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import DataError
from tests.benchmarks.grey_images import SHORT, WHITE_BOX, without_times
from tests.brightness import Brightness
from tests.processes import ALIKE, start_command, under_torchrun


@pytest.mark.same_bits
def test_three_shards_merge_into_the_document_of_one_process(fitted):
    target, images = load_target(fitted), data.load("digits")
    whole = evaluate(target, images, SHORT, progress=False)
    parts = [evaluate(target, images, SHORT, shard=Shard(index=index, count=3), progress=False) for index in (2, 0, 1)]
    assert without_times(merge(parts)) == without_times(whole)


def test_shards_that_do_not_belong_together_are_refused(grey):
    target = of_module(Brightness(), name="b")
    protocol = WHITE_BOX.model_copy(update={"batch": 8})
    first = evaluate(target, grey, protocol, shard=Shard(index=0, count=2), progress=False)
    other = evaluate(
        target, grey, protocol.model_copy(update={"seed": 1}), shard=Shard(index=1, count=2), progress=False
    )
    with pytest.raises(DataError, match=r"expected each of the shards 0 to 1 once, got \[0\] of 1"):
        merge([first])
    with pytest.raises(DataError, match="expected shards of one run, got documents that differ in `protocol`"):
        merge([first, other])


@pytest.mark.parametrize("index", [0, 1, 2])
def test_more_shards_than_batches_are_refused_by_every_shard(grey, index):
    target, protocol = of_module(Brightness(), name="b"), WHITE_BOX.model_copy(update={"batch": 28})
    with pytest.raises(DataError, match="grey: expected at least 3 batches of 28 for as many shards, got 56 images"):
        evaluate(target, grey, protocol, shard=Shard(index=index, count=3), progress=False)


def test_two_processes_under_torchrun_give_the_document_of_one(fitted, tmp_path):
    protocol, output = tmp_path / "protocol.json", tmp_path / "result.json"
    SHORT.save(protocol)
    arguments = ["benchmark", fitted, "--data", "digits", "--protocol", str(protocol), "-o", str(output), "--json"]
    process = start_command(*arguments[:-2], tmp_path / "alone.json", environment=ALIKE)
    printed = under_torchrun(*arguments, folder=tmp_path, environment=ALIKE)
    process.join()
    whole = Result.load(tmp_path / "alone.json")
    assert Result.parse(json.loads(printed)) == Result.load(output)
    merged, alone = without_times(Result.load(output)), without_times(whole)
    assert merged.pop("device").split(",")[0] == alone.pop("device").split(",")[0]  # the number of threads differs
    assert merged == alone
