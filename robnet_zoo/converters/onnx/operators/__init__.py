"""ONNX's operators in torch, a file for each kind, and `table`, which lists all of them."""
