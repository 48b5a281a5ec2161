"""Networks as data: layer types, specifications, and the packaged networks."""
