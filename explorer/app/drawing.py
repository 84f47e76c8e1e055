"""The lens's components, each drawn from the lens's state by one function here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.app import links
from explorer.app.actions import Actions
from explorer.app.components import Gallery, Mixer, Notices, Presets, Toolbar
from explorer.app.gallery import COLUMNS
from explorer.app.picture import count_sentences, tiles
from explorer.app.prompts import PromptEditor
from explorer.app.screen import Screen

if TYPE_CHECKING:
    from explorer.app.arithmetic import ArithmeticLens
    from explorer.app.layout import Display

LINK_BASE = "http://localhost:5006/"
"""Where `explorer app` serves by default: links copied in a notebook point there."""


class Drawing:
    """Components of one lens, shared by its displays. `outdated(part, ...)` has parts redrawn.

    Parts: "recipe" (sliders, undo), "link", "page" (which pictures the gallery holds), "picture"
    (chart and labels), "prompts", "search", "geometry", "notices".
    """

    def __init__(self, lens: ArithmeticLens):
        self.lens = lens
        self.displays: list[Display] = []
        actions = Actions(lens)
        shown = [{"name": task, "title": title} for task, title in lens.titles.items()]
        tasks = [row for row in shown if row["name"] != lens.model.control]
        self.mixer = Mixer(actions.mixer, tasks=tasks)
        base = lens.model.base_title
        self.presets = Presets(actions.presets, tasks=tasks, base=base)
        self.toolbar = Toolbar(actions.toolbar, link_base=LINK_BASE)
        self.gallery = Gallery(
            actions.gallery, tasks=shown, columns=COLUMNS, focus=lens.state.focus, base=base
        )
        self.notices = Notices(actions.notices)
        self.prompts = PromptEditor(lens)
        self.screen = Screen(
            {
                "page": self._page,
                "picture": self._picture,
                "recipe": self._recipe,
                "link": self._link,
                "prompts": self.prompts.follow,
                "search": self._search,
                "geometry": self._geometry,
                "notices": self._notices,
            }
        )
        self.outdated = self.screen.outdated

    def _recipe(self) -> None:
        state = self.lens.state
        self.mixer.param.update(
            heard={**self.mixer.noted},
            values=state.values,
            muted=[*state.off],
            solo=state.solo,
            focus=state.focus,
            shared=state.shared,
        )
        self.toolbar.param.update(can_undo=state.history.can_undo, can_redo=state.history.can_redo)
        for display in self.displays:
            display.follow()

    def _link(self) -> None:
        self.toolbar.param.update(
            query=links.with_heads(links.to_query(self.lens.state), self.lens.model),
            python=self.lens.to_python(),
        )

    def _page(self) -> None:
        page = self.lens.images_shown
        if page is not None:
            self.gallery.param.update(
                sprite=page.sprite,
                labels=page.labels,
                where=page.where,
                page=page.number,
                pages=page.pages,
                focus=page.task,
                class_names=[*self.lens.words(page.task).class_names],
                tiles=[],
            )

    def _picture(self) -> None:
        drawn, picture = self.lens.rows(), self.lens.picture
        if drawn is None or picture is None:
            return
        for display in self.displays:
            display.show(drawn)
        page, result = self.lens.images_shown, picture.result
        if page is not None:
            before = self.lens.before.get(page.task)
            base = self.lens.model.base_title
            said_of_all = count_sentences(result, page.task, before, base)
            self.gallery.param.update(
                class_names=[*self.lens.words(page.task).class_names],
                tiles=tiles(result, page.task, page.images, before),
                counts=[[*said] for said in said_of_all],
                changed_only=self.lens.state.changed_only,
            )

    def _search(self) -> None:
        self.presets.param.update(best=self.lens.best, searching=self.lens.searching)
        searched = self.lens.searched
        if searched is None:
            return
        for display in self.displays:
            display.show_search(searched)

    def _geometry(self) -> None:
        for display in self.displays:
            display.show_geometry(self.lens.geometry)

    def _notices(self) -> None:
        self.notices.param.update(**self.lens.notice())
