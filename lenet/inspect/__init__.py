"""Figures of a network's filters, and of its outputs for an image."""
