"""Classifies one digit with ONNX Runtime; needs neither scikit-learn nor polyshare.

python classify.py MODEL.onnx DIGIT.csv
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

SHADES = " .:-=+*#%@"


def main(model: Path, digit: Path) -> None:
    pixels = np.array([[float(value) for value in digit.read_text().split(",")]])
    for row in pixels.reshape(8, 8):
        print("   ", "".join(SHADES[int(value / 17 * len(SHADES))] * 2 for value in row))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    kind = np.float64 if wanted.type == "tensor(double)" else np.float32
    outputs = session.run(None, {wanted.name: pixels.astype(kind)})
    print(f"    ONNX Runtime {onnxruntime.__version__} says: {outputs[0][0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
