"""Training: from a configuration to a trained network, evaluation, and checkpoints."""
