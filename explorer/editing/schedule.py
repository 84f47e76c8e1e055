"""How much of an edit each depth receives: layer schedules, and the layer of a parameter name."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from explorer.errors import RecipeError

# Anchored, so that "mlp.1." or a digit elsewhere in a name is never taken for a block.
_BLOCK = re.compile(r"(?:^|\.)resblocks\.(\d+)\.")
# Where a tower continues after its last block; everything else outside the blocks precedes them.
_AFTER_BLOCKS = re.compile(r"^(ln_post\.|proj$|attn_pool)")

Outside = Literal["alpha", "depth"]
_PARAMETER_NAMES = {"constant": ("value",), "lines": ("alpha", "beta")}


def layer_of(key: str, n_blocks: int) -> int | None:
    """The block that a canonical name belongs to: 0 ... n_blocks-1, or None outside the blocks.

    Raises RecipeError when the name lies in a block that the tower does not have.
    """
    found = _BLOCK.search(key)
    if found is None:
        return None
    layer = int(found.group(1))
    if layer >= n_blocks:
        raise RecipeError(
            f"The parameter {key!r} lies in block {layer + 1}, but the tower has {n_blocks} blocks."
        )
    return layer


def lies_after_blocks(key: str) -> bool:
    """True for the names outside the blocks that come after the last one (ln_post, proj)."""
    return _AFTER_BLOCKS.search(key) is not None


@dataclass(frozen=True)
class Schedule:
    """Depth -> scale. Frozen and hashable; build one with ``lines`` or ``constant``.

    ``scale(layer, n_layers)`` gives the factor of a block (0 = first), or of everything outside
    the blocks (``layer=None``).
    """

    kind: Literal["constant", "lines"]
    parameters: tuple[float, ...]
    outside: Outside = "alpha"

    def __post_init__(self) -> None:
        names = _PARAMETER_NAMES.get(self.kind)
        if names is None:
            known = ", ".join(_PARAMETER_NAMES)
            raise RecipeError(f"There is no schedule {self.kind!r}; the schedules are {known}.")
        if self.outside not in ("alpha", "depth"):
            raise RecipeError(
                f"A schedule treats what lies outside the blocks by 'alpha' or by 'depth', "
                f"not by {self.outside!r}."
            )
        if len(self.parameters) != len(names):
            raise RecipeError(
                f"The schedule {self.kind!r} takes {len(names)} numbers ({', '.join(names)}), "
                f"not {len(self.parameters)}."
            )
        values = tuple(
            _finite(v, f"{name} of the schedule {self.kind!r}")
            for name, v in zip(names, self.parameters, strict=True)
        )
        object.__setattr__(self, "parameters", values)

    def scale(self, layer: int | None, n_layers: int, *, after: bool = False) -> float:
        """The factor of block ``layer`` of ``n_layers``; ``after`` marks ln_post and proj."""
        return sum(
            weight * pattern
            for weight, pattern in zip(
                self.weights, self.patterns(layer, n_layers, after=after), strict=True
            )
        )

    @property
    def weights(self) -> tuple[float, ...]:
        """Coefficients of the fixed depth patterns this schedule is a sum of (see ``patterns``)."""
        return self.parameters

    def patterns(
        self, layer: int | None, n_layers: int, *, after: bool = False
    ) -> tuple[float, ...]:
        """Values at one depth of the patterns that ``weights`` combine: 1, and for lines also
        (l-1)/(L-1). They do not depend on the numbers, so a linearised model needs one Jacobian
        product a pattern and then follows alpha and beta for free.
        """
        if self.kind == "constant":
            return (1.0,)
        return (1.0, self._relative_depth(layer, n_layers, after))

    def _relative_depth(self, layer: int | None, n_layers: int, after: bool) -> float:
        if layer is None:
            return 1.0 if after and self.outside == "depth" else 0.0
        if not 0 <= layer < n_layers:
            raise RecipeError(f"Block {layer + 1} is asked for, but the tower has {n_layers}.")
        return layer / (n_layers - 1) if n_layers > 1 else 0.0

    def scale_of(self, key: str, n_blocks: int) -> float:
        """The factor of a parameter by its canonical name."""
        return self.scale(layer_of(key, n_blocks), n_blocks, after=lies_after_blocks(key))

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON; ``from_data`` reads it back."""
        names = _PARAMETER_NAMES[self.kind]
        data: dict[str, Any] = {
            "kind": self.kind,
            **dict(zip(names, self.parameters, strict=True)),
        }
        if self.kind == "lines":
            data["outside"] = self.outside
        return data

    @classmethod
    def from_data(cls, data: object) -> "Schedule":
        """Read what ``to_data`` wrote; RecipeError names what is missing."""
        if not isinstance(data, Mapping) or data.get("kind") not in _PARAMETER_NAMES:
            raise RecipeError(
                "A schedule is written as {'kind': 'lines', 'alpha': ..., 'beta': ...} "
                f"or {{'kind': 'constant', 'value': ...}}, not as {data!r}."
            )
        names = _PARAMETER_NAMES[data["kind"]]
        missing = [name for name in names if name not in data]
        unknown = sorted(set(data) - {"kind", "outside", *names})
        if missing or unknown:
            raise RecipeError(
                f"The schedule {data['kind']!r} needs {', '.join(names)}; "
                f"missing: {missing or 'nothing'}, not understood: {unknown or 'nothing'}."
            )
        return cls(data["kind"], tuple(data[n] for n in names), data.get("outside", "alpha"))

    def to_text(self) -> str:
        """Compact form for links, such as ``lines:0.1,0.9``."""
        text = f"{self.kind}:{','.join(map(repr, self.parameters))}"
        return f"{text},depth" if self.outside == "depth" else text

    @classmethod
    def from_text(cls, text: str) -> "Schedule":
        """Read what ``to_text`` wrote."""
        kind, _, numbers = text.partition(":")
        parts = [part for part in numbers.split(",") if part]
        outside: Outside = "alpha"
        if parts and parts[-1] == "depth":
            outside = "depth"
            parts = parts[:-1]
        return cls(kind, tuple(parts), outside)  # type: ignore[arg-type]  # checked on entry

    def to_python(self) -> str:
        """The Python expression that builds this schedule, ``ex.lines(0.1, 0.9)``."""
        numbers = ", ".join(f"{value!r}" for value in self.parameters)
        extra = ', outside="depth"' if self.outside == "depth" else ""
        return f"ex.{self.kind}({numbers}{extra})"


def lines(alpha: float, beta: float, outside: Outside = "alpha") -> Schedule:
    """LiNeS layer scaling: ``alpha + beta * (l-1)/(L-1)`` for block l = 1 ... L.

    Wang et al. 2024, "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model
    Merging". Everything outside the blocks, ln_post and proj included, gets alpha, as in the
    authors' code; ``outside="depth"`` lets ln_post and proj follow the last block (alpha + beta).
    For a single task the paper takes beta = 1 - alpha.
    """
    return Schedule("lines", (alpha, beta), outside)


def constant(value: float) -> Schedule:
    """The same factor at every depth."""
    return Schedule("constant", (value,))


def _finite(value: object, name: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise RecipeError(f"The {name} must be a number, not {value!r}.") from None
    if not math.isfinite(number):
        raise RecipeError(f"The {name} must be a finite number, not {value!r}.")
    return number
