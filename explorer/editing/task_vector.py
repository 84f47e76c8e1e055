"""TaskVector: the difference between a fine-tuned tower and its base, with its algebra."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import overload

import torch
from torch import Tensor

from explorer.checkpoints.families import article, check_activation, family_of
from explorer.editing.layers import layer_name, layer_names, layer_of
from explorer.editing.schedule import Schedule
from explorer.errors import CheckpointError

NamedTensors = Mapping[str, Tensor]


class TaskVector(Mapping[str, Tensor]):
    """tau = theta_tuned - theta_0 over canonical names (Ilharco et al. 2023, eq. 1). Frozen.

        t = TaskVector.between(base, tuned)
        edited = (0.4 * t - 0.3 * u).apply_to(base)

    Sums and differences need the same names and shapes; CheckpointError names the key that
    differs. ``sum([t, u])`` works. Treat the tensors as read-only.
    """

    __slots__ = ("_tensors",)
    _tensors: dict[str, Tensor]

    def __init__(self, tensors: NamedTensors) -> None:
        for key, tensor in tensors.items():
            if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
                raise CheckpointError(
                    f"A task vector holds floating-point tensors; {key!r} is none."
                )
        object.__setattr__(self, "_tensors", dict(tensors))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A task vector is frozen; build a new one with + - * /.")

    @classmethod
    def between(cls, base: NamedTensors, tuned: NamedTensors) -> "TaskVector":
        """tuned - base, strictly: a name on one side only, or another shape, is an error.

        Integer buffers are skipped. Raises CheckpointError naming the key, both towers when they
        are of different families, and both activations when the files tell different ones.
        """
        found, wanted = (getattr(side, "activation", None) for side in (tuned, base))
        check_activation(found, wanted, str(getattr(tuned, "name", "The fine-tuned checkpoint")))
        base, tuned = _floating(base), _floating(tuned)
        _check_same_family(base, tuned)
        check_same_layout(base, tuned, "the base", "the fine-tuned checkpoint")
        return cls({key: tuned[key].to(base[key].dtype) - base[key] for key in base})

    # --- mapping -----------------------------------------------------------------------------

    def __getitem__(self, key: str) -> Tensor:
        return self._tensors[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    __hash__ = None  # type: ignore[assignment]  # tensors have no cheap hash

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TaskVector)
            and self.keys() == other.keys()
            and all(torch.equal(self[key], other[key]) for key in self)
        )

    def __reduce__(self):
        return type(self), (self._tensors,)

    # --- algebra -----------------------------------------------------------------------------

    def __add__(self, other: "TaskVector") -> "TaskVector":
        return self._combine(other, torch.add)

    @overload
    def __radd__(self, other: "TaskVector") -> "TaskVector": ...
    @overload
    def __radd__(self, other: int) -> "TaskVector": ...
    def __radd__(self, other):
        if isinstance(other, int) and other == 0:  # the start value of sum()
            return self
        return NotImplemented

    def __sub__(self, other: "TaskVector") -> "TaskVector":
        return self._combine(other, torch.sub)

    def __neg__(self) -> "TaskVector":
        return self._map(torch.neg)

    def __mul__(self, factor: float) -> "TaskVector":
        number = _number(factor)
        return NotImplemented if number is None else self._map(lambda tensor: tensor * number)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> "TaskVector":
        number = _number(divisor)
        return NotImplemented if number is None else self._map(lambda tensor: tensor / number)

    def scaled(self, schedule: Schedule | None, n_blocks: int | None = None) -> "TaskVector":
        """Each tensor times the schedule's factor at its depth (None leaves all as they are)."""
        if schedule is None:
            return self
        depth = n_blocks if n_blocks is not None else count_blocks(self)
        return TaskVector({k: v * schedule.scale_of(k, depth) for k, v in self.items()})

    def apply_to(self, base: NamedTensors) -> dict[str, Tensor]:
        """theta_0 + tau as a new dictionary. Raises CheckpointError where the names differ."""
        floating = _floating(base)
        check_same_layout(floating, self, "the base", "the task vector")
        return {k: v + self[k].to(v) if k in self else v for k, v in base.items()}

    # --- geometry ----------------------------------------------------------------------------

    def dot(self, other: "TaskVector") -> float:
        """Inner product over all parameters, accumulated in float64."""
        check_same_layout(self, other, "the first task vector", "the second")
        return math.fsum(
            float(torch.dot(self[k].flatten().double(), other[k].flatten().double())) for k in self
        )

    @property
    def norm(self) -> float:
        """Euclidean norm over all parameters."""
        return math.sqrt(self.dot(self))

    @property
    def l1(self) -> float:
        """Sum of absolute values over all parameters."""
        return math.fsum(float(tensor.double().abs().sum()) for tensor in self.values())

    def cosine(self, other: "TaskVector") -> float:
        """Cosine of the angle to another task vector; nan when either is zero."""
        lengths = self.norm * other.norm
        return self.dot(other) / lengths if lengths else math.nan

    def by_layer(self, n_blocks: int | None = None) -> dict[str, float]:
        """Euclidean norm at each depth: {"input": ..., "block 1": ..., ..., "output": ...}."""
        depth = n_blocks if n_blocks is not None else count_blocks(self)
        squares = dict.fromkeys(layer_names(depth), 0.0)
        for key, tensor in self.items():
            squares[layer_name(key, depth)] += float(tensor.double().square().sum())
        return {name: math.sqrt(square) for name, square in squares.items()}

    # --- parts -------------------------------------------------------------------------------

    def _map(self, function: Callable[[Tensor], Tensor]) -> "TaskVector":
        return TaskVector({key: function(tensor) for key, tensor in self.items()})

    def _combine(
        self, other: "TaskVector", function: Callable[[Tensor, Tensor], Tensor]
    ) -> "TaskVector":
        if not isinstance(other, TaskVector):
            return NotImplemented
        check_same_layout(self, other, "the first task vector", "the second")
        return TaskVector({key: function(self[key], other[key]) for key in self})

    def __repr__(self) -> str:
        n_parameters = sum(tensor.numel() for tensor in self.values())
        return f"TaskVector({len(self)} tensors, {n_parameters:,} parameters, norm {self.norm:.4g})"


