"""The hierarchy lens: the Random Hierarchy Model as a tree that is noised and denoised exactly."""

from explorer.app.tree.lens import HierarchyLens

__all__ = ["HierarchyLens"]
