"""From a configuration to a trained network: the loop, what it reports, what it saves."""
