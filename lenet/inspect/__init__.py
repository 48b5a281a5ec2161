"""Figures of what a network has learnt and what it does with an image."""
