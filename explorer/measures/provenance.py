"""What every result says about itself in ``attrs``: family, recipe, seed, versions."""

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from explorer import __version__

if TYPE_CHECKING:
    from explorer.models.model import Model
    from explorer.recipe import Recipe


def provenance(model: "Model", recipe: "Recipe | None" = None, **more: Any) -> dict[str, Any]:
    """Attributes that NetCDF can store (texts and numbers; yes and no as 1 and 0)."""
    facts: dict[str, Any] = {
        "model": model.name,
        "family": model.family,
        "heads": model.base_title,
        "versions": versions(),
    }
    if recipe is not None:
        facts["recipe"] = recipe.to_json()
    facts |= {key: int(x) if isinstance(x, bool) else x for key, x in more.items()}
    return facts


@lru_cache(maxsize=1)
def versions() -> str:
    """Versions of the packages that the numbers depend on, as one line."""
    found = [f"explorer {__version__}"]
    for package in ("torch", "numpy", "open_clip_torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
