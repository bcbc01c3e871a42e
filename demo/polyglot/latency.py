"""How long a model takes for one row, in the environment of its framework, on one thread.
`latency.py --kind KIND --model FOLDER --rows FILE.csv --out FOLDER`

Writes latency.json: the median in milliseconds over the rows, after a warm-up.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Answer = Callable[[np.ndarray], Any]
WARM = 20


def sklearn(folder: Path) -> Answer:
    import skops.io

    optimizer = "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"  # which skops does not know for harmless
    return skops.io.load(folder / "model.skops", trusted=[optimizer]).predict_proba


def xgboost(folder: Path) -> Answer:
    import xgboost

    model = xgboost.XGBClassifier(n_jobs=1)
    model.load_model(folder / "model.json")
    return model.predict_proba


def keras(folder: Path) -> Answer:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    model = tf.function(keras.saving.load_model(folder / "model.keras", compile=False))
    return lambda row: model(row.astype(np.float32))


def torch(folder: Path) -> Answer:
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model = torch.export.load(folder / "model.pt2").module()
    return lambda row: model(torch.from_numpy(row.astype(np.float32)))


def onnx(folder: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    dtype = np.float64 if taken.type == "tensor(double)" else np.float32
    return lambda row: session.run(None, {taken.name: row.astype(dtype)})


KINDS = {"sklearn": sklearn, "xgboost": xgboost, "keras": keras, "torch": torch, "onnx": onnx}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, required=True)
    for name in ("model", "rows", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    answer = KINDS[args.kind](args.model)
    took = []
    for row in np.loadtxt(args.rows, delimiter=",", skiprows=1)[:, :-1]:
        begun = time.perf_counter()
        answer(row[np.newaxis])
        took.append(time.perf_counter() - begun)
    (args.out / "latency.json").write_text(json.dumps({"milliseconds": 1000 * statistics.median(took[WARM:])}))


if __name__ == "__main__":
    main()
