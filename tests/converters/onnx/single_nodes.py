"""ONNX models of a single node, and what ONNX Runtime computes with a model."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


def single(kind, shape=(2, 3, 7, 6), *constants, opset=20, outputs=1, **attributes):
    """Return a model of one node: its first input of this shape, the others constants, and `outputs` outputs."""
    names = ["" if value is None else f"c{i}" for i, value in enumerate(constants)]
    initializers = [numpy_helper.from_array(np.asarray(v), n) for v, n in zip(constants, names, strict=True) if n]
    node = helper.make_node(kind, ["x", *names], [f"y{i}" for i in range(outputs)], **attributes)
    results = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    graph = helper.make_graph([node], "single", [given], results, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def by_runtime(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})
