"""A trained network in one file: its bytes, its content, and back to a network."""
