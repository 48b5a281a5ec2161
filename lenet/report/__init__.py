"""A page on one run, or on several side by side."""
