"""The configuration: what it may say, how it is read from YAML and written."""
