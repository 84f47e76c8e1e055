"""The schedule lens: draw how much of an edit each depth receives, and merge by any method.

import explorer as ex
m = ex.open_model("glyphs")
ex.ScheduleLens(m)
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import xarray as xr

from explorer.app import saving as files
from explorer.app.links import read_for
from explorer.app.measuring import Picture
from explorer.app.recipe_lens import RecipeLens
from explorer.app.schedule import links, presets, saving
from explorer.app.schedule import table as board
from explorer.app.schedule.curve import FIRST
from explorer.app.schedule.display import Display
from explorer.app.schedule.drawing import Drawing
from explorer.app.schedule.jobs import Jobs
from explorer.app.schedule.spec import CompareSpec, ForgettingSpec, SearchSpec, Spec
from explorer.app.schedule.state import ScheduleState
from explorer.editing.schedule import Schedule
from explorer.errors import ExplorerError, RecipeError, UnknownNameError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.app.schedule.widget import ScheduleWidget
    from explorer.models.model import Model


class ScheduleLens(RecipeLens):
    """A schedule over depth to drag, merging methods with their options, and what both cost.

    Displays itself as the last line of a notebook cell; `page()` is the same as a page of its own,
    `to_ipywidget()` the same for composing with ipywidgets. `lens.recipe` is what is on screen and
    can be read and set from code; `lens.result` is what was measured for it, and `lens.found(tab)`
    what "forgetting", "search" or "compare" found.
    """

    topic = links.LENS

    def __init__(self, model: Model, recipe: Recipe | None = None, query: str = ""):
        """model: an open model. recipe: where to start. query: a link's query part to restore.

        Raises RecipeError or UnknownNameError if recipe does not fit model; what does not fit in
        query becomes a sentence on screen.
        """
        from explorer.editing.task_vector import count_blocks

        blocks = count_blocks(model.base)
        super().__init__(model, ScheduleState(model.tasks, model.name, blocks, model.control))
        self.vectors = {task: self.titles[task] for task in model.tasks}
        self._asked_geometry = False
        self._waiting: Recipe | None = None  # on screen when a search for its schedule began
        if recipe is not None:
            self.state.replace(recipe)
        self.jobs = Jobs(model, self._found, self._failed)
        self.drawing = Drawing(self)
        for sentence in links.apply(read_for(self.model, query), self.state):
            self.complain(sentence)
        self.state.forget_history()
        self._bind()

    # What is on screen

    def found(self, tab: str) -> xr.Dataset:
        """What the computation of a tab has found so far. Raises ExplorerError if nothing."""
        self.spec(tab)
        if tab not in self.jobs.found:
            raise ExplorerError(f"Nothing is measured in the tab {tab!r} yet; start it first.")
        return self.jobs.found[tab].result

    def spec(self, tab: str) -> Spec:
        """What a tab would compute for what is on screen."""
        state = self.state
        if tab == "forgetting":
            coefficient = self.recipe.coefficient(state.focus) if state.single else 1.0
            return ForgettingSpec(state.focus, coefficient, state.n)
        if tab == "search":
            return SearchSpec(self._merged, self.recipe.method, self.recipe.options, state.n)
        if tab == "compare":
            return CompareSpec(self._merged, state.n, state.seed, state.adamerging)
        raise UnknownNameError("tab", tab, ("forgetting", "search", "compare"))

    @property
    def _merged(self) -> tuple[str, ...]:
        """The tasks that a search or a comparison merges: those of the recipe, or all."""
        active = tuple(task for task in self.model.tasks if self.recipe.coefficient(task))
        return active if len(active) > 1 else tuple(self.model.tasks)

    def chosen_schedule(self) -> Schedule | None:
        """The paper's choice for the target task, once a forgetting run knows it."""
        found = self.jobs.found.get("forgetting")
        if found is None or found.spec != self.spec("forgetting"):
            return None
        best = found.result.sel(schedule=found.result.attrs["best"])
        return Schedule("lines", (float(best["alpha"]), float(best["beta"])))

    def place_on_plane(self) -> tuple[float, float] | None:
        """Alpha and beta of the recipe on screen, if it lies on the plane that was searched."""
        found, recipe = self.jobs.found.get("search"), self.recipe
        schedule = recipe.schedule
        if found is None or schedule is None or schedule.kind != "lines":
            return None
        alpha, beta = schedule.parameters
        spec = found.spec
        there = presets.merged(recipe, spec.tasks, alpha, beta)
        same = there.replace(method=spec.method, options=spec.options) == recipe
        return (alpha, beta) if same else None

    # State -> measurement -> screen

    def _bind(self) -> None:
        watch, outdated = self.state.param.watch, self.drawing.outdated
        patient = functools.partial(outdated, patient=True)
        watch(self._measure, ["recipe"])
        shown = ["recipe", "off", "solo", "focus", "chart", "tab"]
        watch(lambda *_: patient("recipe", "notices"), shown)
        watch(lambda *_: patient("link"), [*shown, "n", "seed", "adamerging"])
        watch(lambda *_: outdated("picture"), ["chart"])
        watch(self._asked, ["recipe", "focus", "n", "seed", "adamerging", "tab"])
        self.drawing.screen.draw_now()

    def start(self) -> None:
        """Begin to measure, as soon as there is an event loop. Every display calls this."""
        super().start()
        self.jobs.resume()
        if not self._asked_geometry:
            self._spawn(self._measure_geometry())

    async def _measure_geometry(self) -> None:
        """The norms of the task vectors by depth, once."""
        self._asked_geometry = True
        self.geometry = await self.measuring.geometry()
        self.drawing.outdated("recipe")

    def _measured(self, picture: Picture) -> None:
        super()._measured(picture)
        self._try_out()

    def _asked(self, *_: Any) -> None:
        """What the tabs show may be of another recipe now."""
        self.drawing.outdated("jobs", self.state.tab, patient=True)
        self._try_out()

    def _try_out(self) -> None:
        """Put the schedule on screen among those tried, once its accuracies are complete."""
        picture, state = self.picture, self.state
        settled = picture is not None and picture.complete and not self.is_stale(picture)
        if settled and state.single and state.tab == "forgetting":
            spec = self.spec("forgetting")
            assert isinstance(spec, ForgettingSpec)
            self.jobs.try_out(spec, self.recipe.schedule)

    # What a person can ask for beside the state

    def stop(self) -> None:
        """Stop measuring and what the tabs compute; what is on screen stays."""
        super().stop()
        self.jobs.stop()

    def compute(self, tab: str) -> None:
        """Start what a tab computes, for what is on screen."""
        self._waiting = None
        self.jobs.start(self.spec(tab))

    def _found(self, tab: str) -> None:
        """A tab's computation has moved on or ended."""
        self.drawing.outdated("jobs", tab, "notices")
        found = self.jobs.found.get(tab)
        if tab == "search" and found is not None and found.complete and self._waiting is not None:
            unchanged, self._waiting = self._waiting == self.recipe, None
            if unchanged:
                self.preset("merged")

    def preset(self, name: str) -> None:
        """One of `presets.PRESETS`. Merging without a search begins with one, and then opens its
        choice unless the recipe on screen is another by then."""
        state, recipe = self.state, self.recipe
        if name == "single":
            found = self.jobs.found.get("forgetting")
            known = found is not None and found.spec.task == state.focus and found.complete
            best = found.result.sel(schedule=found.result.attrs["best"]) if known else None  # type: ignore[union-attr]  # then it is there
            numbers = FIRST if best is None else (float(best["alpha"]), float(best["beta"]))
            state.replace(presets.single(recipe, state.focus, *numbers))
        elif name == "soup":
            state.replace(presets.soup(recipe, state.focus))
        elif name == "merged":
            self._merge()
        else:
            raise UnknownNameError("preset", name, presets.PRESETS)

    def _merge(self) -> None:
        found, wanted = self.jobs.found.get("search"), self.spec("search")
        if found is not None and found.spec == wanted and found.complete:
            attrs = found.result.attrs
            numbers = float(attrs["paper_alpha"]), float(attrs["paper_beta"])
            self.state.replace(presets.merged(self.recipe, found.spec.tasks, *numbers))
            return
        self.state.set_tab("search")
        self.jobs.start(wanted)
        self._waiting = self.recipe

    def open_schedule(self, schedule: Schedule | None) -> None:
        """The target task alone under a schedule: a point of the forgetting chart."""
        spec = self.spec("forgetting")
        assert isinstance(spec, ForgettingSpec)
        recipe = presets.single(self.recipe, spec.task, *FIRST)
        self.state.replace(
            recipe.replace(coefficients={spec.task: spec.coefficient}, schedule=schedule)
        )

    def open_cell(self, alpha: float, beta: float) -> None:
        """The recipe of a cell of the plane."""
        spec = self.jobs.found["search"].spec
        recipe = self.recipe.replace(method=spec.method, options=spec.options)
        self.state.replace(presets.merged(recipe, spec.tasks, alpha, beta))

    def open_row(self, index: int) -> None:
        """The recipe of a row of the table. Raises ExplorerError for one that has none."""
        found = self.jobs.found.get("compare")
        if found is None or not 0 <= index < found.result.sizes["row"]:
            raise RecipeError("There is no such row in the table.")
        self.state.replace(board.recipe_of(found.result, index))

    # Code and files

    def to_python(self) -> str:
        """The recipe on screen as Python that gives the same accuracies."""
        return saving.python(self.model, self.recipe)

    def _named(self, what: str) -> tuple[str, str]:
        name = saving.file_name(self.recipe.base, saving.kind(what), self.state.tab)
        return name, saving.MIME[what]

    def file(self, what: str) -> bytes:
        """What is on screen as a file: "png", "svg", "csv", "nc" (NetCDF), "json" (the recipe),
        "safetensors" (the model), "tab" (NetCDF of what the open tab found), "table.csv",
        "table.md" and "table.tex" (the comparison)."""
        if saving.kind(what) == "json":
            return self.recipe.to_json(indent=2).encode("utf-8")
        if what == "safetensors":
            return saving.model_file(self.model, self.recipe)
        if what == "tab":
            return files.netcdf(self.found(self.state.tab))
        if what in saving.TABLES:
            return saving.table(self.found("compare"), what)
        picture, rows = self.picture, self.rows()
        if picture is None or rows is None:
            raise ExplorerError("Nothing is measured yet; save again in a moment.")
        if what == "csv":
            return files.csv(picture.result, picture.recipe)
        if what == "nc":
            return files.netcdf(picture.result)
        from explorer.app.schedule.figure import figure

        return figure(
            picture.recipe,
            self.state.n_layers,
            rows,
            self.titles,
            self.model.control,
            self.geometry,
            what,
            self.model.base_title,
        )

    # Displays and life

    def _make_display(self) -> Display:
        return Display(self)

    def to_ipywidget(self) -> ScheduleWidget:
        """The lens as an ipywidget; its `value`, `recipe`, `schedule` can be observed and set."""
        from explorer.app.schedule.widget import ScheduleWidget

        return ScheduleWidget(self)

    async def settled(self) -> None:
        """Wait until everything under way is through (for scripts and tests)."""
        while self.measuring.runner.busy or self._tasks or self.jobs.busy:
            await self._settle(self.measuring.runner)
            await self.jobs.settled()

    def close(self) -> None:
        """Stop measuring and let go of threads. Called when a served session ends."""
        super().close()
        self.jobs.close()
