"""What does not need the image is computed when a graph is read, whatever it is written with."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from robnet_zoo.converters.onnx.folding import constant, folded
from robnet_zoo.converters.onnx.to_torch import GraphModule
from robnet_zoo.errors import UnsupportedError

NODE = helper.make_node


def model(nodes, shape, *constants, opset=17, functions=(), output="y"):
    """Return a model from x to y, whose constants are (name, numbers)."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants]
    graph = helper.make_graph(nodes, "folded", [given], [result], tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def kinds(made):
    return [node.kind for node in folded(made).nodes]


# How torch's exporter flattens: everything but the batch is known when the file is opened.
FLATTEN = [
    NODE("Shape", ["x"], ["shape"]),
    NODE("Gather", ["shape", "one"], ["channels"]),
    NODE("Slice", ["shape", "two", "four"], ["sizes"]),
    NODE("ReduceProd", ["sizes"], ["pixels"], keepdims=0),
    NODE("Mul", ["channels", "pixels"], ["numbers"]),
    NODE("Unsqueeze", ["numbers", "zero"], ["row"]),
    NODE("Concat", ["open", "row"], ["wanted"], axis=0),
    NODE("Reshape", ["x", "wanted"], ["y"]),
]
NUMBERS = [("one", 1), ("two", [2]), ("four", [4]), ("zero", [0]), ("open", [-1])]
NUMBERS = [(name, np.array(value, np.int64)) for name, value in NUMBERS]


def test_sizes_of_an_image_are_constants():
    made = model(FLATTEN, ["n", 3, 4, 5], *NUMBERS)
    assert kinds(made) == ["Reshape"]
    assert GraphModule(made)(torch.rand(2, 3, 4, 5)).shape == (2, 60)


def test_a_batch_that_the_file_fixes_is_left_open():
    made = model(FLATTEN, [1, 3, 4, 5], *NUMBERS)
    assert kinds(made) == ["Reshape"]
    assert GraphModule(made)(torch.rand(7, 3, 4, 5)).shape == (7, 60)


def test_arithmetic_on_open_sizes_is_done_once_for_each_size():
    made = model(FLATTEN, ["n", "c", "h", "w"], *NUMBERS)
    graph = GraphModule(made)
    assert len(graph.nodes) == len(FLATTEN)
    for shape in ((2, 3, 4, 5), (2, 3, 4, 5), (1, 2, 6, 6)):
        assert graph(torch.rand(shape)).shape == (shape[0], np.prod(shape[1:]))
    assert len(graph.kept) == 2


def branching(condition, *nodes):
    """Return a model whose `If` adds or multiplies, by a condition that comes from nodes."""
    branches = {
        f"{name}_branch": helper.make_graph(
            [NODE(kind, ["x", "two"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)],
        )
        for name, kind in (("then", "Add"), ("else", "Mystery"))
    }
    return model(
        [*nodes, NODE("If", [condition], ["y"], **branches)],
        ["n", 3],
        ("two", np.float32(2)),
        ("yes", np.array(True)),
        ("three", np.array(3, np.int64)),
        ("at", np.array(1, np.int64)),
    )


SIZE_IS_THREE = [
    NODE("Shape", ["x"], ["shape"]),
    NODE("Gather", ["shape", "at"], ["size"]),
    NODE("Equal", ["size", "three"], ["condition"]),
]


@pytest.mark.parametrize("made", [branching("yes"), branching("condition", *SIZE_IS_THREE)], ids=["constant", "size"])
def test_branch_whose_condition_is_known_takes_the_place_of_an_if(made):
    assert kinds(made) == ["Add", "Identity"]
    torch.testing.assert_close(GraphModule(made)(torch.ones(1, 3)), torch.full((1, 3), 3.0))


@pytest.mark.parametrize("kind", ["If", "Loop", "Scan"])
def test_control_flow_that_depends_on_the_image_is_refused_by_name(kind):
    positive = [NODE("ReduceMax", ["x"], ["top"], keepdims=0), NODE("Cast", ["top"], ["some"], to=TensorProto.BOOL)]
    made = branching("some", *positive)
    made.graph.node[-1].op_type = kind
    with pytest.raises(UnsupportedError, match=f"^no gradient is known for the ONNX operator {kind}$"):
        folded(made)


def test_several_unknown_operators_are_refused_together():
    with pytest.raises(UnsupportedError, match=r"^no gradient is known for the ONNX operators Mystery, Riddle$"):
        folded(model([NODE("Riddle", ["x"], ["z"]), NODE("Mystery", ["z"], ["y"])], ["n", 3]))


def test_functions_of_a_model_are_taken_apart():
    opsets = [helper.make_opsetid("", 17)]
    double = helper.make_function("own", "Double", ["a"], ["b"], [NODE("Add", ["a", "a"], ["b"])], opsets)
    made = model([NODE("Double", ["x"], ["z"], domain="own"), NODE("Neg", ["z"], ["y"])], ["n", 3], functions=[double])
    assert kinds(made) == ["Add", "Neg"]
    assert GraphModule(made)(torch.ones(1, 3)).tolist() == [[-2.0, -2.0, -2.0]]


def test_operator_that_the_standard_defines_by_others_is_taken_apart():
    made = model([NODE("AffineGrid", ["x", "size"], ["y"])], ["n", 2, 3], ("size", np.array([2, 1, 2, 2])), opset=20)
    assert "AffineGrid" not in kinds(made)
    theta = torch.tensor([[[0.5, 0.0, 0.1], [0.2, 1.0, 0.0]], [[1.0, 0.0, 0.0], [0.0, 0.3, 0.0]]])
    expected = torch.nn.functional.affine_grid(theta, [2, 1, 2, 2], align_corners=False)
    torch.testing.assert_close(GraphModule(made)(theta), expected)


def test_weights_that_are_quantised_in_the_file_are_dequantised_when_it_is_opened():
    nodes = [NODE("DequantizeLinear", ["w", "scale", "zero"], ["weight"], axis=0), NODE("Mul", ["x", "weight"], ["y"])]
    weight = ("w", np.array([-4, 0, 4], np.int8))
    scales = (("scale", np.array([1, 2, 0.5], np.float32)), ("zero", np.zeros(3, np.int8)))
    graph = folded(model(nodes, ["n", 3], weight, *scales))
    assert [node.kind for node in graph.nodes] == ["Mul"]
    assert graph.constants["weight"].tolist() == [-4.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (TensorProto.INT4, torch.tensor([-3, 0, 7], dtype=torch.int8)),
        (TensorProto.UINT16, torch.tensor([65533, 0, 7], dtype=torch.int32)),
        (TensorProto.BFLOAT16, torch.tensor([-3, 0, 7], dtype=torch.bfloat16)),
        (TensorProto.FLOAT8E5M2, torch.tensor([-3.0, 0.0, 7.0])),
        (TensorProto.FLOAT4E2M1, torch.tensor([-3.0, 0.0, 6.0])),
    ],
)
def test_constants_of_narrow_types_are_held_in_types_that_torch_computes_with(kind, expected):
    tensor = helper.make_tensor("c", kind, [3], [65533 if kind == TensorProto.UINT16 else -3, 0, 7])
    got = constant(tensor)
    assert got.dtype == expected.dtype
    assert torch.equal(got, expected)
