"""Processes that share every batch: on one machine over shared memory, on many over MPI."""
