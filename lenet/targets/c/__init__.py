"""A network as C99 source, in float or in 8-bit integers."""
