"""ONNX files that are damaged in every way at random: their bytes, graphs, types, ranks, attributes and constants.

`python -m tests.converters.onnx.mutations COUNT SEED` opens so many of them; NAMES of undamaged files behind
it take these alone.
"""

import io
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from onnx.external_data_helper import uses_external_data

from robnet_zoo.benchmarks.targets.load import load_target
from robnet_zoo.converters.onnx import to_onnx
from robnet_zoo.converters.onnx.operators.table import OPERATORS
from robnet_zoo.errors import RobnetZooError
from tests.converters.onnx.quantised_files import CLASSES, FORMS, SHAPE, plain, quantised
from tests.small_networks import SPECS, network_of

MEMORY = 2 * 2**30  # bytes that a file may cost, beyond what the process has before it opens the first
SECONDS = 20  # that a file may take
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
REALS = (0.0, -1.0, 1e-45, 1e30, float("inf"), float("nan"))
N = helper.make_node
MICROSOFT = {"domain": "com.microsoft"}
TIMM = ("test_byobnet", "test_vit")  # timm's smallest networks
SHAPE_OF_TIMM = (3, 32, 32)
SIZED = {"test_vit": {"img_size": 32}}  # those that must know it
BLOCKS = {"domain": "com.microsoft.nchwc"}


def constant(name: str, value: object) -> onnx.NodeProto:
    return N("Constant", [], [name], value=numpy_helper.from_array(np.asarray(value)))


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / 4


def sparse(name: str, *shape: int) -> onnx.SparseTensorProto:
    """Return a sparse tensor of ten numbers."""
    indices = np.sort(np.random.default_rng(0).choice(int(np.prod(shape)), 10, replace=False))
    return helper.make_sparse_tensor(
        numpy_helper.from_array(weights(10), name), numpy_helper.from_array(indices, f"{name}_indices"), shape
    )


def branch(kind: str) -> onnx.GraphProto:
    return helper.make_graph(
        [N(kind, ["x"], [f"in_{kind}"])], kind, [], [helper.make_tensor_value_info(f"in_{kind}", 1, None)]
    )


