"""Networks that other programs have trained: from an ONNX file to a checkpoint."""
