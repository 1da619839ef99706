"""What is measured: classifiers by name, as torch modules, ONNX files or RobustBench models."""
