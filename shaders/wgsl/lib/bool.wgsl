// Pointwise functions on four values: bool.
