"""LeNet-5 in plain NumPy."""
