"""Translation of trained models to ONNX, with a gate and a certificate of measured agreement (docs/translation.md)."""
