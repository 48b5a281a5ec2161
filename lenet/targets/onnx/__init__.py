"""ONNX files: export, check and import."""
