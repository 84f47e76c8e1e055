"""Arithmetic on weights: task vectors, layer schedules and merging methods, as pure functions."""
