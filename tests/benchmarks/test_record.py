"""A results document in the making fits its images, its file and its run, or is refused."""

from dataclasses import replace

import pytest
import torch

from robnet_zoo.benchmarks.evaluation import evaluate
from robnet_zoo.benchmarks.protocol import DataRequest
from robnet_zoo.benchmarks.targets.torch import of_module
from robnet_zoo.errors import DataError
from tests.benchmarks.grey_images import WHITE_BOX, without_times
from tests.brightness import Brightness


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 2000}, r"grey: expected 2,000 images for white_box, got 56; -n 56, or protocol.model_copy.*takes them"),
        (
            {"data": DataRequest(name="others", sha256="0" * 64)},
            r"expected the images of white_box, others \(sha256 000",
        ),
    ],
)
def test_images_that_are_not_the_protocols_are_refused(grey, change, message):
    with pytest.raises(DataError, match=message):
        evaluate(of_module(Brightness(), name="b"), grey, WHITE_BOX.model_copy(update=change), progress=False)


def test_images_of_more_classes_and_labels_below_zero_are_refused(grey):
    target = of_module(Brightness(), name="b", num_classes=2)
    named = replace(grey, classes=("dark", "grey", "bright"))
    expected = "grey: expected images of at most the 2 classes of b, got 3: dark, grey, bright"
    with pytest.raises(DataError, match=expected):
        evaluate(target, named, WHITE_BOX, progress=False)
    with pytest.raises(DataError, match="grey: expected labels from 0 to 1, got -1 to 0"):
        evaluate(target, replace(grey, labels=grey.labels - 1), WHITE_BOX, progress=False)


def test_what_a_kill_between_document_and_journal_leaves_is_cleared_away(grey, tmp_path):
    target, output = of_module(Brightness(), name="b"), tmp_path / "result.json"
    first = evaluate(target, grey, WHITE_BOX, output=output, progress=False)
    (tmp_path / "result.json.journal").write_text("{}\n")
    assert evaluate(target, grey, WHITE_BOX, output=output, progress=False) == first
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_a_document_that_is_complete_is_not_measured_again(grey, tmp_path):
    class Counting(Brightness):
        calls = 0

        def forward(self, x):
            Counting.calls += 1
            return super().forward(x)

    target, output = of_module(Counting(), name="b"), tmp_path / "result.json"
    first = evaluate(target, grey, WHITE_BOX, output=output, progress=False)
    calls, written = Counting.calls, output.read_bytes()
    assert evaluate(target, grey, WHITE_BOX, output=output, progress=False) == first
    assert Counting.calls == calls
    assert output.read_bytes() == written


def test_the_document_of_another_run_is_not_overwritten(grey, tmp_path):
    output = tmp_path / "result.json"
    target = of_module(Brightness(), name="b")
    evaluate(target, grey, WHITE_BOX, output=output, progress=False)
    before = output.read_bytes()
    with pytest.raises(DataError, match=r"differs in protocol.seed; take another --output, or delete"):
        evaluate(target, grey, WHITE_BOX.model_copy(update={"seed": 1}), output=output, progress=False)
    with pytest.raises(DataError, match=r"this run, got one that differs in n; take"):
        evaluate(target, grey, WHITE_BOX.model_copy(update={"n": 8}), output=output, progress=False)
    assert output.read_bytes() == before


@pytest.mark.parametrize("name", ["", "file/result.json"])
def test_a_place_where_nothing_can_be_written_is_refused_before_any_work(grey, tmp_path, name):
    (tmp_path / "file").write_text("here")
    target = replace(of_module(Brightness(), name="b"), judge=None)  # which is never asked
    with pytest.raises(DataError, match="expected the path of a file to write, got one that cannot be"):
        evaluate(target, grey, WHITE_BOX, output=tmp_path / name, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_memory_that_runs_out_while_judging_halves_the_batch(grey):
    model = Brightness().eval()

    def small(images):
        if len(images) > 10:
            raise torch.OutOfMemoryError("too many")
        return model(images)

    target = of_module(model, name="b")
    tight = replace(target, judge=small, proposer=small)
    protocol = WHITE_BOX.model_copy(update={"batch": 32})
    result = evaluate(tight, grey, protocol, progress=False)
    assert (
        without_times(result)["measurements"]
        == without_times(evaluate(target, grey, protocol, progress=False))["measurements"]
    )
