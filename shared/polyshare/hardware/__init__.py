"""Running ONNX files on a machine's hardware, by an execution provider of ONNX Runtime, in a sandbox."""
