"""ONNX models of a single node, and what ONNX Runtime computes with a model."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

DOMAINS = (("", None), ("com.microsoft", 1))


def single(kind, shape=(2, 3, 7, 6), *constants, opset=20, outputs=1, **attributes):
    """Return a model of one node: its first input of this shape, the others constants, and `outputs` outputs."""
    kinds = [TensorProto.FLOAT, TensorProto.INT64]  # the second output of an operator is positions, but for Split
    types = [kinds[0 if kind == "Split" else i] for i in range(outputs)]
    return of_node(kind, ["x", *constants], shape, TensorProto.FLOAT, types, standard=opset, **attributes)


def of_node(kind, inputs, shape, image, results, *, standard=20, **attributes):
    """Return a model of one node.

    Args:
        kind: its operator; with its domain in front if it is not the standard's.
        inputs: constants, None for one that is left out, and "x" for the image.
        shape: of the image.
        image: ONNX's number of its type.
        results: those of the outputs' types.
        standard: the version of the standard.
        attributes: of the node.
    """
    domain, _, name = kind.rpartition(".")
    names = ["" if value is None else value if isinstance(value, str) else f"c{i}" for i, value in enumerate(inputs)]
    initializers = [
        numpy_helper.from_array(np.asarray(value), f"c{i}")
        for i, value in enumerate(inputs)
        if value is not None and not isinstance(value, str)
    ]
    outputs = [f"y{i}" for i in range(len(results))]
    node = helper.make_node(name, names, outputs, domain=domain, **attributes)
    values = [helper.make_tensor_value_info(y, number, None) for y, number in zip(outputs, results, strict=True)]
    given = helper.make_tensor_value_info("x", image, shape)
    graph = helper.make_graph([node], "single", [given], values, initializers)
    opsets = [helper.make_opsetid(domain, version or standard) for domain, version in DOMAINS]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def by_runtime(model, x, *, precise=False):
    """Return the outputs of ONNX Runtime; precise: without sums that saturate on processors without VNNI."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: np.asarray(x)})
