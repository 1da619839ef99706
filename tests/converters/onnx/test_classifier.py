"""An ONNX file as a classifier: whatever its conventions, NCHW images in and logits out, or one clear line."""

import hashlib
import threading

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from robnet_zoo.converters.onnx import classifier, export
from robnet_zoo.converters.onnx.classifier import OnnxClassifier
from robnet_zoo.errors import OnnxFileError
from robnet_zoo.zoo.registry import load_model
from tests.converters.onnx.linear_files import IMAGES, NODE, WEIGHT, linear, product


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


def test_logits_that_lie_between_0_and_1_are_not_probabilities(tmp_path):
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


def test_graph_is_known_by_the_hash_of_its_file_and_its_numbers(tmp_path):
    file = OnnxClassifier(linear(tmp_path / "m.onnx"))
    assert file.sha256 == hashlib.sha256((tmp_path / "m.onnx").read_bytes()).hexdigest()
    assert (file.parameters, file.spec) == (48, None)


def test_file_of_ours_carries_its_spec(tmp_path):
    network = load_model("robnet_micro.digits")
    export(network, tmp_path / "m.onnx")
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
    "two inputs": (two_inputs, "expected a single input, the images, got a, b"),
    "no input": (no_input, "expected a single input, the images, got none"),
    "bytes": (
        lambda path: linear(path, kind=TensorProto.UINT8),
        r"expected images as floating-point numbers, .*, got tensor\(uint8\) as input 'images'",
    ),
    "flat images": (flat, r"expected images of 4 axes, got input 'x' of shape \['n', 12\]"),
    "two outputs": (
        lambda path: linear(path, extra=[NODE("Relu", ["y"], ["z"])], outputs=["y", "z"]),
        r"expected a single output of logits, \(5, K\) for 5 images, got y \(5, 4\), z \(5, 4\)",
    ),
    "label alone": (
        lambda path: linear(path, extra=[NODE("ReduceMax", ["y"], ["z"], axes=[1], keepdims=0)], outputs=["z"]),
        r"expected a single output of logits, \(5, K\) for 5 images, got z \(5,\)",
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
def test_file_that_is_not_a_classifier_of_images_is_refused_in_one_line(write, message, tmp_path):
    write(tmp_path / "m.onnx")
    with pytest.raises(OnnxFileError, match=message) as caught:
        OnnxClassifier(tmp_path / "m.onnx")
    assert str(caught.value).startswith(str(tmp_path / "m.onnx"))
    assert str(caught.value).isprintable()


def test_graph_that_never_ends_is_ended(tmp_path, monkeypatch):
    # A loop of 2**62 rounds around the logits.
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
    monkeypatch.setattr(classifier, "PROBE_SECONDS", 0.5)
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
    with pytest.raises(OnnxFileError, match=r"expected ONNX Runtime to run on cuda, got .* has only cpu"):
        file.to("cuda")


def test_damaged_name_that_is_not_text_is_refused_in_one_line(tmp_path):
    path = linear(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes().replace(b"Flatten", b"Fl\xfdtten"))
    with pytest.raises(OnnxFileError, match="expected a") as caught:
        OnnxClassifier(path)
    assert str(caught.value).isprintable()
