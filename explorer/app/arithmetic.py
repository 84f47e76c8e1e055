"""The task-arithmetic lens: drag coefficients of task vectors, watch accuracies and labels change.

import explorer as ex
m = ex.open_model("glyphs")
ex.ArithmeticLens(m)
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from explorer.app import links, presets, rules, saving
from explorer.app.drawing import Drawing
from explorer.app.gallery import Page, page_of
from explorer.app.layout import Display
from explorer.app.picture import predictions
from explorer.app.recipe_lens import RecipeLens
from explorer.app.state import LensState, Prompts
from explorer.errors import ExplorerError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.app.runner import Runner
    from explorer.app.widget import ArithmeticWidget
    from explorer.models.model import Model


class ArithmeticLens(RecipeLens):
    """Sliders for the task vectors of a model, and live what they do to accuracies and labels.

    Displays itself as the last line of a notebook cell; `page()` is the same as a page of its own,
    `to_ipywidget()` the same for composing with ipywidgets. `lens.recipe` is what is on screen and
    can be read and set from code; `lens.result` is what was measured for it.
    """

    topic = "arithmetic"

    def __init__(self, model: Model, recipe: Recipe | None = None, query: str = ""):
        """model: an open model. recipe: where to start. query: a link's query part to restore.

        Raises RecipeError or UnknownNameError if recipe does not fit model; what does not fit in
        query becomes a sentence on screen.
        """
        super().__init__(model, LensState(model.tasks, Recipe(base=model.name), model.control))
        self.before: dict[str, np.ndarray] = {}
        self.images_shown: Page | None = None
        self.best = model.best_shared_coefficient()
        self.searched: xr.Dataset | None = None
        self._search: Runner | None = None
        self._images: tuple[str, np.ndarray, np.ndarray] | None = None
        self._allowance = rules.allowance()
        if recipe is not None:
            self.state.replace(recipe)
        self.drawing = Drawing(self)
        self._restore(query)
        self._bind()

    def words(self, task: str) -> Prompts:
        """Class names and templates of a task's head: edited, or the model's own."""
        return self.state.prompts.get(task) or self.own_words(task)

    def own_words(self, task: str) -> Prompts:
        """The model's own class names and templates."""
        own = self.model.task(task)
        return Prompts(tuple(own.class_names), tuple(own.templates))

    # State -> measurement -> screen

    def _bind(self) -> None:
        self.state.param.watch(self._step_begins, ["step"])
        watch = functools.partial(self.state.param.watch, precedence=1)  # after the step
        outdated = self.drawing.outdated
        watch(self._measure, ["recipe", "prompts"])
        patient = functools.partial(outdated, patient=True)
        watch(lambda *_: patient("recipe", "notices"), ["recipe", "off", "solo", "focus", "chart"])
        watch(lambda *_: patient("link"), ["recipe", "off", "focus", "chart", "prompts"])
        watch(lambda *_: outdated("prompts"), ["focus", "prompts"])
        watch(lambda *_: outdated("picture"), ["chart", "changed_only"])
        watch(lambda *_: self._spawn(self._turn_page()), ["focus", "page"])
        self.drawing.screen.draw_now()

    def start(self) -> None:
        """Begin to measure, as soon as there is an event loop. Every display calls this."""
        super().start()
        if self.images_shown is None:
            self._spawn(self._turn_page())

    def _step_begins(self, *_: Any) -> None:
        """A gesture begins: labels that flip from now on are compared with the present picture."""
        if self.picture is not None:
            self.before = predictions(self.picture.result)

    async def _turn_page(self) -> None:
        """Fetch the pictures of the focused task's page, off the event loop."""
        wanted = task, number = self.state.focus, self.state.page
        if self._images is None or self._images[0] != task:
            images, labels, _ = await self.measuring.images(task)
            self._images = (task, images, labels)  # one task's images at a time
        page = await asyncio.to_thread(page_of, *self._images, number)
        if wanted == (self.state.focus, self.state.page):
            self.images_shown = page
            self.drawing.outdated("page", "picture")

    def change_prompts(self, task: str, prompts: Prompts | None) -> None:
        """Use these words (None: the model's own) if it knows them; otherwise say which not."""
        self._spawn(self._check_prompts(task, prompts))

    async def _check_prompts(self, task: str, prompts: Prompts | None) -> None:
        try:
            if prompts is not None:
                self._allowance.take("prompts")
                await self.measuring.check(task, prompts)
            self.state.set_prompts(task, prompts)
        except ExplorerError as error:
            self.complain(str(error))

    def measure_geometry(self) -> None:
        """Measure cosines and norms of the model's task vectors, once."""
        if self.geometry is None:
            self._spawn(self._measure_geometry())

    async def _measure_geometry(self) -> None:
        self.geometry = await self.measuring.geometry()
        self.drawing.outdated("geometry")

    # Search

    @property
    def searching(self) -> bool:
        """Whether a search for the best shared coefficient is under way."""
        return self._search is not None and self._search.busy

    def search(self) -> None:
        """Search the best shared coefficient on validation images; a second call stops it."""
        if self._search is not None and self.searching:
            self._search.close()
            return
        for display in self.drawing.displays:
            display.open_search()
        draw = functools.partial(self.drawing.outdated, "search")
        self._search = self.measuring.search(self._searched, self._failed, lambda _: draw())
        draw()

    def _searched(self, result: xr.Dataset, _progress: float) -> None:
        self.searched = result
        if result.attrs["complete"]:
            self.best = float(result.attrs["best_coefficient"])
            self.state.replace(presets.addition(self.recipe, self.model.tasks, self.best))
        self.drawing.outdated("search")

    # Links, code, files

    def _restore(self, query: str) -> None:
        wrong, asked = links.apply(links.read_for(self.model, query), self.state)
        self.state.forget_history()
        for sentence in wrong:
            self.complain(sentence)
        for task, prompts in asked.items():
            self.change_prompts(task, prompts)

    def to_python(self) -> str:
        """The recipe on screen as Python that gives the same accuracies."""
        return (
            f"import explorer as ex\n\nm = {self.model.to_python()}\n"
            f"recipe = {self.recipe.to_python()}\nex.accuracy(m, recipe)\n"
        )

    def _named(self, what: str) -> tuple[str, str]:
        return saving.file_name(self.recipe.base, saving.kind(what)), saving.MIME[what]

    def file(self, what: str) -> bytes:
        """What is on screen as a file: "png", "svg", "csv", "nc" (NetCDF), "json" (the recipe)."""
        if saving.kind(what) == "json":
            return self.recipe.to_json(indent=2).encode("utf-8")
        picture, drawn = self.picture, self.rows()
        if picture is None or drawn is None:
            raise ExplorerError("Nothing is measured yet; save again in a moment.")
        if what == "csv":
            return saving.csv(picture.result, picture.recipe)
        if what == "nc":
            return saving.netcdf(picture.result)
        return saving.figure(
            drawn, self.titles, self.model.control, picture.recipe, what, self.model.base_title
        )

    # Displays and life

    def _make_display(self) -> Display:
        return Display(self)

    def to_ipywidget(self) -> ArithmeticWidget:
        """The lens as an ipywidget; its `value` (task -> coefficient) can be observed and set."""
        from explorer.app.widget import ArithmeticWidget

        return ArithmeticWidget(self)

    async def settled(self) -> None:
        """Wait until the picture on screen is complete (for scripts and tests)."""
        await self._settle(self.measuring.runner)

    def close(self) -> None:
        """Stop measuring and let go of threads. Called when a served session ends."""
        super().close()
        if self._search is not None:
            self._search.close()
