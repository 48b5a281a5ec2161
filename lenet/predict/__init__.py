"""Predicting the class of a user's picture."""
