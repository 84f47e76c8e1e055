"""Weights resident on the device: a merge is one pass over memory, a slider move one axpy."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from explorer.compute.weighted_sum import weighted_sum_into
from explorer.editing.layers import layer_of, lies_after_blocks
from explorer.editing.schedule import Schedule
from explorer.editing.task_vector import NamedTensors, check_same_layout, count_blocks
from explorer.errors import CheckpointError, UnknownNameError

# Every tensor starts on a 128-byte boundary in float32, 64 in bfloat16 (a cache line).
_ALIGNMENT = 32
# Rounding of repeated axpys grows like their number; after this many the merge starts afresh.
MAX_MOVES = 64


@dataclass(frozen=True)
class Segment:
    """A contiguous range of the flat buffer at one depth, on which any schedule is constant."""

    start: int
    stop: int
    layer: int | None
    after: bool


@dataclass(frozen=True)
class FlatLayout:
    """Where each named tensor lies in a flat buffer ordered by depth."""

    places: Mapping[str, tuple[int, torch.Size]]
    segments: tuple[Segment, ...]
    size: int
    n_blocks: int

    @classmethod
    def of(cls, tensors: NamedTensors) -> "FlatLayout":
        n_blocks = count_blocks(tensors)
        depths = {key: _depth(key, n_blocks) for key in tensors}
        places: dict[str, tuple[int, torch.Size]] = {}
        segments: list[Segment] = []
        offset = 0
        for depth in sorted(set(depths.values())):
            start = offset
            for key in (k for k in tensors if depths[k] == depth):
                places[key] = (offset, tensors[key].shape)
                offset += -(-tensors[key].numel() // _ALIGNMENT) * _ALIGNMENT
            inside = 0 <= depth < n_blocks
            segments.append(Segment(start, offset, depth if inside else None, depth >= n_blocks))
        return cls(places, tuple(segments), offset, n_blocks)

    def fill(self, flat: Tensor, tensors: NamedTensors) -> None:
        """Copy named tensors to their places."""
        for key, (offset, shape) in self.places.items():
            flat[offset : offset + shape.numel()].copy_(tensors[key].reshape(-1))

    def views(self, flat: Tensor) -> dict[str, Tensor]:
        """Named views into a flat buffer; writing to the buffer changes them."""
        return {
            key: flat[offset : offset + shape.numel()].view(shape)
            for key, (offset, shape) in self.places.items()
        }

    def scales(self, schedule: Schedule | None) -> tuple[float, ...]:
        """The schedule's factor on every segment."""
        if schedule is None:
            return (1.0,) * len(self.segments)
        return tuple(schedule.scale(s.layer, self.n_blocks, after=s.after) for s in self.segments)


class ResidentWeights:
    """Base and task vectors as flat float32 buffers, shared by every session of a model.

    ``theta0`` is (P,), ``tau`` (T, P), both ordered by depth; read-only once built.
    """

    def __init__(
        self, base: NamedTensors, vectors: Mapping[str, NamedTensors], device: torch.device
    ) -> None:
        floating = {key: tensor for key, tensor in base.items() if tensor.is_floating_point()}
        self.layout = FlatLayout.of(floating)
        self.tasks = list(vectors)
        self.device = device
        flat = torch.zeros(self.layout.size)
        self.layout.fill(flat, floating)
        self.theta0 = flat.to(device)
        self.tau = torch.zeros(len(self.tasks), self.layout.size, device=device)
        self._digests: dict[str | None, bytes] = {}
        for row, task in zip(self.tau, self.tasks, strict=True):
            vector = vectors[task]  # one at a time: a lazy mapping never holds two copies of all
            check_same_layout(floating, vector, "the base", f"the task vector of {task!r}")
            self.layout.fill(row, vector)

    def row(self, task: str) -> int:
        """The task's row in ``tau``. Raises UnknownNameError."""
        if task not in self.tasks:
            raise UnknownNameError("task vector", task, self.tasks)
        return self.tasks.index(task)

    def vector(self, task: str) -> dict[str, Tensor]:
        """The task vector as named views into the resident buffer. Do not write to them."""
        return self.layout.views(self.tau[self.row(task)])

    def digest(self, task: str | None) -> bytes:
        """Hash of a task vector's numbers, or of the base's for None; computed once."""
        if task not in self._digests:
            flat = self.theta0 if task is None else self.tau[self.row(task)]
            places = json.dumps(list(self.layout.places.items())).encode()
            found = hashlib.blake2b(places, digest_size=20)
            found.update(flat.cpu().numpy().data)
            self._digests[task] = found.digest()
        return self._digests[task]


