"""A page on which a network can be watched at work, forward and backward."""
