"""Geometry of task vectors: angles between them, and where in depth they act."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from explorer.compute.resident import Segment
from explorer.editing.task_vector import layer_names
from explorer.measures.provenance import provenance

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model


def geometry(m: "Model", space: str = "weights") -> "xr.Dataset":
    """Cosines between task vectors, their norms, and their relative norms by depth.

    Variables: cosine (task, task2); norm (task); relative_norm (task) = ||tau|| / ||theta_0||;
    norm_by_layer (task, layer) = ||tau_l|| / ||theta_0,l||, with layers "input", "block 1", ...,
    "output". ``space="tangent"`` looks at the vectors of tangent fine-tuning.
    """
    import xarray as xr

    resident = m.resident(space)
    segments = resident.layout.segments
    tau = torch.stack([_squares(row, segments) for row in resident.tau])
    base = _squares(resident.theta0, segments)
    gram = _gram(resident.tau)
    norm = gram.diagonal().sqrt()
    names = layer_names(resident.layout.n_blocks)
    present = [names[_depth_index(s, resident.layout.n_blocks)] for s in segments]
    lengths = torch.outer(norm, norm)
    cosine = torch.where(lengths > 0, gram / lengths, torch.nan)
    tasks = resident.tasks
    return xr.Dataset(
        {
            "cosine": (
                ("task", "task2"),
                cosine.clamp(-1, 1).cpu().numpy(),
                {"units": "1", "long_name": "cosine between task vectors"},
            ),
            "norm": ("task", norm.cpu().numpy(), {"long_name": "norm of the task vector"}),
            "relative_norm": (
                "task",
                (norm / base.sum().sqrt()).cpu().numpy(),
                {"units": "1", "long_name": "norm of the task vector relative to the base"},
            ),
            "norm_by_layer": (
                ("task", "layer"),
                (tau / base).sqrt().cpu().numpy(),
                {"units": "1", "long_name": "norm of the task vector relative to the base"},
            ),
        },
        coords={"task": tasks, "task2": np.array(tasks), "layer": present},
        attrs=provenance(m, space=space, n_parameters=sum(t.numel() for t in m.base.values())),
    )


def _squares(flat: torch.Tensor, segments: Sequence[Segment]) -> torch.Tensor:
    return torch.stack([flat[s.start : s.stop].double().square().sum() for s in segments])


def _gram(tau: torch.Tensor) -> torch.Tensor:
    """tau tau^T accumulated in float64, a slice at a time (for memory's sake)."""
    total = torch.zeros(len(tau), len(tau), dtype=torch.float64, device=tau.device)
    for part in tau.split(1 << 20, dim=1):
        wide = part.double()
        total += wide @ wide.T
    return total


def _depth_index(segment: Segment, n_blocks: int) -> int:
    if segment.layer is not None:
        return segment.layer + 1
    return n_blocks + 1 if segment.after else 0
