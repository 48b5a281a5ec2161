"""Speed: per layer and whole, against the processor and other frameworks."""
