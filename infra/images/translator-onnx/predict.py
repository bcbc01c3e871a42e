"""Runs the ONNX file as it came, without optimisations, on the gate's inputs (harness.predict)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import file as onnx_file
import harness
import numpy as np
import onnx
import onnxruntime


def load(folder: Path, file: str) -> harness.Ready:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = onnx_file.load(folder / file)
    data = model.SerializeToString() if _has_other_files(folder / file) else str(folder / file)
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    dies = bool({"GRU", "LSTM"} & {node.op_type for node in model.graph.node})
    return lambda signature: _answer(session, signature, dies=dies)


def _answer(session: onnxruntime.InferenceSession, signature: dict[str, Any], *, dies: bool) -> harness.Answer:
    names = [one["name"] for one in signature["outputs"]]
    maps = signature["native"]["maps"]
    dtypes = {one["name"]: one["dtype"] for one in signature["inputs"]}

    def answer(arrays: harness.Arrays) -> dict[str, Any]:
        if dies and any(not len(array) for array in arrays.values()):
            raise ValueError("ONNX Runtime 1.31 ends the process on a batch of no rows of GRU or LSTM")
        feed = {name: _given(array, dtypes[name]) for name, array in arrays.items()}
        answers = dict(zip(names, session.run(names, feed), strict=True))
        for name, keys in maps.items():
            answers[name] = np.array([[row[key] for key in keys] for row in answers[name]], dtype=np.float32)
            answers[name] = answers[name].reshape(-1, len(keys))
        return answers

    return answer


def _has_other_files(path: Path) -> bool:
    return any(len(one.external_data) for one in onnx_file.tensors(onnx.load(path, load_external_data=False).graph))


def _given(array: np.ndarray, dtype: str) -> np.ndarray:
    return array.astype(object) if dtype == "string" else array.astype(dtype)


if __name__ == "__main__":
    harness.predict(load)
