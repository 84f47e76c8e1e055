"""Noising and denoising images with diffusers: networks, samplers, and what came back."""
