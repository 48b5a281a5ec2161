"""Training over a grid of settings and seeds."""
