"""The configuration: its keys and values, reading it from YAML and writing it."""
