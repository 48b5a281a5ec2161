"""Files, data sets, built-in digits, distortions, batches."""
