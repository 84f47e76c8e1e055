"""Labelled images with their class names and prompt templates."""