class EditedWeights:
    """One session's merged weights: theta_0 + sum_t c_t s(depth) tau_t, in a private buffer.

    ``flat`` is float32; ``named()`` are views into it, so a tower made of them follows every
    merge without being touched.
    """

    def __init__(self, resident: ResidentWeights) -> None:
        self.resident = resident
        self.flat = resident.theta0.clone()
        self.version = 0
        self._coefficients = [0.0] * len(resident.tasks)
        self._scales = resident.layout.scales(None)
        self._moves = 0

    def set(self, coefficients: Mapping[str, float], schedule: Schedule | None = None) -> None:
        """Bring the buffer to these coefficients by the cheaper way: axpys, or a fresh merge."""
        resident = self.resident
        wanted = [0.0] * len(resident.tasks)
        for task, x in coefficients.items():
            if x != 0.0:
                wanted[resident.row(task)] = float(x)
        scales = resident.layout.scales(schedule)
        changed = [i for i, x in enumerate(wanted) if x != self._coefficients[i]]
        if not changed and (scales == self._scales or not any(wanted)):
            self._scales = scales
            return
        if scales != self._scales or len(changed) > 2 or self._moves + len(changed) > MAX_MOVES:
            self._merge(wanted, scales)
        else:
            for i in changed:
                self._move(i, wanted[i] - self._coefficients[i])
        self._coefficients, self._scales = wanted, scales
        self.version += 1

    def merge(self, coefficients: Mapping[str, float], schedule: Schedule | None = None) -> None:
        """Recompute the buffer from theta_0 in one pass over base and task vectors."""
        wanted = [0.0] * len(self.resident.tasks)
        for task, x in coefficients.items():
            wanted[self.resident.row(task)] = float(x)
        self._coefficients, self._scales = wanted, self.resident.layout.scales(schedule)
        self._merge(wanted, self._scales)
        self.version += 1

    def move(self, task: str, delta: float) -> None:
        """Change one coefficient by ``delta``: one axpy (every MAX_MOVES a fresh merge)."""
        i = self.resident.row(task)
        self._coefficients[i] += float(delta)
        if self._moves + 1 > MAX_MOVES:
            self._merge(self._coefficients, self._scales)
        else:
            self._move(i, float(delta))
        self.version += 1

    def load(self, tensors: NamedTensors) -> None:
        """Put weights that no linear merge gives (a nonlinear method's) into the buffer."""
        self.resident.layout.fill(self.flat, tensors)
        self._coefficients = [float("nan")] * len(self.resident.tasks)  # the next set() merges
        self.version += 1

    def named(self) -> dict[str, Tensor]:
        """The merged weights as named views."""
        return self.resident.layout.views(self.flat)

    def _merge(self, wanted: list[float], scales: tuple[float, ...]) -> None:
        resident, c = self.resident, torch.tensor(wanted, device=self.flat.device)
        if len(set(scales)) == 1:
            parts = [(slice(0, resident.layout.size), c * scales[0])]
        else:
            pairs = zip(resident.layout.segments, scales, strict=True)
            parts = [(slice(s.start, s.stop), c * scale) for s, scale in pairs]
        weighted_sum_into(self.flat, resident.theta0, resident.tau, parts)
        self._moves = 0

    def _move(self, row: int, delta: float) -> None:
        tau = self.resident.tau[row]
        if len(set(self._scales)) == 1:
            self.flat.add_(tau, alpha=delta * self._scales[0])
        else:
            for segment, scale in zip(self.resident.layout.segments, self._scales, strict=True):
                part = slice(segment.start, segment.stop)
                self.flat[part].add_(tau[part], alpha=delta * scale)
        self._moves += 1


def _depth(key: str, n_blocks: int) -> int:
    """-1 before the blocks, 0 ... n_blocks-1 in them, n_blocks after."""
    layer = layer_of(key, n_blocks)
    if layer is not None:
        return layer
    return n_blocks if lies_after_blocks(key) else -1


def check_vector(vector: NamedTensors, base: NamedTensors, name: str) -> None:
    """Raise CheckpointError when a task vector is not one of this base."""
    try:
        check_same_layout(base, vector, "the base", f"the task vector {name!r}")
    except CheckpointError as error:
        raise CheckpointError(f"{error} Train it from this base, or open its own base.") from None
