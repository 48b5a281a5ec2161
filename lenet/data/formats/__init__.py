"""Readers of data formats, one per module, all with the same signature: see stored.py."""
