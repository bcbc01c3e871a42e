"""scikit-learn → ONNX (harness.translate)."""

from __future__ import annotations

import estimators
import harness

if __name__ == "__main__":
    harness.translate(estimators.convert)
