"""The interactive page of `lenet play`: its parts, and the file that is made of them."""
