"""Models as ONNX files: write, check, read, run, quantise, verify."""
