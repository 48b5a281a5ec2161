"""Networks to build by name."""
