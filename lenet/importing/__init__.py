"""Networks that other programs have trained: from ONNX and .safetensors files to checkpoints."""
