"""PyTorch: the same training as classes of `torch`, and weights from .safetensors files."""
