"""The examples of the ONNX standard, one model each, and how an operator here is compared with them.

`collect_testcases` of onnx makes all of them, which takes most of a minute; here only those of an operator are made.
"""

import importlib
import pkgutil
import warnings
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, defs, helper, numpy_helper

from robnet_zoo.converters.onnx.folding import constant
from robnet_zoo.converters.onnx.operators.node import FLOAT8
from robnet_zoo.converters.onnx.to_torch import GraphModule

SLOW = ("AveragePool", "LpPool", "MaxPool")  # examples that take seconds to make, large images in numpy
WITHOUT_EXAMPLES = ("Constant", "GlobalLpPool")  # or of a model without inputs
LEFT_OUT = {
    "training": "training",
    "string": "texts",
    "_sequence": "sequences",
    "identity_opt": "optional values",
    "col2im_5d": "refused",
    "downsample_scales_linear_align_corners": "ONNX Runtime and torch divide by whole sizes",
    "downsample_scales_cubic_align_corners": "ONNX Runtime and torch divide by whole sizes",
}
ROUNDING = ("Cast", "CastLike", "Ceil", "Floor", "Hardmax", "Mod", "Round", "Sign", "TopK")
OLDEST = 7
MOST = 4  # examples of an operator whose older forms and gradients are looked at
# Outputs that ONNX Runtime gives otherwise than the standard: scores of attention before and after its mask, at opset
# 23, and maxima that return to an image larger than their own.
OTHERWISE = {"Attention": (3,), "MaxUnpool": (0,)}
DIFFERENTIABLE = {"BatchNormalization": (0,)}  # inputs, if not all
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}  # whose answers are written so


def kinds(operators):
    """Return the names of a table's operators that have examples, slow ones marked."""
    standard = [name for name in operators if "." not in name and defs.has(name) and name not in WITHOUT_EXAMPLES]
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in sorted(standard)]


@cache
def examples(kind):
    """Return the standard's examples of an operator alone."""
    node = importlib.import_module("onnx.backend.test.case.node")
    plain = kind.lower()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what its examples of infinities divide by
        for module in pkgutil.iter_modules(node.__path__):
            if module.name.replace("_", "") in (plain, f"{plain}op"):
                importlib.import_module(f"{node.__name__}.{module.name}")
    return [
        case
        for case in node._NodeTestCases
        if {entry.op_type for entry in case.model.graph.node} == {kind}
        and not any(word in case.name for word in LEFT_OUT)
    ]


def tensors(case):
    """Return the inputs and outputs of an example as constants of ONNX."""
    inputs, outputs = case.data_sets[0]
    graph = case.model.graph
    return [
        [
            value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value), info.name)
            for value, info in zip(values, infos, strict=True)
        ]
        for values, infos in ((inputs, graph.input), (outputs, graph.output))
    ]


