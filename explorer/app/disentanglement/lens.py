"""The weight-disentanglement lens: error maps side by side, and the images that make the error.

import explorer as ex
m = ex.open_model("glyphs")
ex.DisentanglementLens(m)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import xarray as xr

from explorer.app.disentanglement import links, saving
from explorer.app.disentanglement.board import Slot, limits_of
from explorer.app.disentanglement.computing import Computing, light
from explorer.app.disentanglement.display import Display
from explorer.app.disentanglement.drawing import Drawing
from explorer.app.disentanglement.images import Images, Wanted
from explorer.app.disentanglement.picture import Picture
from explorer.app.disentanglement.spec import KernelSpec, MapSpec, PairsSpec, Spec
from explorer.app.disentanglement.state import MapState
from explorer.app.lens import Lens
from explorer.app.links import read_for
from explorer.errors import ExplorerError, RecipeError
from explorer.recipe import Recipe

if TYPE_CHECKING:
    from explorer.app.disentanglement.widget import DisentanglementWidget
    from explorer.models.model import Model

MAPS = ["recipe", "maps", "lines", "extent", "points", "n", "seed"]
"""Parts of the state that say which maps belong on screen."""


class DisentanglementLens(Lens):
    """Maps of the weight-disentanglement error of two tasks, which fill in while one watches.

    Displays itself as the last line of a notebook cell; `page()` is the same as a page of its own,
    `to_ipywidget()` the same for composing with ipywidgets. `lens.results` is what is on screen,
    each as by `ex.disentanglement`; `lens.state` says what belongs there and can be changed.
    """

    topic = links.LENS

    model: Model

    def __init__(
        self,
        model: Model,
        tasks: tuple[str, str] | None = None,
        query: str = "",
    ):
        """model: an open model. tasks: the pair to begin with. query: a link's query part.

        Raises RecipeError if the model has fewer than two task vectors, and UnknownNameError for a
        task it does not have; what does not fit in query becomes a sentence on screen.
        """
        super().__init__()
        if len(model.tasks) < 2:
            raise RecipeError(f"A map needs two task vectors; {model.name} has {len(model.tasks)}.")
        self.model = model
        self.titles = {task: model.task(task).title for task in model.tasks}
        self.state = MapState(model.tasks, model.name)
        self.pictures: dict[str, Picture] = {}
        self._pinned: dict[MapSpec, Picture] = {}
        self.pairs: Picture | None = None
        self.kernel: Picture | None = None
        self.tab = ""
        self.busy = self.stopped = False
        self._started = False
        if tasks is not None:
            self.state.set_pair(*tasks)
            self.state.forget_history()
        self.computing = Computing(model, self._computed, self._failed, self._is_busy)
        self.images = Images(model, lambda: self.drawing.outdated("images"))
        self.drawing = Drawing(self)
        self._restore(query)
        self._bind()

    # What is on screen

    @property
    def results(self) -> dict[str, xr.Dataset]:
        """Kind of map -> what is computed of it so far, as by `ex.disentanglement`."""
        return {picture.spec.kind: picture.result for picture in self._fresh()}

    @property
    def coefficients(self) -> Mapping[str, float]:
        """The point: task -> coefficient of the two tasks on the axes."""
        return dict(zip(self.state.pair, self.state.point, strict=True))

    @property
    def recipe(self) -> Recipe:
        """The point as a recipe."""
        return self.state.recipe

    def go_to(self, coefficients: Mapping[str, float]) -> None:
        """Put the point there: task -> coefficient of two tasks, first the horizontal axis's."""
        if len(coefficients) != 2:
            raise RecipeError(f"A map is of two tasks, not of {len(coefficients)}.")
        self.state.set_pair(*coefficients)
        self.state.move([*coefficients.values()])

    def slots(self) -> list[Slot]:
        """The maps in order: those chosen, then those pinned."""
        chosen = [Slot(spec, self.pictures.get(spec.kind)) for spec in self.state.specs]
        pins = self.state.pins
        return chosen + [Slot(spec, self._pinned.get(spec), pinned=True) for spec in pins]

    @property
    def pins(self) -> list[Picture]:
        """What there is of the pinned maps, in order."""
        return [self._pinned[spec] for spec in self.state.pins if spec in self._pinned]

    @property
    def pairs_spec(self) -> PairsSpec:
        """The matrix of all pairs that belongs on screen."""
        state = self.state
        scaled = state.lines if state.pairs_kind == "lines" else None
        return PairsSpec(state.seed, state.pairs_kind, scaled)

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel that belongs on screen."""
        return KernelSpec(self.state.pair, self.state.seed)

    def _fresh(self) -> list[Picture]:
        """Pictures of the chosen maps that are what was asked for."""
        pictures = [self.pictures.get(kind) for kind in self.state.maps]
        return [p for p in pictures if p is not None and p.spec == self.state.spec(p.spec.kind)]

    def colour_limits(self) -> tuple[float, float]:
        """Ends of the one colour bar."""
        state = self.state
        return limits_of(self.slots(), state.layer, state.terms, state.fitted)

    def available(self, spec: MapSpec) -> list[int]:
        """How many test images each task of a map has."""
        return [self.model.n_images(task, "test") for task in spec.pair]

    @property
    def complete(self) -> bool:
        """Whether every map on screen is finished."""
        return all(
            slot.picture is not None and not slot.stale and slot.picture.result.attrs["complete"]
            for slot in self.slots()
        )

    # State -> computation -> screen

    def _bind(self) -> None:
        watch, outdated = self.state.param.watch, self.drawing.outdated
        watch(self._asked, MAPS)
        watch(lambda *_: outdated("maps", "scale"), ["layer", "terms", "fitted"])
        watch(lambda *_: outdated("maps", "images"), ["looked_at"])
        watch(lambda *_: self.follow_images(), ["recipe", "looked_at", "task", "page"])
        watch(self._also_asked, ["pins", "pairs_kind"])
        also = ["layer", "terms", "fitted", "pins", "pairs_kind"]
        watch(lambda *_: outdated("link"), [*MAPS, *also])
        self.drawing.screen.draw_now()

    def start(self) -> None:
        """Begin to compute, as soon as there is an event loop. Every display calls this."""
        if not self._started:
            self._started = True
            self._want()
        self.computing.runner.resume()

    def _asked(self, *events: Any) -> None:
        """The state asks for other maps, or for another point on them."""
        if self._asked_for == {*self.state.specs, self.pairs_spec}:
            self.drawing.outdated("recipe", "point")
            return
        if self._started:
            self._want()
        self.drawing.outdated("recipe", "plane", "maps", "point")

    def _also_asked(self, *_events: Any) -> None:
        """The state asks for other pinned maps, or for all pairs by another kind of map."""
        if self._started and not self.stopped:
            self._want()
        self.drawing.outdated("maps", "scale", "plane", "pairs", "notices")

    def _want(self) -> None:
        """Have computed what belongs on screen, the maps first, and behind it all pairs."""
        self.stopped = False
        self._asked_for = {*self.state.specs, self.pairs_spec}
        tabs: dict[str, list[Spec]] = {"pairs": [self.pairs_spec], "kernel": [self.kernel_spec]}
        maps = dict.fromkeys([*self.state.specs, *self.state.pins])
        unasked = self.tab != "pairs" and light(self.model)
        self.computing.want([*maps, *tabs.get(self.tab, [])], [self.pairs_spec] if unasked else [])
        self.drawing.outdated("notices")

    _asked_for: frozenset[Spec] | set[Spec] = frozenset()

    def _computed(self, picture: Picture) -> None:
        spec = picture.spec
        if isinstance(spec, PairsSpec):
            if _late(picture, self.pairs, self.pairs_spec):
                return
            # One comes after every cell, and shows something new after every pair.
            new = _pairs_done(self.pairs, spec) != _pairs_done(picture, spec)
            self.pairs = picture
            self.drawing.outdated(*(["pairs"] if new else []), "notices")
        elif isinstance(spec, KernelSpec):
            if not _late(picture, self.kernel, self.kernel_spec):
                self.kernel = picture
                self.drawing.outdated("kernel", "notices")
        else:
            self._mapped(picture)

    def _mapped(self, picture: Picture) -> None:
        wanted = self.state.spec(picture.spec.kind)
        if picture.spec in self.state.pins:
            self._pinned[picture.spec] = picture
            self.drawing.outdated("maps", "scale", "notices")
            if picture.spec != wanted:
                return
        if _late(picture, self.pictures.get(wanted.kind), wanted):
            return
        self.pictures[wanted.kind] = picture
        self.drawing.outdated("maps", "scale", "notices")
        if wanted.kind == self.state.looked_at:
            self.follow_images()

    def follow_images(self) -> None:
        """Find the images that differ at the point, on the map that is looked at."""
        state = self.state
        picture = self.pictures.get(state.looked_at)
        if picture is not None:
            wanted = Wanted(picture, state.point, state.task, state.page)
            self._spawn(self.images.follow(wanted))

    def _is_busy(self, busy: bool) -> None:
        self.busy = busy
        self.drawing.outdated("maps" if not busy else "notices", "notices")

    # What a person can ask for beside the state

    def stop(self) -> None:
        """Stop computing; what is on screen stays."""
        self.stopped = True
        self.computing.stop()
        self.drawing.outdated("maps", "notices")

    def go_on(self) -> None:
        """Compute what is missing."""
        self._want()

    def open_tab(self, tab: str) -> None:
        """A tab is looked at: "images", "pairs" or "kernel". Its contents are computed after the
        maps."""
        if tab != self.tab:
            self.tab = tab
            if self._started and not self.stopped:
                self._want()
        self.drawing.outdated("pairs", "kernel", "images")

    def show_images(self) -> None:
        """Turn to the images."""
        for display in self.drawing.displays:
            display.turn_to("images")

    def pin(self, slot: Slot) -> None:
        """Keep a map as it is beside the others."""
        if slot.picture is None:
            raise RecipeError("There is nothing on this map yet; pin it in a moment.")
        self.state.pin(slot.picture.spec)
        self._pinned.setdefault(slot.picture.spec, slot.picture)

    def unpin(self, slot: Slot) -> None:
        """Let a pinned map go."""
        self.state.unpin(slot.spec)
        self._pinned.pop(slot.spec, None)

    # Links, code, files

    def _restore(self, query: str) -> None:
        for sentence in links.apply(read_for(self.model, query), self.state):
            self.complain(sentence)
        self.state.forget_history()

    def to_python(self) -> str:
        """The maps on screen as Python that computes the same."""
        return saving.python(self.model.to_python(), self.state.specs, self.state.pins)

    def _named(self, what: str) -> tuple[str, str]:
        name = saving.file_name(self.model.name, self.state.pair, saving.kind(what))
        return name, saving.MIME[what]

    def file(self, what: str) -> bytes:
        """What is on screen as a file: "png" and "svg" (all maps), "csv" (their numbers), "nc"
        (all maps, every prediction included, each a group)."""
        saving.kind(what)
        fresh = self._fresh()
        if not fresh:
            raise ExplorerError("No map is computed yet; save again in a moment.")
        if what == "csv":
            return saving.csv(fresh, self.pins)
        if what == "nc":
            return saving.netcdf(fresh, self.pins)
        return saving.figure(self, [*fresh, *self.pins], what)

    # Displays and life

    def _make_display(self) -> Display:
        return Display(self)

    def to_ipywidget(self) -> DisentanglementWidget:
        """The lens as an ipywidget; its `value` (task -> coefficient) can be observed and set."""
        from explorer.app.disentanglement.widget import DisentanglementWidget

        return DisentanglementWidget(self)

    async def settled(self) -> None:
        """Wait until everything on screen is complete (for scripts and tests)."""
        await self._settle(self.computing)

    def close(self) -> None:
        """Stop computing and let go of threads. Called when a served session ends."""
        super().close()
        self.computing.close()


def _late(picture: Picture, before: Picture | None, wanted: Spec) -> bool:
    """Whether a picture comes too late: the right one is there, and this is of something else."""
    return picture.spec != wanted and before is not None and before.spec == wanted


def _pairs_done(picture: Picture | None, spec: PairsSpec) -> int:
    """How many pairs a picture of this matrix shows; -1 for a picture of another, or none."""
    if picture is None or picture.spec != spec:
        return -1
    return int(picture.result.attrs["pairs_done"])
