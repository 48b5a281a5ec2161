"""Export of a network as an ONNX model or as C source."""
