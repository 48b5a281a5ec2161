"""Data-parallel training: over shared memory on one machine, over MPI on many."""
