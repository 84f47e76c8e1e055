"""The lens's components, each drawn from the lens's state by one function here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from explorer.app.components import Mixer, Notices, Toolbar
from explorer.app.disentanglement import links, saving
from explorer.app.disentanglement.actions import Actions
from explorer.app.disentanglement.components import Choice, Difference, Plane, Scale
from explorer.app.disentanglement.differing import change_sentence, count_sentence
from explorer.app.disentanglement.layers import LAYERS, layer_name
from explorer.app.disentanglement.palette import stops
from explorer.app.disentanglement.picture import pair_titles, time_left
from explorer.app.disentanglement.spec import KINDS, kind_explanation, kind_title, methods
from explorer.app.disentanglement.state import EXTENTS, RESOLUTIONS
from explorer.app.drawing import LINK_BASE
from explorer.app.gallery import COLUMNS
from explorer.app.links import with_heads
from explorer.app.screen import Screen

if TYPE_CHECKING:
    from explorer.app.disentanglement.display import Display
    from explorer.app.disentanglement.lens import DisentanglementLens


class Drawing:
    """Components of one lens, shared by its displays. `outdated(part, ...)` has parts redrawn.

    Parts: "recipe" (sliders, undo), "plane" (what is mapped), "link", "scale" (layer and colours),
    "maps", "point", "images", "pairs", "kernel", "notices".
    """

    def __init__(self, lens: DisentanglementLens):
        self.lens = lens
        self.displays: list[Display] = []
        self.actions = actions = Actions(lens)
        self.mixer = Mixer(actions.point, plain=True)
        self.lines = Mixer(
            actions.lines,
            plain=True,
            low=0.0,
            high=1.0,
            tasks=[{"name": n, "title": f"LiNeS {n}"} for n in ("alpha", "beta")],
        )
        self.plane = Plane(
            actions.plane,
            tasks=[{"name": task, "title": title} for task, title in lens.titles.items()],
            kinds=_choices(KINDS),
            methods=_choices(methods()),
            extents=[[*extent] for extent in EXTENTS],
            resolutions=[*RESOLUTIONS],
        )
        self.toolbar = Toolbar(
            actions.toolbar, link_base=LINK_BASE, saves=[*saving.FILES], loads=False
        )
        self.scale = Scale(actions.scale, margin=(2, 12))
        self.pairs_kinds = Choice(actions.pairs, label="by the maps", choices=_choices(KINDS))
        self.difference = Difference(actions.difference, columns=COLUMNS)
        self.notices = Notices(actions.notices)
        self.screen = Screen(
            {
                "recipe": self._recipe,
                "plane": self._plane,
                "link": self._link,
                "scale": self._scale,
                "maps": self._maps,
                "point": self._point,
                "images": self._images,
                "pairs": self._pairs,
                "kernel": self._kernel,
                "notices": self._notices,
            }
        )
        self.outdated = self.screen.outdated

    def _recipe(self) -> None:
        state, titles = self.lens.state, self.lens.titles
        low, high = state.extent
        tasks = [{"name": task, "title": titles[task]} for task in state.pair]
        if self.mixer.tasks != tasks:
            self.mixer.tasks = tasks
        self.mixer.param.update(
            heard={**self.mixer.noted},
            values=dict(self.lens.coefficients),
            low=low,
            high=high,
            focus=state.pair[state.task],
        )
        alpha, beta = state.lines
        self.lines.param.update(heard={**self.lines.noted}, values={"alpha": alpha, "beta": beta})
        self.toolbar.param.update(can_undo=state.history.can_undo, can_redo=state.history.can_redo)

    def _plane(self) -> None:
        state = self.lens.state
        self.lines.visible = "lines" in (*state.maps, state.pairs_kind)
        self.plane.param.update(
            pair=[*state.pair],
            maps=[*state.maps],
            method=state.method,
            extent=[*state.extent],
            points=state.points,
            n=state.n,
            seed=state.seed,
            heard=self.plane.heard + 1,
        )

    def _link(self) -> None:
        self.toolbar.param.update(
            query=with_heads(links.to_query(self.lens.state), self.lens.model),
            python=self.lens.to_python(),
        )

    def _scale(self) -> None:
        state = self.lens.state
        first, second = (self.lens.titles[task] for task in state.pair)
        low, high = self.lens.colour_limits()
        self.scale.param.update(
            layers=[
                {"name": layer, "title": layer_name(layer, (first, second), state.terms)}
                for layer in LAYERS
            ],
            layer=state.layer,
            terms=state.terms,
            fitted=state.fitted,
            colours=stops(state.layer),
            low=low,
            high=high,
        )

    def _maps(self) -> None:
        for display in self.displays:
            display.board.draw_maps()

    def _point(self) -> None:
        for display in self.displays:
            display.board.draw_point()

    def _images(self) -> None:
        found, lens = self.lens.images.found, self.lens
        if found is None:
            return
        spec, page = found.wanted.picture.spec, found.page
        titles = pair_titles(lens.titles, spec)
        names = lens.model.task(page.task).class_names
        first, last = page.images.start, page.images.stop
        shown = found.shown
        self.difference.param.update(
            tasks=[
                [title, len(of_task.places)]
                for title, of_task in zip(titles, found.both, strict=True)
            ],
            task=found.wanted.task,
            sentence=f"{spec.title}: {count_sentence(shown, titles[found.wanted.task])}",
            detail=change_sentence(shown),
            sprite=page.sprite,
            tiles=[
                [names[single], names[joint], names[true]]
                for single, joint, true in zip(
                    shown.single[first:last],
                    shown.joint[first:last],
                    shown.true[first:last],
                    strict=True,
                )
            ],
            page=page.number,
            pages=page.pages,
            where=page.where,
        )

    def _pairs(self) -> None:
        state = self.lens.state
        # The four kinds, the merging method that is mapped, and the one that is chosen here.
        names = dict.fromkeys([*KINDS, *filter(None, [state.method]), state.pairs_kind])
        self.pairs_kinds.param.update(choices=_choices(names), chosen=state.pairs_kind)
        for display in self.displays:
            display.show_pairs(self.lens.pairs)

    def _kernel(self) -> None:
        for display in self.displays:
            display.show_kernel(self.lens.kernel)

    def _notices(self) -> None:
        lens = self.lens
        action = "stop" if lens.busy else "go on" if lens.stopped else ""
        self.notices.param.update(
            text=self._status(),
            busy=lens.busy,
            progress=round(self._progress(), 2),
            sentences=[*lens.sentences],
            action=action,
        )

    def _progress(self) -> float:
        """How far what is wanted is, then what fills in behind it."""
        computing = self.lens.computing
        only_behind = self.lens.busy and not computing.busy
        return computing.progress_behind if only_behind else computing.progress

    def _status(self) -> str:
        """How far the maps are."""
        lens = self.lens
        if lens.busy and not lens.computing.busy:
            behind = f"all pairs fill in behind: {self._progress():.0%}"
            return f"every cell is computed; {behind}" if lens.complete else behind
        if lens.busy:
            left = time_left(lens.computing.seconds_left)
            what = {"pairs": "all pairs", "kernel": "the kernel"}.get(lens.tab, "")
            doing = f"computing {what}" if lens.complete and what else "filling in"
            return f"{doing}: {lens.computing.progress:.0%}{left}"
        if lens.stopped and not lens.complete:
            reached = f"stopped at {lens.computing.progress:.0%}"
            return f"{reached}; veiled cells show the nearest computed one"
        return "every cell is computed" if lens.complete else "nothing computed yet"


def _choices(kinds: Iterable[str]) -> list[dict[str, str]]:
    """Kinds of map as the browser's components take them."""
    return [
        {"name": kind, "title": kind_title(kind), "explanation": kind_explanation(kind)}
        for kind in kinds
    ]
