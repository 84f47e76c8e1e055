"""Image towers, zero-shot heads and the tangent (linearised) model, opened by name."""
