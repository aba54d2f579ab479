# SPDX-License-Identifier: MIT
"""ONNX Runtime and OpenVINO: inference, both from one model of one node with constant weights."""

import fusedrnn
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Our gates in the order of ONNX.
ORDER = {"RNN": [0], "LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}


def make(name, task, cell, weights, x, dy):
    model, shapes = build(cell, weights, x, dy)
    return {"onnxruntime": _onnxruntime, "openvino": _openvino}[name](model, shapes, x)


def build(cell, weights, x, dy):
    """The model's bytes, and the shapes of its outputs by name."""
    T, N, I = x.shape
    H, kind = dy.shape[-1], cell.partition("_")[0].upper()

    def gates(name):
        blocks = weights[name].reshape(len(ORDER[kind]), H, -1)[ORDER[kind]]
        return blocks.reshape(1, len(ORDER[kind]) * H, -1)

    both = np.concatenate((gates("bias_ih_l0"), gates("bias_hh_l0")), 1)[:, :, 0]
    constants = {"W": gates("weight_ih_l0"), "R": gates("weight_hh_l0"), "B": both}
    shapes = {"y": (T, 1, N, H), "h": (1, N, H), "c": (1, N, H)}
    if kind != "LSTM":
        del shapes["c"]
    options = {"linear_before_reset": int(cell == "gru")} if kind == "GRU" else {}
    node = helper.make_node(kind, ["x", *constants], list(shapes), hidden_size=H, **options)
    graph = helper.make_graph(
        [node],
        cell,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (T, N, I))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString(), shapes


def _onnxruntime(model, shapes, x):
    """Outputs are bound once, so that nothing is copied or allocated in a call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = fusedrnn.get_num_threads()
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    outputs = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    return lambda: session.run_with_iobinding(binding), lambda _: _answer(outputs)


def _openvino(model, shapes, x):
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": fusedrnn.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_HYPER_THREADING": True,  # else a thread a core, where we have one a processor
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    outputs = {name: request.get_tensor(name).data for name in shapes}
    return request.infer, lambda _: _answer(outputs)


def _answer(outputs):
    """Without the axis of directions in y."""
    return {name: np.squeeze(a, 1) if a.ndim == 4 else a.copy() for name, a in outputs.items()}
