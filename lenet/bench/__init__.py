"""Benchmarks: the speed of training, per layer and overall, and compared with PyTorch."""
