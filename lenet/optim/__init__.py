"""Optimizers, the average of the weights, and learning rate schedules."""