# Ways from `x`, (N, 3, 8, 8), to `v`, of four axes, through operators of every kind.
WAYS = {
    "convolution": [constant("w", weights(4, 3, 3, 3)), N("Conv", ["x", "w"], ["v"], pads=[1] * 4)],
    "transposed": [constant("w", weights(3, 4, 2, 2)), N("ConvTranspose", ["x", "w"], ["v"], strides=[2, 2])],
    "pools": [
        N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2], ceil_mode=1),
        N("AveragePool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        N("LpPool", ["b"], ["v"], kernel_shape=[2, 2], p=2),
    ],
    "norms": [
        constant("s", np.ones(3, np.float32)),
        N("InstanceNormalization", ["x", "s", "s"], ["a"]),
        N("GroupNormalization", ["a", "s", "s"], ["b"], num_groups=3),
        constant("t", np.ones(8, np.float32)),
        N("LayerNormalization", ["b", "t"], ["c"], axis=-1),
        N("LRN", ["c"], ["d"], size=3),
        N("BatchNormalization", ["d", "s", "s", "s", "s"], ["v"]),
    ],
    "shape arithmetic": [
        N("Shape", ["x"], ["n"], end=1),
        constant("r", np.array([3, 64])),
        N("Concat", ["n", "r"], ["target"], axis=0),
        N("Reshape", ["x", "target"], ["a"]),
        constant("q", np.array([0, 3, 8, 8])),
        N("Reshape", ["a", "q"], ["v"]),
    ],
    "indexing": [
        constant("i", np.array([2, 0])),
        N("Gather", ["x", "i"], ["a"], axis=1),
        constant("b0", np.array([1])),
        constant("e0", np.array([2**31])),
        constant("ax", np.array([2])),
        N("Slice", ["a", "b0", "e0", "ax"], ["b"]),
        constant("p", np.array([0, 0, 1, 1, 0, 0, 0, 1])),
        N("Pad", ["b", "p"], ["c"], mode="reflect"),
        N("Split", ["c"], ["v", "rest"], axis=1, num_outputs=2),
    ],
    "resampling": [
        constant("z", np.array([1, 1, 2, 1.5], np.float32)),
        N("Resize", ["x", "", "z"], ["a"], mode="cubic"),
        constant("g", np.zeros((1, 4, 4, 2), np.float32)),
        N("DepthToSpace", ["y"], ["b"], blocksize=2),
        constant("w", weights(4, 3, 1, 1)),
        N("Conv", ["a", "w"], ["y"]),
        N("SpaceToDepth", ["b"], ["v"], blocksize=2),
    ],
    "matrices": [
        constant("m", weights(8, 5)),
        N("MatMul", ["x", "m"], ["a"]),
        N("Einsum", ["a"], ["b"], equation="nchw->nchw"),
        N("Transpose", ["b"], ["c"], perm=[0, 1, 3, 2]),
        N("Softmax", ["c"], ["d"], axis=1),
        N("TopK", ["d", "k"], ["v", "positions"]),
        constant("k", np.array([2])),
    ],
    "attention": [
        N("Attention", ["x", "x", "x"], ["a"]),
        N("RMSNormalization", ["a", "s"], ["v"]),
        constant("s", np.ones(8, np.float32)),
    ],
    "rounding": [
        N("Sign", ["x"], ["a"]),
        N("Mod", ["x", "one"], ["b"], fmod=1),
        constant("one", np.float32(0.7)),
        N("Add", ["a", "b"], ["c"]),
        N("Floor", ["c"], ["d"]),
        N("Cast", ["d"], ["e"], to=TensorProto.INT8),
        N("Cast", ["e"], ["v"], to=TensorProto.FLOAT),
    ],
    "quantised": [
        constant("s", np.float32(1 / 255)),
        constant("z", np.uint8(3)),
        N("QuantizeLinear", ["x", "s", "z"], ["a"]),
        N("QLinearAdd", ["a", "s", "z", "a", "s", "z", "s", "z"], ["b"], **MICROSOFT),
        N("QLinearLeakyRelu", ["b", "s", "z", "s", "z"], ["c"], alpha=0.1, **MICROSOFT),
        N("DequantizeLinear", ["c", "s", "z"], ["v"]),
    ],
    "of ONNX Runtime": [
        N("QuickGelu", ["x"], ["a"], **MICROSOFT),
        constant("w", weights(3, 3, 1, 1)),
        N("FusedConv", ["a", "w"], ["b"], activation="Relu", **MICROSOFT),
        constant("m", weights(8, 8)),
        N("FusedMatMul", ["b", "m"], ["v"], alpha=0.5, **MICROSOFT),
    ],
    "recurrent": [
        N("Transpose", ["x"], ["a"], perm=[1, 0, 2, 3]),
        constant("flat_rows", np.array([3, -1, 64])),
        N("Reshape", ["a", "flat_rows"], ["b"]),
        constant("w_lstm", weights(2, 16, 64)),
        constant("r_lstm", weights(2, 16, 4)),
        constant("b_lstm", weights(2, 32)),
        constant("p_lstm", weights(2, 12)),
        N(
            "LSTM",
            ["b", "w_lstm", "r_lstm", "b_lstm", "", "", "", "p_lstm"],
            ["", "c"],
            hidden_size=4,
            direction="bidirectional",
            activations=["HardSigmoid", "Tanh", "Elu"] * 2,
            activation_alpha=[0.2, 0.9, 0.3, 0.8],
            activation_beta=[0.4, 0.5],
            clip=3.0,
        ),
        constant("w_gru", weights(1, 15, 4)),
        constant("r_gru", weights(1, 15, 5)),
        N("GRU", ["c", "w_gru", "r_gru"], ["d", ""], hidden_size=5, linear_before_reset=1),
        constant("ones", np.array([1])),
        N("Squeeze", ["d", "ones"], ["e"]),
        constant("w_rnn", weights(1, 6, 5)),
        constant("r_rnn", weights(1, 6, 6)),
        N("RNN", ["e", "w_rnn", "r_rnn"], ["f"], hidden_size=6, direction="reverse"),
        N("Transpose", ["f"], ["v"], perm=[2, 0, 1, 3]),
    ],
    "in blocks of channels": [
        constant("w1", weights(16, 3, 3, 3)),
        N("Conv", ["x", "w1"], ["a"], kernel_shape=[3, 3], pads=[1] * 4, activation="Relu", **BLOCKS),
        N("MaxPool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2], **BLOCKS),
        N("ReorderOutput", ["b"], ["c"], channels=12, **BLOCKS),
        N("ReorderInput", ["c"], ["d"], **BLOCKS),
        constant("w2", weights(16, 16, 1, 1)),
        N("Conv", ["d", "w2"], ["e"], kernel_shape=[1, 1], **BLOCKS),
        N("Upsample", ["e"], ["f"], scales=[1, 1, 2, 2], **BLOCKS),
        N("ReorderOutput", ["f"], ["v"], channels=16, channels_last=1, **BLOCKS),
    ],
    "sparse": [
        N("Constant", [], ["w"], sparse_value=sparse("w", 4, 3, 3, 3)),
        N("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        N("Mul", ["a", "u"], ["v"]),
    ],
    "branches": [
        constant("yes", np.array(True)),
        N("If", ["yes"], ["v"], then_branch=branch("Relu"), else_branch=branch("Neg")),
    ],
}


def small(way: list[onnx.NodeProto]) -> ModelProto:
    """Return a classifier of (N, 3, 8, 8) with some operators in front of its head."""
    produced: set[str] = {"x"}
    ordered: list[onnx.NodeProto] = []
    nodes = [
        *way,
        N("Flatten", ["v"], ["flat"]),
        N("ReduceMean", ["flat", "last"], ["mean"], keepdims=1),
        N("MatMul", ["mean", "head"], ["logits"]),
    ]
    while nodes:
        node = next(node for node in nodes if {*node.input} - {"", "head", "last", "u"} <= produced)
        nodes.remove(node)
        ordered.append(node)
        produced |= {*node.output}
    graph = helper.make_graph(
        ordered,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(weights(1, CLASSES), "head"), numpy_helper.from_array(np.array([1]), "last")],
        sparse_initializer=[sparse("u", 1, 4, 8, 8)] if "u" in {name for node in way for name in node.input} else [],
    )
    opsets = [helper.make_opsetid("", 23)]
    opsets += [helper.make_opsetid(domain["domain"], 1) for domain in (MICROSOFT, BLOCKS)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def optimised(path: Path, *, in_blocks: bool = False) -> ModelProto:
    """Return a file as ONNX Runtime optimises it; in blocks of channels at its last level."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if in_blocks else levels.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def exported(name: str) -> ModelProto:
    """Return a model of timm with random weights as torch's exporter writes it."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=CLASSES, **SIZED.get(name, {})).eval()
    axes = {"x": {0: "n"}, "logits": {0: "n"}}
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one, and that a size is a constant
        torch.onnx.export(
            model,
            (torch.zeros(1, *SHAPE_OF_TIMM),),
            written,
            dynamo=False,
            input_names=["x"],
            output_names=["logits"],
            dynamic_axes=axes,
        )
    return onnx.load_from_string(written.getvalue())


def originals(folder: Path) -> dict[str, ModelProto]:
    """Return undamaged files by name: hand-made, of timm, exported by us, quantised and optimised by ONNX Runtime."""
    models = {**made(), "optimised": optimised(plain(folder / "plain.onnx"))}
    models["optimised, in blocks"] = optimised(folder / "plain.onnx", in_blocks=True)
    for form in FORMS:
        models[form] = onnx.load(quantised(folder, form))
        models[f"{form}, optimised"] = optimised(folder / f"{form}.onnx")
    return models


def made() -> dict[str, ModelProto]:
    """Return the undamaged files that need no more than a moment."""
    ours = to_onnx(network_of(SPECS["identities alone"]).float())
    return {**{name: small(way) for name, way in WAYS.items()}, "ours": ours, **of_timm()}


def of_timm() -> dict[str, ModelProto]:
    """Return the undamaged files that torch's exporter wrote of timm's networks."""
    return {name: exported(name) for name in TIMM}


def graphs(model: ModelProto) -> list[onnx.GraphProto]:
    inner = [attribute.g for node in model.graph.node for attribute in node.attribute if attribute.HasField("g")]
    return [model.graph, *inner]


def tensors(model: ModelProto) -> list[TensorProto]:
    constants = [
        attribute.t
        for graph in graphs(model)
        for node in graph.node
        for attribute in node.attribute
        if attribute.HasField("t")
    ]
    parts = [part for tensor in sparse_tensors(model) for part in (tensor.values, tensor.indices)]
    return [tensor for graph in graphs(model) for tensor in graph.initializer] + constants + parts


def sparse_tensors(model: ModelProto) -> list[onnx.SparseTensorProto]:
    nodes = [node for graph in graphs(model) for node in graph.node]
    constants = [attribute.sparse_tensor for node in nodes for attribute in node.attribute]
    return [tensor for tensor in [*model.graph.sparse_initializer, *constants] if tensor.HasField("values")]


def change_sparse(model: ModelProto, dice: random.Random) -> None:
    """Change the shape of a sparse tensor."""
    tensor = dice.choice(sparse_tensors(model))
    tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(NUMBERS)


def change_type(model: ModelProto, dice: random.Random) -> None:
    dice.choice(tensors(model)).data_type = dice.choice([*TensorProto.DataType.values(), 99])


def change_shape(model: ModelProto, dice: random.Random) -> None:
    tensor = dice.choice(tensors(model))
    match dice.randrange(4):
        case 0:
            tensor.dims.append(dice.choice(NUMBERS))
        case 1 if tensor.dims:
            tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(NUMBERS)
        case 2:
            del tensor.dims[:]
        case _:
            shuffled = dice.sample(list(tensor.dims), len(tensor.dims))
            del tensor.dims[:]
            tensor.dims.extend(shuffled)


def change_numbers(model: ModelProto, dice: random.Random) -> None:
    """Replace a tensor's numbers, as many or fewer, by odd ones."""
    tensor = dice.choice([tensor for tensor in tensors(model) if not uses_external_data(tensor)])
    try:
        array = numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError, KeyError):
        return
    if dice.random() < 0.3:
        tensor.raw_data = array.tobytes()[: dice.randrange(array.nbytes + 1)]
        return
    flat = array.reshape(-1)
    if flat.size:
        values = REALS if array.dtype.kind == "f" else NUMBERS
        with np.errstate(all="ignore"):
            flat[dice.randrange(flat.size)] = np.asarray(dice.choice(values)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def change_wiring(model: ModelProto, dice: random.Random) -> None:
    """Leave an input out, or connect it to anything: a missing name, a later node, the node itself."""
    graph = dice.choice(graphs(model))
    node = dice.choice(graph.node)
    names = [name for other in graph.node for name in (*other.input, *other.output)] + ["", "nothing"]
    side = node.input if node.input and dice.random() < 0.8 else node.output
    match dice.randrange(4):
        case 0 if side:
            del side[dice.randrange(len(side))]
        case 1:
            side.append(dice.choice(names))
        case 2 if side and node.output:
            side[dice.randrange(len(side))] = node.output[0]
        case _ if side:
            side[dice.randrange(len(side))] = dice.choice(names)


def change_attribute(model: ModelProto, dice: random.Random) -> None:
    node = dice.choice(dice.choice(graphs(model)).node)
    if not node.attribute or dice.random() < 0.1:
        node.attribute.append(helper.make_attribute("unheard_of", dice.choice(NUMBERS)))
        return
    attribute = dice.choice(node.attribute)
    match dice.randrange(5):
        case 0:
            node.attribute.remove(attribute)
        case 1:
            attribute.type = dice.choice(AttributeProto.AttributeType.values())
        case 2:
            attribute.name = dice.choice(["axis", "axes", "perm", "to", "value", "group", "kernel_shape", "mode", ""])
        case _:
            attribute.i, attribute.f = dice.choice(NUMBERS), dice.choice(REALS)
            if attribute.s:
                attribute.s = dice.choice(
                    [b"\xff\x00", b"", b"linear", b"edge", b"nchw->nc", b"SAME_UPPER", b"Clip", b"reverse"]
                )
            if attribute.ints:
                attribute.ints[dice.randrange(len(attribute.ints))] = dice.choice(NUMBERS)
                if dice.random() < 0.3:
                    attribute.ints.append(dice.choice(NUMBERS))


def change_operator(model: ModelProto, dice: random.Random) -> None:
    node = dice.choice(dice.choice(graphs(model)).node)
    domain, _, node.op_type = dice.choice([*sorted(OPERATORS), "Loop", "Scan", "RandomNormal", "Konv"]).rpartition(".")
    node.domain = dice.choice([domain, domain, domain, "com.microsoft", "nowhere"])


def change_nodes(model: ModelProto, dice: random.Random) -> None:
    """Remove, repeat or reorder nodes."""
    nodes = dice.choice(graphs(model)).node
    at = dice.randrange(len(nodes))
    match dice.randrange(3):
        case 0:
            del nodes[at]
        case 1:
            nodes.append(nodes[at])
        case _:
            shuffled = dice.sample(list(nodes), len(nodes))
            del nodes[:]
            nodes.extend(shuffled)


def change_ends(model: ModelProto, dice: random.Random) -> None:
    """Change the type, the axes or the name of the input or of the output."""
    value = dice.choice([*model.graph.input, *model.graph.output])
    shape = value.type.tensor_type.shape
    match dice.randrange(5):
        case 0:
            value.type.tensor_type.elem_type = dice.choice([*TensorProto.DataType.values(), 99])
        case 1 if shape.dim:
            shape.dim[dice.randrange(len(shape.dim))].dim_value = dice.choice(NUMBERS)
        case 2 if shape.dim:
            del shape.dim[dice.randrange(len(shape.dim))]
        case 3:
            shape.dim.add().dim_value = dice.choice(NUMBERS)
        case _:
            value.name = dice.choice(["", "nothing", *(name for node in model.graph.node for name in node.output)])


def change_versions(model: ModelProto, dice: random.Random) -> None:
    if dice.random() < 0.2:
        model.ir_version = dice.choice(NUMBERS)
    elif dice.random() < 0.2:
        del model.opset_import[:]
    else:
        dice.choice(model.opset_import).version = dice.choice([*range(30), *NUMBERS])


def claim_to_be_ours(model: ModelProto, dice: random.Random) -> None:
    """Write metadata as we do, or damage them."""
    model.producer_name = "robnet_zoo"
    texts = {"spec": dice.choice(["", "{}", "[]", "\x00", SPECS["identities alone"].dumps()])}
    texts["precision"] = dice.choice(["fp32", "int8", "fp64", ""])
    helper.set_model_props(model, texts)


def refer_outside(model: ModelProto, dice: random.Random) -> None:
    """Have a tensor's numbers in another file."""
    tensor = dice.choice(tensors(model))
    tensor.data_location = TensorProto.EXTERNAL
    location = dice.choice(["/etc/passwd", "../up", "weights", "", "mutated.onnx"])
    for key, value in (("location", location), ("offset", dice.choice(NUMBERS)), ("length", dice.choice(NUMBERS))):
        tensor.external_data.add(key=key, value=str(value))


# Changes, and how often each is made: most often those after which ONNX Runtime still runs many files.
CHANGES, WEIGHTS = zip(
    (change_type, 1),
    (change_shape, 2),
    (change_sparse, 1),
    (change_numbers, 5),
    (change_wiring, 2),
    (change_attribute, 5),
    (change_operator, 3),
    (change_nodes, 1),
    (change_ends, 2),
    (change_versions, 2),
    (claim_to_be_ours, 1),
    (refer_outside, 1),
    strict=True,
)


def damaged_bytes(content: bytes, dice: random.Random) -> bytes:
    """Cut bytes off, flip some, or insert some."""
    match dice.randrange(3):
        case 0:
            return content[: dice.randrange(len(content))]
        case 1:
            changed = bytearray(content)
            for _ in range(dice.randint(1, 8)):
                changed[dice.randrange(len(changed))] = dice.randrange(256)
            return bytes(changed)
        case _:
            at = dice.randrange(len(content))
            return content[:at] + dice.randbytes(dice.randint(1, 16)) + content[at:]


def mutations(models: dict[str, ModelProto], count: int, *, seed: int) -> Iterator[tuple[str, list[str], bytes]]:
    """Yield damaged files, each with what it was and what was done to it; the same for the same seed."""
    for number in range(count):
        dice = random.Random(f"{seed}.{number}")
        name = dice.choice(sorted(models))
        model = ModelProto()
        model.CopyFrom(models[name])
        if dice.random() < 0.2:
            yield f"{number}, {name}:", ["damaged_bytes"], damaged_bytes(model.SerializeToString(), dice)
            continue
        done = []
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            (change,) = dice.choices(CHANGES, WEIGHTS)
            try:
                change(model, dice)
            except (ValueError, TypeError, IndexError):  # that protobuf cannot hold
                continue
            done.append(change.__name__)
        yield f"{number}, {name}:", done, model.SerializeToString()


def complaint(path: Path) -> str | None:
    """Open a file as a target, ask it for logits and gradients, and return the error that refuses it, if any.

    Any error that is not the package's own is raised.
    """
    try:
        target = load_target(path)
        images = torch.rand(2, 3, *(target.input_size or SHAPE)[1:])
        if target.input_size is None or target.input_size[0] == 3:
            target.judge(images)
            if target.proposer is not None:
                target.proposer(images.requires_grad_()).sum().backward()
    except RobnetZooError as error:
        return str(error)
    return None


def limit_memory() -> None:
    """Bound the memory of this process by what it has now and MEMORY."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def main(count: int, seed: int, names: list[str]) -> None:
    """Open damaged files within MEMORY; print what goes wrong, and at the end how many of each kind were refused.

    Each file is named before it is opened, so that the last line says which one this process died of.

    Args:
        count: how many files are opened.
        seed: of the damage.
        names: of the undamaged files that are taken; none for all.
    """
    report = os.fdopen(os.dup(1), "w")
    done, refused = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        models = {name: model for name, model in originals(Path(folder)).items() if name in names or not names}
        path, noise = Path(folder) / "mutated.onnx", Path(folder) / "noise"
        printed = os.open(noise, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        for standard in (1, 2):
            os.dup2(printed, standard)
        limit_memory()
        warnings.simplefilter("error")  # they would be lines on stderr
        for name, changes, content in mutations(models, count, seed=seed):
            print("opens", name, ", ".join(changes), file=report, flush=True)
            path.write_bytes(content)
            started = time.monotonic()
            try:
                message = complaint(path)
            except Exception:
                message = f"not refused in a line:\n{traceback.format_exc()}"
            seconds = time.monotonic() - started
            done.update(changes)
            refused.update(changes if message else ())
            if message and "\n" in message:
                print("WRONG", message, file=report)
            if noise.stat().st_size:
                print("WRONG", "it printed", noise.read_text(errors="replace"), file=report)
                os.truncate(noise, 0)
            if seconds > SECONDS:
                print("WRONG", f"it took {seconds:.0f} s", file=report)
    for change, times in sorted(done.items()):
        print(f"{change}: {times}, {refused[change]} refused", file=report)
    print(f"end of {count}", file=report, flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), sys.argv[3:])
