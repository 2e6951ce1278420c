// Pointwise functions on four values: i32.
