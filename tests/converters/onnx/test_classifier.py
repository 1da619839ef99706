"""An ONNX file as a classifier: whatever its conventions, NCHW images in and logits out, or one clear line."""

import hashlib
import os
import threading

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from robnet_zoo.converters.onnx import classifier as onnx_classifier
from robnet_zoo.converters.onnx import export as exporter
from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.errors import OnnxFileError
from robnet_zoo.zoo.registry import load_model

WEIGHT = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)  # of 3 channels of 2x2 pixels, 4 classes


def linear(path, *, batch="batch", kind=TensorProto.FLOAT, nhwc=False, extra=(), outputs=("y",)):
    """A file that multiplies the pixels of an image with WEIGHT, and does `extra` with the product, `y`."""
    shape = [batch, 2, 2, 3] if nhwc else [batch, 3, 2, 2]
    nodes = [helper.make_node("Transpose", ["images"], ["nchw"], perm=[0, 3, 1, 2])] if nhwc else []
    flat = "nchw" if nhwc else "images"
    nodes += [
        helper.make_node("Flatten", [flat], ["flat"]),
        helper.make_node("Cast", ["flat"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["float", "weight"], ["y"]),
        *extra,
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def product(images):
    return images.flatten(1) @ torch.from_numpy(WEIGHT)


IMAGES = torch.rand(7, 3, 2, 2, generator=torch.Generator().manual_seed(1))
NODE = helper.make_node


@pytest.mark.parametrize(
    "options",
    [{}, {"batch": 1}, {"batch": 3}, {"nhwc": True}, {"nhwc": True, "batch": 4}, {"kind": TensorProto.DOUBLE}],
    ids=str,
)
def test_file_and_its_module_give_the_closed_form_whatever_the_conventions(options, tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx", **options))
    assert (file.input_size, file.num_classes) == ((3, 2, 2), 4)
    torch.testing.assert_close(file(IMAGES), product(IMAGES), rtol=1e-5, atol=1e-6)
    images = IMAGES.clone().requires_grad_()
    logits = file.module(batch=file.batch)(images)
    torch.testing.assert_close(logits.detach(), product(IMAGES), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), images)
    torch.testing.assert_close(gradient, torch.from_numpy(WEIGHT)[:, 2].view(3, 2, 2).expand(7, 3, 2, 2))


def test_file_that_leaves_rows_and_columns_open_takes_images_of_any_size(tmp_path):
    shape = ["n", 3, "h", "w"]
    given, given_back = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, shape[: 4 - i * 2]) for i, n in enumerate("xy")
    )
    graph = helper.make_graph(
        [NODE("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], "mean", [given], [given_back]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    file = OnnxClassifier(tmp_path / "m.onnx")
    assert (file.input_size, file.num_classes) == (None, 3)
    torch.testing.assert_close(file(IMAGES), IMAGES.mean((2, 3)))


def test_probabilities_become_their_logarithms(tmp_path):
    path = linear(tmp_path / "m.onnx", extra=[NODE("Softmax", ["y"], ["z"], axis=1)], outputs=["z"])
    file = OnnxClassifier(path)
    assert file.probabilities
    expected = product(IMAGES).log_softmax(1)
    torch.testing.assert_close(file(IMAGES), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(file.module()(IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_logits_that_lie_between_0_and_1_are_no_probabilities(tmp_path):
    path = linear(tmp_path / "m.onnx", extra=[NODE("Sigmoid", ["y"], ["z"])], outputs=["z"])
    file = OnnxClassifier(path)
    assert not file.probabilities
    torch.testing.assert_close(file(IMAGES), product(IMAGES).sigmoid(), rtol=1e-5, atol=1e-6)


def test_the_one_output_with_a_row_of_logits_an_image_is_taken(tmp_path):
    extra = [NODE("ArgMax", ["y"], ["label"], axis=1, keepdims=0), NODE("ReduceSum", ["y"], ["sum"], keepdims=0)]
    path = linear(tmp_path / "m.onnx", extra=extra, outputs=["sum", "y"])
    torch.testing.assert_close(OnnxClassifier(path)(IMAGES), product(IMAGES), rtol=1e-5, atol=1e-6)


def test_weights_in_a_file_beside_it_are_read_and_count_in_the_hash(tmp_path):
    path = linear(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    file = OnnxClassifier(path)
    torch.testing.assert_close(file(IMAGES), product(IMAGES), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(file.module()(IMAGES), product(IMAGES), rtol=1e-5, atol=1e-6)
    expected = hashlib.sha256(path.read_bytes() + (tmp_path / "m.data").read_bytes()).hexdigest()
    assert file.sha256 == expected
    (tmp_path / "m.data").unlink()
    with pytest.raises(OnnxFileError, match=r"m\.onnx: \S*m\.data cannot be read: No such file"):
        OnnxClassifier(path)


def test_weights_outside_its_folder_are_refused(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    path = linear(folder / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0)
    (folder / "m.data").rename(tmp_path / "m.data")
    model = onnx.load(path, load_external_data=False)
    for place in (str(tmp_path / "m.data"), "../m.data"):
        for entry in model.graph.initializer[0].external_data:
            entry.value = place if entry.key == "location" else entry.value
        path.write_bytes(model.SerializeToString())
        with pytest.raises(OnnxFileError, match="expected its weights in its own folder, got"):
            OnnxClassifier(path)
    (folder / "m.data").symlink_to(tmp_path / "m.data")
    model.graph.initializer[0].external_data[0].value = "m.data"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(OnnxFileError, match=r"expected its weights in its own folder, got 'm\.data'"):
        OnnxClassifier(path)


def test_graph_is_known_by_the_hash_of_its_file_and_its_numbers(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"))
    assert file.sha256 == hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert (file.parameters, file.spec) == (48, None)


def test_file_of_ours_carries_its_spec(tmp_path):
    network = load_model("robnet_micro.digits")
    exporter.export(network, tmp_path / "m.onnx")
    file = OnnxClassifier(tmp_path / "m.onnx")
    assert file.spec is not None
    assert file.spec.hash == network.spec.hash
    file = OnnxClassifier(tmp_path / "m.onnx")
    next(entry for entry in file.proto.metadata_props if entry.key == "spec").value = '{"name": 1}'
    with pytest.raises(OnnxFileError, match=r"m\.onnx: expected a spec in its metadata, got: "):
        _ = file.spec


def two_inputs(path):
    value = helper.make_tensor_value_info
    given = [value(name, TensorProto.FLOAT, ["n", 3, 2, 2]) for name in ("a", "b")]
    nodes = [NODE("Add", ["a", "b"], ["c"]), NODE("Flatten", ["c"], ["y"])]
    graph = helper.make_graph(nodes, "two", given, [value("y", TensorProto.FLOAT, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def no_input(path):
    graph = helper.make_graph(
        [NODE("Constant", [], ["y"], value_floats=[1.0, 2.0])],
        "none",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def truncated(path):
    linear(path)
    path.write_bytes(path.read_bytes()[:150])


def flat(path):
    value = helper.make_tensor_value_info
    shapes = [value(name, TensorProto.FLOAT, ["n", 12]) for name in ("x", "y")]
    graph = helper.make_graph([NODE("Relu", ["x"], ["y"])], "flat", shapes[:1], shapes[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


UNUSABLE = {
    "missing": (lambda path: None, "cannot be read: No such file or directory"),
    "empty": (lambda path: path.write_bytes(b""), "expected a graph that ONNX Runtime can run, got: "),
    "text": (lambda path: path.write_text("a model"), "expected an ONNX file, got one that cannot be read"),
    "truncated": (truncated, "expected an ONNX file, got one that cannot be read"),
    "two inputs": (two_inputs, "expected one input, the images, got a, b"),
    "no input": (no_input, "expected one input, the images, got none"),
    "bytes": (
        lambda path: linear(path, kind=TensorProto.UINT8),
        r"expected images as floating numbers, .*, got tensor\(uint8\) as input 'images'",
    ),
    "flat images": (flat, r"expected images of 4 axes, got input 'x' of shape \['n', 12\]"),
    "two outputs": (
        lambda path: linear(path, extra=[NODE("Relu", ["y"], ["z"])], outputs=["y", "z"]),
        r"expected one output of logits, \(5, K\) for 5 images, got y \(5, 4\), z \(5, 4\)",
    ),
    "label alone": (
        lambda path: linear(path, extra=[NODE("ReduceMax", ["y"], ["z"], axes=[1], keepdims=0)], outputs=["z"]),
        r"expected one output of logits, \(5, K\) for 5 images, got z \(5,\)",
    ),
    "batch in a constant": (
        lambda path: linear(
            path,
            extra=[
                NODE("Constant", [], ["shape"], value_ints=[1, 4]),
                NODE("Reshape", ["y", "shape"], ["z"]),
            ],
            outputs=["z"],
        ),
        "expected logits of 5 random images, got: ",
    ),
    "unknown operation": (
        lambda path: linear(path, extra=[NODE("Mystery", ["y"], ["z"], domain="acme")], outputs=["z"]),
        "expected a graph that ONNX Runtime can run, got: ",
    ),
}


@pytest.mark.parametrize(("write", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_file_that_is_no_classifier_of_images_is_refused_in_one_line(write, message, tmp_path):
    write(tmp_path / "m.onnx")
    with pytest.raises(OnnxFileError, match=message) as caught:
        OnnxClassifier(tmp_path / "m.onnx")
    assert str(caught.value).startswith(str(tmp_path / "m.onnx"))
    assert str(caught.value).isprintable()


def named(path, **sizes):
    """A file whose weight says of itself what `sizes` says."""
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
    """A file whose weight lies, as it says, at a place in another."""
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
    """A few bytes that ask for 40 GB."""
    shape = numpy_helper.from_array(np.array([10**5, 10**5], np.int64), "shape")
    extra = [NODE("Constant", [], ["s"], value=shape), NODE("ConstantOfShape", ["s"], ["zeros"])]
    extra += [NODE("ReduceSum", ["zeros"], ["sum"], keepdims=0), NODE("Add", ["y", "sum"], ["z"])]
    linear(path, extra=extra, outputs=["z"])


def huge_image(path):
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 10**5, 10**5])
    given_back = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([NODE("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], "g", [given], [given_back])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def outside_in_a_branch(path):
    """Weights outside the folder, in a graph inside a node."""
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


HOSTILE = {
    "a gigabyte": (large, "expected m.onnx of at most 536,870,912 bytes, got 1,073,741,824"),
    "a folder": (lambda path: path.mkdir(), "expected m.onnx to be a plain file"),
    "more numbers than data": (
        lambda path: named(path, dims=[2**40, 4]),
        "expected 4,398,046,511,104 numbers in weight",
    ),
    "a negative size": (lambda path: named(path, dims=[-12, -4]), r"expected weight of a size, got \[-12, -4\]"),
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
    "a graph of 40 GB": (explosive, "expected tensors of at most 1,073,741,824 numbers, got zeros"),
    "an image of 120 GB": (huge_image, "expected tensors of at most 1,073,741,824 numbers, got x"),
    "weights outside, in a branch": (outside_in_a_branch, "expected its weights in its own folder, got '../secret'"),
}


@pytest.mark.parametrize(("write", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_is_refused_in_one_line_before_it_costs_anything(write, message, tmp_path):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "inner" / "m.onnx")
    with pytest.raises(OnnxFileError, match=message) as caught:
        OnnxClassifier(tmp_path / "inner" / "m.onnx")
    assert str(caught.value).startswith(str(tmp_path / "inner" / "m.onnx"))
    assert str(caught.value).isprintable()


def test_graph_that_never_ends_is_ended(tmp_path, monkeypatch):
    """A loop of 2**62 rounds around the logits."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [NODE("Identity", ["going"], ["go"]), NODE("Add", ["state", "state"], ["next"])],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, None),
        ],
        [value("go", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
    )
    extra = [
        NODE("Constant", [], ["rounds"], value=numpy_helper.from_array(np.array(2**62), "rounds")),
        NODE("Loop", ["rounds", "", "y"], ["z"], body=body),
    ]
    monkeypatch.setattr(onnx_classifier, "PROBE_SECONDS", 0.5)
    with pytest.raises(OnnxFileError, match=r"expected logits of 5 random images, got: .*terminate"):
        OnnxClassifier(linear(tmp_path / "m.onnx", extra=extra, outputs=["z"]))


@pytest.mark.parametrize("opset", range(9, 22))
@pytest.mark.parametrize("batch", [1, "n"])
def test_foreign_file_of_any_opset_is_read(opset, batch, tmp_path):
    kernel = np.random.default_rng(0).standard_normal((4, 3, 2, 2)).astype(np.float32)
    nodes = [
        NODE("Conv", ["data", "kernel"], ["a"], kernel_shape=[2, 2]),
        NODE("Relu", ["a"], ["b"]),
        NODE("GlobalAveragePool", ["b"], ["c"]),
        NODE("Flatten", ["c"], ["scores"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "foreign",
        [value("data", TensorProto.FLOAT, [batch, 3, 2, 2])],
        [value("scores", TensorProto.FLOAT, [batch, 4])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4), tmp_path / "m.onnx"
    )
    expected = torch.nn.functional.conv2d(IMAGES, torch.from_numpy(kernel)).relu().flatten(1)
    file = OnnxClassifier(tmp_path / "m.onnx")
    torch.testing.assert_close(file(IMAGES), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(file.module(batch=file.batch)(IMAGES), expected, rtol=1e-5, atol=1e-6)
    assert (file.metadata, file.spec, file.precision) == ({}, None, None)


def test_open_batch_is_run_in_pieces_of_the_size_asked_for(tmp_path, monkeypatch):
    seen = []
    bound = OnnxClassifier._bound

    def noted(self, images, session):
        seen.append(len(images))
        return bound(self, images, session)

    monkeypatch.setattr(OnnxClassifier, "_bound", noted)
    file = OnnxClassifier(linear(tmp_path / "m.onnx"), batch=3)
    seen.clear()
    torch.testing.assert_close(file(IMAGES), product(IMAGES), rtol=1e-5, atol=1e-6)
    assert seen == [3, 3, 3]
    seen.clear()
    many = IMAGES.repeat(3, 1, 1, 1)
    file = OnnxClassifier(tmp_path / "m.onnx", provider="cpu")
    seen.clear()
    torch.testing.assert_close(file(many), product(many), rtol=1e-5, atol=1e-6)
    assert seen == [8, 8, 5]
    with pytest.raises(OnnxFileError, match="expected a batch of 4, got 3"):
        OnnxClassifier(linear(tmp_path / "fixed.onnx", batch=4), batch=3)


@pytest.mark.parametrize("batch", [None, 2])
def test_pieces_run_side_by_side_and_stay_in_order(tmp_path, monkeypatch, batch):
    bound, running, together = OnnxClassifier._bound, set(), threading.Barrier(2)

    def met(self, images, session):
        running.add((threading.get_ident(), session.get_session_options().intra_op_num_threads))
        together.wait(timeout=20)  # raises unless two pieces are under way at once
        return bound(self, images, session)

    many = IMAGES.repeat(2, 1, 1, 1)[:12] + torch.arange(12)[:, None, None, None] / 12
    file = OnnxClassifier(linear(tmp_path / "m.onnx"), provider="cpu", threads=2, batch=batch)
    monkeypatch.setattr(OnnxClassifier, "_bound", met)
    torch.testing.assert_close(file(many), product(many), rtol=1e-5, atol=1e-6)
    assert len(running) == 2
    assert {threads for _, threads in running} == {1}


def test_no_images_give_no_logits_and_images_of_another_size_are_refused(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"))
    assert file(IMAGES[:0]).shape == (0, 4)
    with pytest.raises(OnnxFileError, match=r"expected logits of images of \(7, 3, 4, 4\), got: "):
        file(torch.rand(7, 3, 4, 4))


def test_logits_are_of_the_images_dtype_and_images_need_not_be_contiguous(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"))
    images = IMAGES.double().contiguous(memory_format=torch.channels_last)
    logits = file(images)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits, product(IMAGES).double(), rtol=1e-5, atol=1e-6)


def test_session_has_the_threads_asked_for_and_runs_on_what_is_there(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"), threads=3)
    assert file.session.get_session_options().intra_op_num_threads == 3
    assert file.provider == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(
        OnnxFileError, match="expected a provider of cuda, tensorrt, openvino, cpu, did you mean 'cuda'"
    ):
        OnnxClassifier(tmp_path / "m.onnx", provider="cud")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_tensors_are_bound_where_they_lie(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"), provider="cuda")
    logits = file(IMAGES.cuda())
    assert logits.device.type == "cuda"
    torch.testing.assert_close(logits.cpu(), product(IMAGES), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for CUDA where there is none")
def test_cuda_where_there_is_none_is_an_error_and_no_silent_fallback(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"))
    with pytest.raises(OnnxFileError, match=r"expected ONNX Runtime to run on cuda, got .* has cpu alone"):
        file.to("cuda")
