"""A report on training runs as an HTML page."""
