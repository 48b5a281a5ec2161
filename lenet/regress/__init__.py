"""A short training compared with a baseline, for continuous integration."""
