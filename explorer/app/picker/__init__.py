"""Choosing a model: the catalogue searched in the app, sets pulled from a hub, opened when here."""
