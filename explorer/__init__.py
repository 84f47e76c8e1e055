"""See how neural networks can be edited: the names a notebook uses, and nothing else.

    import explorer as ex

    m = ex.open_model("glyphs")
    recipe = ex.Recipe(coefficients={"mnist": 0.4, "letters": 0.4})
    ex.accuracy(m, recipe)

Names are resolved on first use, so that ``import explorer`` itself costs nothing.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# torch's threads wait for each other by spinning, which on a shared machine doubles the time of a
# forward (128 images on two busy cores: 378 ms against 199 ms). OpenMP reads this as torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_ROOM_OF = {
    "catalog": "explorer.checkpoints.catalogue",
    "pull": "explorer.checkpoints.pulling",
    "read_checkpoint": "explorer.checkpoints.reading",
    "open_checkpoint": "explorer.checkpoints.reading",
    "read_head": "explorer.checkpoints.reading",
    "Checkpoint": "explorer.checkpoints.reading",
    "layouts": "explorer.checkpoints.layouts",
    "to_layout": "explorer.checkpoints.layouts",
    "export": "explorer.checkpoints.exporting",
    "open_model": "explorer.models.model",
    "Model": "explorer.models.model",
    "ZeroShotHead": "explorer.models.heads",
    "linear_probe": "explorer.models.probes",
    "with_probes": "explorer.models.probes",
    "with_tasks": "explorer.models.added",
    "ProbeHead": "explorer.models.probes",
    "Task": "explorer.tasks.task",
    "benchmark_tasks": "explorer.tasks.benchmark.frozen",
    "open_task": "explorer.tasks.opening",
    "open_task_run": "explorer.tasks.opening",
    "Recipe": "explorer.recipe",
    "COEFFICIENT_RANGE": "explorer.recipe",
    "TaskVector": "explorer.editing.task_vector",
    "Schedule": "explorer.editing.schedule",
    "constant": "explorer.editing.schedule",
    "lines": "explorer.editing.schedule",
    "inverse_lines": "explorer.editing.schedule",
    "shuffled_lines": "explorer.editing.schedule",
    "piecewise": "explorer.editing.schedule",
    "per_layer": "explorer.editing.schedule",
    "layer_of": "explorer.editing.layers",
    "merge": "explorer.editing.merging",
    "merging_method": "explorer.editing.methods",
    "merging_methods": "explorer.editing.methods",
    "adamerged_recipe": "explorer.editing.adamerging",
    "adamerging": "explorer.editing.adamerging",
    "accuracy": "explorer.measures.accuracy",
    "accuracy_run": "explorer.measures.accuracy",
    "disentanglement": "explorer.measures.disentanglement",
    "disentanglement_pairs": "explorer.measures.pairs",
    "disentanglement_summary": "explorer.measures.map_summary",
    "kernel_localisation": "explorer.measures.kernel",
    "geometry": "explorer.measures.geometry",
    "change_field": "explorer.measures.change_field",
    "chunk_statistics": "explorer.measures.chunks",
    "depth_similarity": "explorer.measures.depth_similarity",
    "open_diffusion": "explorer.diffusion.opening",
    "forward_backward": "explorer.diffusion.experiment",
    "open_result": "explorer.diffusion.results",
    "save_result": "explorer.diffusion.results",
    "best_shared_coefficient": "explorer.measures.search",
    "forgetting": "explorer.measures.forgetting",
    "lines_search": "explorer.measures.lines_search",
    "compare": "explorer.measures.comparison",
    "comparison_table": "explorer.measures.comparison_table",
    "bootstrap_difference": "explorer.measures.bootstrap",
    "negation": "explorer.measures.search",
    "negation_coefficient": "explorer.measures.search",
    "Run": "explorer.compute.run",
    "ExplorerError": "explorer.errors",
    "CheckpointError": "explorer.errors",
    "RecipeError": "explorer.errors",
    "UnknownNameError": "explorer.errors",
    "ModelError": "explorer.errors",
    "VocabularyError": "explorer.errors",
    "ImageError": "explorer.errors",
    "ExportError": "explorer.errors",
    "CatalogueError": "explorer.errors",
    "HubError": "explorer.errors",
    "NothingFeasibleError": "explorer.errors",
    "GrammarError": "explorer.errors",
    "RunCancelled": "explorer.errors",
    "ArithmeticLens": "explorer.app.arithmetic",
    "DiffusionLens": "explorer.app.diffusion.lens",
    "DisentanglementLens": "explorer.app.disentanglement.lens",
    "HierarchyLens": "explorer.app.tree.lens",
    "ScheduleLens": "explorer.app.schedule.lens",
}

__all__ = [
    "COEFFICIENT_RANGE",
    "ArithmeticLens",
    "CatalogueError",
    "Checkpoint",
    "CheckpointError",
    "DiffusionLens",
    "DisentanglementLens",
    "ExplorerError",
    "ExportError",
    "GrammarError",
    "HierarchyLens",
    "HubError",
    "ImageError",
    "Model",
    "ModelError",
    "NothingFeasibleError",
    "ProbeHead",
    "Recipe",
    "RecipeError",
    "Run",
    "RunCancelled",
    "Schedule",
    "ScheduleLens",
    "Task",
    "TaskVector",
    "UnknownNameError",
    "VocabularyError",
    "ZeroShotHead",
    "__version__",
    "accuracy",
    "accuracy_run",
    "adamerged_recipe",
    "adamerging",
    "app",
    "benchmark_tasks",
    "best_shared_coefficient",
    "bootstrap_difference",
    "catalog",
    "change_field",
    "chunk_statistics",
    "compare",
    "comparison_table",
    "constant",
    "depth_similarity",
    "disentanglement",
    "disentanglement_pairs",
    "disentanglement_summary",
    "export",
    "forgetting",
    "forward_backward",
    "geometry",
    "hierarchy",
    "inverse_lines",
    "kernel_localisation",
    "layer_of",
    "layouts",
    "linear_probe",
    "lines",
    "lines_search",
    "merge",
    "merging_method",
    "merging_methods",
    "negation",
    "negation_coefficient",
    "open_checkpoint",
    "open_diffusion",
    "open_model",
    "open_result",
    "open_task",
    "open_task_run",
    "per_layer",
    "piecewise",
    "pull",
    "read_checkpoint",
    "read_head",
    "save_result",
    "shuffled_lines",
    "to_layout",
    "with_probes",
    "with_tasks",
]

if TYPE_CHECKING:
    from explorer import app, hierarchy
    from explorer.app.arithmetic import ArithmeticLens
    from explorer.app.diffusion.lens import DiffusionLens
    from explorer.app.disentanglement.lens import DisentanglementLens
    from explorer.app.schedule.lens import ScheduleLens
    from explorer.app.tree.lens import HierarchyLens
    from explorer.checkpoints.catalogue import catalog
    from explorer.checkpoints.exporting import export
    from explorer.checkpoints.layouts import layouts, to_layout
    from explorer.checkpoints.pulling import pull
    from explorer.checkpoints.reading import (
        Checkpoint,
        open_checkpoint,
        read_checkpoint,
        read_head,
    )
    from explorer.compute.run import Run
    from explorer.diffusion.experiment import forward_backward
    from explorer.diffusion.opening import open_diffusion
    from explorer.diffusion.results import open_result, save_result
    from explorer.editing.adamerging import adamerged_recipe, adamerging
    from explorer.editing.layers import layer_of
    from explorer.editing.merging import merge
    from explorer.editing.methods import merging_method, merging_methods
    from explorer.editing.schedule import (
        Schedule,
        constant,
        inverse_lines,
        lines,
        per_layer,
        piecewise,
        shuffled_lines,
    )
    from explorer.editing.task_vector import TaskVector
    from explorer.errors import (
        CatalogueError,
        CheckpointError,
        ExplorerError,
        ExportError,
        GrammarError,
        HubError,
        ImageError,
        ModelError,
        NothingFeasibleError,
        RecipeError,
        RunCancelled,
        UnknownNameError,
        VocabularyError,
    )
    from explorer.measures.accuracy import accuracy, accuracy_run
    from explorer.measures.bootstrap import bootstrap_difference
    from explorer.measures.change_field import change_field
    from explorer.measures.chunks import chunk_statistics
    from explorer.measures.comparison import compare
    from explorer.measures.comparison_table import comparison_table
    from explorer.measures.depth_similarity import depth_similarity
    from explorer.measures.disentanglement import disentanglement
    from explorer.measures.forgetting import forgetting
    from explorer.measures.geometry import geometry
    from explorer.measures.kernel import kernel_localisation
    from explorer.measures.lines_search import lines_search
    from explorer.measures.map_summary import disentanglement_summary
    from explorer.measures.pairs import disentanglement_pairs
    from explorer.measures.search import best_shared_coefficient, negation, negation_coefficient
    from explorer.models.added import with_tasks
    from explorer.models.heads import ZeroShotHead
    from explorer.models.model import Model, open_model
    from explorer.models.probes import ProbeHead, linear_probe, with_probes
    from explorer.recipe import COEFFICIENT_RANGE, Recipe
    from explorer.tasks.benchmark.frozen import benchmark_tasks
    from explorer.tasks.opening import open_task, open_task_run
    from explorer.tasks.task import Task


def __getattr__(name: str) -> Any:
    if name == "app":  # the room `explorer.app` is a callable module: ex.app() shows the whole app
        return importlib.import_module("explorer.app")
    if name == "hierarchy":  # a room of its own: ex.hierarchy.Grammar, ex.hierarchy.posterior
        return importlib.import_module("explorer.hierarchy")
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'explorer' has no attribute {name!r}")
    value = getattr(importlib.import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
