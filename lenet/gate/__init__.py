"""The regression gate: a short training run compared with a baseline."""