def with_constants(model, inputs, image):
    """Return a model with all inputs but one as constants."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for i, (value, tensor) in enumerate(zip(model.graph.input, inputs, strict=True)):
        if i != image:
            fixed.graph.initializer.append(tensor)
            fixed.graph.initializer[-1].name = value.name
    return fixed


def some(kind):
    """Return a few examples of an operator, spread over all of them."""
    cases = examples(kind)
    return cases[:: -(-len(cases) // MOST)] if cases else []


def compare_with_the_standard(kind):
    """Compare an operator with all examples of the standard; return how many there were."""
    count = 0
    for case in examples(kind):
        inputs, outputs = tensors(case)
        image = 0 if inputs else None
        model = with_constants(case.model, inputs, image)
        for value, expected in zip(case.model.graph.output, outputs, strict=True):
            if inputs:
                got = GraphModule(model, output=value.name)(constant(inputs[0]))
                close(got, constant(expected), expected.data_type, case.name)
                count += 1
    return count


def close(got, expected, kind, name):
    """Compare numbers; those of narrow types may be held in wider ones."""
    assert got.shape == expected.shape, name
    if kind in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16):
        assert got.dtype == expected.dtype, name
    exact = kind in (TensorProto.FLOAT, TensorProto.DOUBLE)
    if name in FOUR_DIGITS:
        relative, absolute = 1e-3, 1e-7  # as the standard's own tests compare
    else:
        relative, absolute = (2e-4, 1e-5) if exact else (1e-2, 1e-2) if expected.is_floating_point() else (0, 0)
    absolute *= max(1.0, float(expected.double().abs().nan_to_num(0, 0, 0).max())) if expected.numel() else 1.0
    np.testing.assert_allclose(
        got.detach().double(), expected.double(), rtol=relative, atol=absolute, err_msg=name, equal_nan=True
    )


def compare_with_runtime_at_older_opsets(kind):
    """Compare an operator, in each earlier form that the standard had, with ONNX Runtime; return how many cases ran."""
    versions = sorted({schema.since_version for schema in defs.get_all_schemas_with_history() if is_of(schema, kind)})
    count = 0
    for case in some(kind):
        inputs, _ = tensors(case)
        for newer in (version for version in versions[1:] if version > OLDEST):
            older = earlier(case.model, inputs, newer - 1)
            if older is None:
                continue
            model, left = older
            expected = by_runtime(model, left)
            if expected is None or not left:
                continue
            for position, (value, result) in enumerate(zip(model.graph.output, expected, strict=True)):
                if position in OTHERWISE.get(kind, ()) or value.type.tensor_type.elem_type in FLOAT8:
                    continue
                fixed = with_constants(model, left, 0)
                got = GraphModule(fixed, output=value.name)(constant(left[0]))
                result = constant(numpy_helper.from_array(result))
                close(got, result, value.type.tensor_type.elem_type, f"{case.name} at opset {newer - 1}")
                count += 1
    return count


def is_of(schema, kind):
    return schema.name == kind and schema.domain == ""


def earlier(model, inputs, opset):
    """Return a model of one node in the form of an earlier opset, and its inputs, or None if there is none.

    What had been an attribute then becomes one again.
    """
    node = model.graph.node[0]
    try:
        then, now = defs.get_schema(node.op_type, opset), defs.get_schema(node.op_type)
    except defs.SchemaError:
        return None
    older = onnx.ModelProto()
    older.CopyFrom(model)
    older.opset_import[0].version, older.ir_version = opset, 8
    changed = older.graph.node[0]
    left = list(inputs)
    for position, parameter in reversed(list(enumerate(now.inputs))):
        if parameter.name not in then.attributes or position >= len(changed.input) or not changed.input[position]:
            continue
        index = [value.name for value in older.graph.input].index(changed.input[position])
        value = numpy_helper.to_array(left.pop(index)).tolist()
        if value == []:
            return None
        del older.graph.input[index], changed.input[position]
        changed.attribute.append(helper.make_attribute(parameter.name, value))
    try:
        onnx.checker.check_model(older, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return None
    return older, left


def by_runtime(model, inputs):
    """Return what ONNX Runtime gives, or None if it does not take the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in model.graph.input]
        return session.run(None, dict(zip(names, map(numpy_helper.to_array, inputs), strict=True)))
    except Exception:
        return None


def compare_gradients(kind):
    """Compare input gradients in float64 with differences along a random direction; return how many there were."""
    count = 0
    for case in some(kind):
        inputs, outputs = tensors(case)
        if kind in ROUNDING or outputs[0].data_type not in (TensorProto.FLOAT, TensorProto.DOUBLE):
            continue
        for image, tensor in enumerate(inputs):
            floating = tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE)
            if not floating or np.prod(tensor.dims) > 4000 or image not in DIFFERENTIABLE.get(kind, (image,)):
                continue
            count += compare_gradient(case, inputs, image)
    return count


def compare_gradient(case, inputs, image):
    module = GraphModule(with_constants(case.model, inputs, image)).double()
    generator = torch.Generator().manual_seed(0)
    start = constant(inputs[image]).double()
    x = start + 1e-3 * torch.rand(start.shape, generator=generator, dtype=torch.float64)  # off any kinks
    x.requires_grad_()
    y = module(x)
    if not y.requires_grad or not y.isfinite().all():
        return 0
    along = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
    (gradient,) = torch.autograd.grad((y * weights).sum(), x)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = ((module(x + sign * step * along) * weights).sum() for sign in (1, -1))
    expected = float(ahead - behind) / (2 * step)
    assert float((gradient * along).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-5), case.name
    return 1
