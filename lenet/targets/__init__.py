"""What other programs can use: ONNX, C, a page, PyTorch; and networks that come from there."""
