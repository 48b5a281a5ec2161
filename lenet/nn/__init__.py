"""Array code and layers: the patch matrix, layers, losses, and networks of layers."""
