"""Export of a network: as an ONNX model, as C source."""
