"""Arrays and layers: patch matrix, layers, losses, and a network made of them."""
