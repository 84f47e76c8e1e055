"""What one looks at: every measure takes a model and a recipe and returns an xarray.Dataset."""
