"""Estimate the GPU memory of a run from the configuration and the model's shape, before any download."""
