"""The weight-disentanglement lens: error maps of two tasks that fill in while one watches."""

from explorer.app.disentanglement.lens import DisentanglementLens

__all__ = ["DisentanglementLens"]
