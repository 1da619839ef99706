"""A hostile ONNX file is refused in one line, before it costs time or memory."""

import os
import sys
import time
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from robnet_zoo.converters.onnx import file
from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.converters.onnx.file import read_file
from robnet_zoo.errors import OnnxFileError
from tests.converters.onnx.linear_files import IMAGES, NODE, WEIGHT, linear
from tests.converters.onnx.quantised_files import quantised


def test_weights_outside_its_folder_are_refused(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    path = linear(folder / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (folder / "m.data").rename(tmp_path / "m.data")
    model = onnx.load(path, load_external_data=False)
    for location in (str(tmp_path / "m.data"), "../m.data"):
        for entry in model.graph.initializer[0].external_data:
            entry.value = location if entry.key == "location" else entry.value
        path.write_bytes(model.SerializeToString())
        with pytest.raises(OnnxFileError, match="expected its weights in its own folder, got"):
            read_file(path)
    (folder / "m.data").symlink_to(tmp_path / "m.data")
    model.graph.initializer[0].external_data[0].value = "m.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=r"expected its weights in its own folder, got 'm\.data', a link to /.*m"):
        read_file(path)


@pytest.fixture
def cache(tmp_path):
    """Return a model in a folder of links to files of other names, as the cache of Hugging Face lays them."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1a"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    path = linear(blobs / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    for name, blob in (("m.onnx", "2b"), ("m.data", "3c")):
        (blobs / name).rename(blobs / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    return snapshot / "m.onnx"


def test_links_beside_a_linked_model_are_followed(cache):
    (tensor,) = read_file(cache).proto.graph.initializer
    assert np.array_equal(numpy_helper.to_array(tensor), WEIGHT)
    assert torch.equal(OnnxClassifier(cache)(IMAGES), OnnxClassifier(linear(cache.parent / "one.onnx"))(IMAGES))


def test_links_beside_a_linked_model_that_lead_elsewhere_are_refused(cache, tmp_path):
    (tmp_path / "secret").write_bytes(b"0" * 192)
    (cache.parent / "m.data").unlink()
    (cache.parent / "m.data").symlink_to(tmp_path / "secret")
    with pytest.raises(OnnxFileError, match=r"got 'm\.data', a link to /.*/secret"):
        read_file(cache)


def test_links_within_the_folder_are_followed(tmp_path):
    path = linear(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (tmp_path / "m.data").rename(tmp_path / "other")
    (tmp_path / "m.data").symlink_to("other")
    assert np.array_equal(numpy_helper.to_array(read_file(path).proto.graph.initializer[0]), WEIGHT)


def named(path, **sizes):
    """Write a file whose weight claims the `sizes`."""
    linear(path)
    model = onnx.load(path)
    for key, value in sizes.items():
        if key == "dims":
            del model.graph.initializer[0].dims[:]
            model.graph.initializer[0].dims.extend(value)
    path.write_bytes(model.SerializeToString())


def large(path):
    linear(path)
    with open(path, "r+b") as file:
        file.truncate(2**30)  # a hole: it takes no space


def beside(path, *, offset=0, length=192, size=192):
    """Write a file whose weight claims to lie in another file."""
    linear(path)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "m.data"), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())
    with open(path.with_name("m.data"), "wb") as file:
        file.truncate(size)


def pipe(path):
    beside(path)
    path.with_name("m.data").unlink()
    os.mkfifo(path.with_name("m.data"))


def explosive(path):
    """Write a few bytes that ask for 40 GB."""
    shape = numpy_helper.from_array(np.array([10**5, 10**5], np.int64), "shape")
    extra = [NODE("Constant", [], ["s"], value=shape), NODE("ConstantOfShape", ["s"], ["zeros"])]
    extra += [NODE("ReduceSum", ["zeros"], ["sum"], keepdims=0), NODE("Add", ["y", "sum"], ["z"])]
    linear(path, extra=extra, outputs=["z"])


def adding_up(path):
    """Write a few bytes that ask for a gigabyte at a time, five times."""
    shape = numpy_helper.from_array(np.array([2**28], np.int64), "shape")
    extra = [NODE("Constant", [], ["s"], value=shape)]
    for i in range(5):
        extra += [NODE("ConstantOfShape", ["s"], [f"zeros{i}"]), NODE("ReduceSum", [f"zeros{i}"], [f"sum{i}"])]
    extra += [NODE("Sum", ["y", *(f"sum{i}" for i in range(5))], ["z"])]
    linear(path, extra=extra, outputs=["z"])


def huge_image(path):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 10**5, 10**5])
    given_back = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([NODE("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], "g", [given], [given_back])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def widened(path, *, side, batch="n"):
    """Write a file that doubles the sides of images, or makes them 64 times as long if they are open."""
    scale = 64 if isinstance(side, str) else 2
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, side, side])
    nodes = [
        NODE("Constant", [], ["scales"], value=numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32))),
        NODE("Resize", ["x", "", "scales"], ["wide"], mode="nearest"),
        NODE("ReduceMean", ["wide"], ["y"], axes=[2, 3], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "g", [given], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def sized_by_the_image(path):
    """Write a file that makes as many zeros as the sum of the image's numbers says, times themselves."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])
    nodes = [
        NODE("ReduceSum", ["x"], ["sum"], keepdims=1),
        NODE("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
        NODE("Reshape", ["whole", "one"], ["side"]),
        NODE("Concat", ["side", "side"], ["sides"], axis=0),
        NODE("ConstantOfShape", ["sides"], ["big"]),
        NODE("ReduceSum", ["big"], ["nothing"], keepdims=0),
        NODE("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        NODE("Add", ["mean", "nothing"], ["y"]),
    ]
    length = numpy_helper.from_array(np.array([1], np.int64), "one")
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [given], [output], [length])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def outside_in_a_branch(path):
    """Write weights outside the folder, in a graph inside a node."""
    tensor = numpy_helper.from_array(WEIGHT, "inner")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    branches = [
        helper.make_graph(
            [NODE("Identity", ["inner"], [f"{name}_out"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)],
            [tensor],
        )
        for name in ("then", "else")
    ]
    condition = NODE("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c"))
    branch = NODE("If", ["c"], ["unread"], then_branch=branches[0], else_branch=branches[1])
    linear(path, extra=[condition, branch])
    path.parent.with_name("secret").write_bytes(b"0" * 192)


def sliced_too_short(path):
    """Write a Slice behind a pool that needs more rows than there are."""
    bounds = [NODE("Constant", [], [name], value=numpy_helper.from_array(np.array([at]), name)) for name, at in BOUNDS]
    extra = [NODE("MaxPool", ["images"], ["p"], kernel_shape=[5, 5]), NODE("Slice", ["p", "s", "e", "a"], ["z"])]
    linear(path, extra=[*bounds, *extra], outputs=["z"])


def split_into_more(path):
    """Write a Split of two outputs that says it has one."""
    linear(path, extra=[NODE("Split", ["y"], ["z", "rest"], axis=1, num_outputs=1)], outputs=["z"])
    model = onnx.load(path)
    model.opset_import[0].version = 18
    onnx.save(model, path)


def split_whole(path):
    """Write a Split into one part, as it says."""
    linear(path, extra=[NODE("Split", ["y"], ["z"], axis=1)], outputs=["z"])


BOUNDS = (("s", 0), ("e", 1), ("a", 2))
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a copy of the process opens the file first")
ENDS = "expected a graph that ONNX Runtime can open, got one on which it ends its process by signal 6"
HOSTILE = {
    "a gigabyte": (large, "expected m.onnx of at most 536,870,912 bytes, got 1,073,741,824"),
    "a folder": (lambda path: path.mkdir(), "expected m.onnx to be a plain file"),
    "more numbers than data": (
        lambda path: named(path, dims=[2**40, 4]),
        "expected 4,398,046,511,104 numbers in weight",
    ),
    "a negative size": (
        lambda path: named(path, dims=[-12, -4]),
        r"expected weight of a size from 0 on, got \[-12, -4\]",
    ),
    "weights behind the end": (
        lambda path: beside(path, offset=64),
        "expected weight within m.data, of 192 bytes, got",
    ),
    "a length below nothing": (lambda path: beside(path, length=-5), "External data length must be non-negative"),
    "seventeen gigabytes beside it": (
        lambda path: beside(path, size=17 * 2**30),
        "expected m.data of at most 17,179,869,184 bytes",
    ),
    "a pipe beside it": (pipe, "expected m.data to be a plain file"),
    "a graph of 40 GB": (
        explosive,
        "expected constants that are computed of at most 1,073,741,824 numbers in all, got 10,000,000,",
    ),
    "constants of a gigabyte each": (
        adding_up,
        "expected constants that are computed of at most 1,073,741,824 numbers in all, got 1,342,177,",
    ),
    "an image of 120 GB": (
        huge_image,
        r"expected tensors of at most 134,217,728 numbers for the images that it is tried on, got x of \[5, 3, 1000",
    ),
    "activations of a gigabyte": (lambda path: widened(path, side=2**11), r"got wide of \[5, 3, 4096, 4096\]"),
    "activations of 12 GB, of images of any size": (
        lambda path: widened(path, side="side"),
        r"got wide of \[5, 3, 14336, 14336\]",
    ),
    "activations of a gigabyte, with a fixed batch": (
        lambda path: widened(path, side=2**10, batch=32),
        r"got wide of \[32, 3, 2048, 2048\]",
    ),
    "a size that the image decides": (
        sized_by_the_image,
        "expected sizes that do not depend on the numbers in an image, got those of ConstantOfShape big",
    ),
    "a Slice of a negative size": pytest.param(sliced_too_short, ENDS, marks=on_linux),
    "a Split of more outputs than it says": pytest.param(split_into_more, ENDS, marks=on_linux),
    "weights outside, in a branch": (outside_in_a_branch, "expected its weights in its own folder, got '../secret'"),
}


@pytest.mark.parametrize(("write", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_refused_in_one_line_before_it_costs_anything(write, message, tmp_path):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner" / "m.onnx")
    with pytest.raises(OnnxFileError, match=message) as caught:
        read_file(tmp_path / "inner" / "m.onnx")
    assert str(caught.value).startswith(str(tmp_path / "inner" / "m.onnx"))
    assert str(caught.value).isprintable()


def test_activations_of_large_images_are_within_the_bound(tmp_path):
    widened(tmp_path / "m.onnx", side=1024)  # 2^23.6 numbers an image
    model = read_file(tmp_path / "m.onnx").proto
    assert [axis.dim_param for axis in model.graph.input[0].type.tensor_type.shape.dim] == ["n", "", "", ""]


@on_linux
def test_graph_that_takes_too_long_to_open_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "TRIAL_SECONDS", (1, 1))
    monkeypatch.setattr(file, "_inferred", lambda proto: time.sleep(60))
    path = linear(tmp_path / "m.onnx", extra=[NODE("Split", ["y"], ["z"], axis=1)], outputs=["z"])
    with pytest.raises(OnnxFileError, match="got one on which it takes more than 1 s"):
        read_file(path)


@on_linux
@pytest.mark.parametrize(("write", "message"), [(split_whole, None), (split_into_more, ENDS)])
def test_a_copy_that_waits_for_ever_is_no_verdict(write, message, tmp_path, monkeypatch):
    whole, process, begun = file._inferred, os.getpid(), tmp_path / "begun"

    def waits_in_the_first_copy(proto):
        if os.getpid() != process and not begun.exists():
            begun.touch()
            time.sleep(60)
        return whole(proto)

    monkeypatch.setattr(file, "TRIAL_SECONDS", (1, 60))
    monkeypatch.setattr(file, "_inferred", waits_in_the_first_copy)
    write(tmp_path / "m.onnx")
    with nullcontext() if message is None else pytest.raises(OnnxFileError, match=message):
        read_file(tmp_path / "m.onnx")
    assert begun.exists()


def sparse(dims, indices, values=(1.0, 2.0, 3.0)):
    """Return a sparse tensor `weight`."""
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "weight"),
        numpy_helper.from_array(np.array(indices, np.int64), "indices"),
        dims,
    )


def with_sparse(path, tensor, *, as_node):
    """Write a file whose matrix is a sparse tensor: among the constants of the graph, or of a node."""
    model = onnx.load(linear(path))
    del model.graph.initializer[:]
    if as_node:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["weight"], sparse_value=tensor))
    else:
        model.graph.sparse_initializer.append(tensor)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("as_node", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize("indices", [[0, 5, 47], [[0, 0], [1, 1], [11, 3]]], ids=["flat", "coordinates"])
def test_sparse_weights_are_read_as_dense_ones(indices, as_node, tmp_path):
    classifier = OnnxClassifier(with_sparse(tmp_path / "m.onnx", sparse([12, 4], indices), as_node=as_node))
    weight = torch.zeros(12, 4)
    weight[0, 0], weight[1, 1], weight[11, 3] = 1.0, 2.0, 3.0
    expected = IMAGES.flatten(1) @ weight
    torch.testing.assert_close(classifier(IMAGES), expected)
    torch.testing.assert_close(classifier.module()(IMAGES), expected)
    assert classifier.parameters == 48


@pytest.mark.parametrize("as_node", [False, True], ids=["initializer", "node"])
@pytest.mark.parametrize(
    ("dims", "indices", "message"),
    [
        ([2**40, 2**20], [0, 5, 47], "sparse tensors of at most 134,217,728 numbers, got 1,152,921,504,606,846,976"),
        ([-12, 4], [0, 5, 47], r"sparse tensors of sizes from 0 on, got \[\[-12, 4\]\]"),
        ([12, 4], [0, 5, 48], r"expected 3 indices within 'weight', of \[12, 4\], got others"),
        ([12, 4], [0, 5, -1], r"expected 3 indices within 'weight', of \[12, 4\], got others"),
        ([12, 4], [[0, 0], [1, 4], [11, 3]], "invalid entry in coordinates array"),
        ([12, 4], [0, 5], r"expected 3 indices within 'weight', of \[12, 4\], got others"),
    ],
)
def test_sparse_weights_that_are_huge_or_inconsistent_are_refused(dims, indices, message, as_node, tmp_path):
    path = with_sparse(tmp_path / "m.onnx", sparse(dims, indices), as_node=as_node)
    with pytest.raises(OnnxFileError, match=message):
        read_file(path)


@pytest.mark.parametrize("held", [False, True], ids=["initialisers", "nodes"])
@pytest.mark.parametrize(("seven_bits", "count"), [(True, 0), (False, 3)])
def test_weights_of_eight_bits_are_counted_wherever_they_are_held(seven_bits, count, held, tmp_path):
    path = quantised(tmp_path, "qdq", seven_bits=seven_bits)
    model = onnx.load(path)
    if held:
        tensors = list(model.graph.initializer)
        del model.graph.initializer[:]
        for tensor in tensors:
            model.graph.node.insert(0, NODE("Constant", [], [tensor.name], value=tensor))
        onnx.save(model, path)
    assert read_file(path).wide_weights == count


def test_damaged_weights_of_a_function_that_nothing_calls_are_passed_over(tmp_path):
    path = quantised(tmp_path, "qdq", seven_bits=False)
    model = onnx.load(path)
    damaged = numpy_helper.from_array(np.full((2, 4), 100, np.int8))
    damaged.raw_data = damaged.raw_data[:4]
    nodes = [NODE("Constant", [], ["b"], value=damaged)]
    model.functions.append(helper.make_function("own", "Unused", [], ["b"], nodes, [helper.make_opsetid("", 17)]))
    model.opset_import.append(helper.make_opsetid("own", 1))
    onnx.save(model, path)
    assert read_file(path).wide_weights == 3
