"""Handing a network on: as an ONNX model, as a C file."""