def count_blocks(names: Mapping[str, object]) -> int:
    """Number of transformer blocks among canonical names."""
    layers = [layer_of(key, 10**6) for key in names]
    return 1 + max((layer for layer in layers if layer is not None), default=-1)


def check_same_layout(
    first: NamedTensors, second: NamedTensors, first_name: str, second_name: str
) -> None:
    """Raise CheckpointError naming the first key that differs in presence or shape."""
    missing = sorted(first.keys() - second.keys())
    extra = sorted(second.keys() - first.keys())
    if missing or extra:
        lacking, having, keys = (
            (second_name, first_name, missing) if missing else (first_name, second_name, extra)
        )
        others = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
        raise CheckpointError(
            f"{_capital(lacking)} has no {keys[0]!r}{others}, but {having} has: "
            "both must come from the same architecture."
        )
    for key, tensor in first.items():
        if tensor.shape != second[key].shape:
            raise CheckpointError(
                f"{key!r} has shape {tuple(tensor.shape)} in {first_name} and "
                f"{tuple(second[key].shape)} in {second_name}: "
                "both must come from the same architecture."
            )


def _check_same_family(base: NamedTensors, tuned: NamedTensors) -> None:
    """Raise CheckpointError naming both towers when they are known, and not the same."""
    found, wanted = (
        family_of({key: tuple(tensor.shape) for key, tensor in side.items()})
        for side in (tuned, base)
    )
    if found is not None and wanted is not None and found.title != wanted.title:
        raise CheckpointError(
            f"This is {article(found.title)}, the base is {article(wanted.title)}: a task vector "
            "needs two towers of one architecture. Subtract the base that it was fine-tuned from."
        )


def _floating(tensors: NamedTensors) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if tensor.is_floating_point()}


def _number(value: object) -> float | None:
    if (isinstance(value, Tensor) and value.ndim == 0) or isinstance(value, int | float):
        return float(value)
    try:  # numpy scalars
        return float(value) if getattr(value, "ndim", 1) == 0 else None  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
