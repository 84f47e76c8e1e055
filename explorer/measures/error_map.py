"""The error map of two tasks as a labelled Dataset, made from predictions on a grid."""

from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.measures.grid import Cell, Grid, nearest_measured
from explorer.measures.plane import Counts, Subset

if TYPE_CHECKING:
    import xarray as xr


class Predictions:
    """Predicted classes on a grid and its axes, filled in cell by cell.

    ``classes`` is (task, alpha1, alpha2, image) over the grid's points and 0; ``none`` stands
    where a cell is not measured or a task has fewer images.
    """

    def __init__(self, grid: Grid, counts: Counts, dtype: type) -> None:
        self.grid, self.counts = grid, counts
        self.none = int(np.iinfo(dtype).max)
        shape = (2, len(grid.work1), len(grid.work2), max(counts))
        self.classes: np.ndarray = np.full(shape, self.none, dtype)
        self.measured = np.zeros(shape[1:3], bool)
        self._rows = {a: i for i, a in enumerate(grid.work1)}
        self._columns = {a: i for i, a in enumerate(grid.work2)}

    def put(self, cell: Cell, predicted: list[np.ndarray]) -> None:
        """Enter the classes of both tasks' images at a cell."""
        i, j = self._rows[cell[0]], self._columns[cell[1]]
        for task, classes in enumerate(predicted):
            self.classes[task, i, j, : len(classes)] = classes
        self.measured[i, j] = True

    def shown(self) -> tuple[list[int], list[int]]:
        """Rows and columns of the points that were asked for."""
        grid = self.grid
        return [self._rows[a] for a in grid.alpha1], [self._columns[a] for a in grid.alpha2]

    def single(self, task: int) -> np.ndarray:
        """Classes of theta_0 + a tau_task on the task's images, (alpha, image)."""
        rows, columns = self.shown()
        if task == 0:
            return self.classes[0, rows, self._columns[0.0]]
        return self.classes[1, self._rows[0.0], columns]

    def base(self) -> np.ndarray:
        """Classes of theta_0, (task, image)."""
        return self.classes[:, self._rows[0.0], self._columns[0.0]]


def class_dtype(n_classes: int) -> type:
    """The smallest unsigned format for class numbers with room for "none"."""
    return np.uint8 if n_classes < 256 else np.uint16


def error_map(
    predictions: Predictions,
    subset: Subset,
    fine_tuned: np.ndarray,
    attrs: dict[str, Any],
    before: "xr.Dataset | None" = None,
) -> "xr.Dataset":
    """The Dataset that ``disentanglement`` describes.

    Cells that are not measured yet have error and accuracy of the nearest measured one, or of the
    coarser map ``before`` while that has more cells.
    ``fine_tuned`` are the accuracies of each task's own edit at 1, (2,); the zero-shot ones are
    those of the cell (0, 0).
    """
    import xarray as xr

    grid, counts = predictions.grid, predictions.counts
    rows, columns = predictions.shown()
    measured = predictions.measured[np.ix_(rows, columns)]
    joint = predictions.classes[:, rows][:, :, columns]
    n_images = max(counts)
    label = np.full((2, n_images), -1, np.int16)
    place = np.full((2, n_images), -1, np.int32)
    for t, k in enumerate(counts):
        label[t, :k], place[t, :k] = subset.labels(t)[:k], subset.places(t)[:k]
    n = np.array(counts)
    single = [predictions.single(0)[:, None], predictions.single(1)[None]]
    # "None" of the shorter task equals "none", so its missing images add nothing to the sums.
    differs = [(joint[t] != single[t]).sum(-1) for t in range(2)]
    correct = [(joint[t] == label[t]).sum(-1) for t in range(2)]
    error = np.stack(differs) / n[:, None, None]
    accuracy = np.stack(correct) / n[:, None, None]
    zero_shot = (predictions.base() == label).sum(-1) / n
    nearest = nearest_measured(measured)
    error, accuracy = error[:, *nearest], accuracy[:, *nearest]
    if before is not None and measured.sum() < before["measured"].size:
        points = {"alpha1": list(grid.alpha1), "alpha2": list(grid.alpha2)}
        coarse = before[["error", "accuracy"]].sel(points, method="nearest")
        error = np.where(measured, error, coarse["error"])
        accuracy = np.where(measured, accuracy, coarse["accuracy"])
    standard_error = np.sqrt(error * (1 - error) / n[:, None, None])
    plane, images = ("task", "alpha1", "alpha2"), ("task", "image")
    none = f"class number, {predictions.none} for none"
    variables: dict[str, Any] = {
        "error": (plane, error, _share("disentanglement error")),
        "accuracy": (plane, accuracy, _share("accuracy of the joint edit")),
        "standard_error": (plane, standard_error, _share("standard error of the error")),
        "measured": (("alpha1", "alpha2"), measured.astype(np.int8)),
        "predicted": ((*plane, "image"), joint, {"long_name": f"joint edit ({none})"}),
        "single1": (("alpha1", "image"), single[0][:, 0], {"long_name": f"task 1 alone ({none})"}),
        "single2": (("alpha2", "image"), single[1][0], {"long_name": f"task 2 alone ({none})"}),
        "label": (images, label, {"long_name": "class number, -1 for none"}),
        "image_index": (images, place, {"long_name": "place in the stored split, -1 for none"}),
        "n": ("task", n, {"long_name": "images of the task used"}),
        "fine_tuned": ("task", fine_tuned, _share("accuracy at coefficient 1")),
        "zero_shot": ("task", zero_shot, _share("accuracy of the base model")),
    }
    coords = {
        "task": list(subset.tasks),
        "alpha1": ("alpha1", np.array(grid.alpha1), {"long_name": subset.tasks[0]}),
        "alpha2": ("alpha2", np.array(grid.alpha2), {"long_name": subset.tasks[1]}),
        "image": np.arange(n_images),
    }
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def _share(long_name: str) -> dict[str, str]:
    return {"units": "1", "long_name": long_name}
