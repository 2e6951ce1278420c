//! Dimensions that may be unknown until a model's inputs are.
