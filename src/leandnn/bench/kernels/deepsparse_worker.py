"""Run by the Python of another environment, which has deepsparse and onnx: one product, again and again.

Arguments: a folder with weight.npy (M × K) and x.npy (N × K). Writes y.npy (N × M) there, says "ready", then
multiplies once for every line it is sent and answers each with a line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Serve products until the input ends."""
    import onnx
    from deepsparse import Engine
    from onnx import TensorProto, helper, numpy_helper

    weight, x = np.load(folder / "weight.npy"), np.load(folder / "x.npy")
    (tokens, columns), rows = x.shape, weight.shape[0]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [tokens, columns])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [tokens, rows])],
        [numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8  # what deepsparse 1.8 reads
    onnx.save(model, str(folder / "product.onnx"))
    engine = Engine(str(folder / "product.onnx"), batch_size=tokens, num_cores=1)
    np.save(folder / "y.npy", engine.run([x], val_inp=False)[0])
    print("ready", flush=True)
    for _ in sys.stdin:
        engine.run([x], val_inp=False)
        print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
