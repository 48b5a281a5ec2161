"""Data files and data sets, built-in digits, preprocessing, distortions, and batches."""
