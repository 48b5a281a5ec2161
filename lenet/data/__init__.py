"""Data floor: files, data sets, built-in digits, distortions, batches."""
