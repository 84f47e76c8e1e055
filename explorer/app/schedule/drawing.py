"""The lens's components, each drawn from the lens's state by one function here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from explorer.app.components import Mixer, Notices, Toolbar
from explorer.app.drawing import LINK_BASE
from explorer.app.links import with_heads
from explorer.app.schedule import curve, links, saving, sentences, table
from explorer.app.schedule.actions import Actions
from explorer.app.schedule.components import Board, Job, Kinds, Methods, ScheduleCurve
from explorer.app.schedule.packing import option_fields, packed
from explorer.app.schedule.presets import PRESETS
from explorer.app.schedule.state import ADAMERGING, TABS
from explorer.app.screen import Screen
from explorer.editing.schedule import FACTOR_RANGE

if TYPE_CHECKING:
    from explorer.app.schedule.display import Display
    from explorer.app.schedule.lens import ScheduleLens

STARTS = {
    "forgetting": "measure forgetting",
    "search": "search α and β",
    "compare": "compare methods",
}


class Drawing:
    """Components of one lens, shared by its displays. `outdated(part, ...)` has parts redrawn.

    Parts: "picture" (accuracies), "recipe" (curve, sliders, method, undo), "link", "jobs" (the
    tabs' buttons and sentences), "forgetting", "search", "compare" (what is in the tabs),
    "notices".
    """

    def __init__(self, lens: ScheduleLens):
        self.lens = lens
        self.displays: list[Display] = []
        self.actions = actions = Actions(lens)
        tasks = [{"name": task, "title": lens.titles[task]} for task in lens.model.tasks]
        self.mixer = Mixer(actions.mixer, tasks=tasks)
        self.lines = Mixer(
            actions.lines,
            plain=True,
            low=FACTOR_RANGE[0],
            high=FACTOR_RANGE[1],
            tasks=[{"name": n, "title": f"LiNeS {n}"} for n in ("alpha", "beta")],
        )
        self.curve = ScheduleCurve(
            actions.curve, margin=(0, 4), styles={"flex": "1 1 auto", "min-height": "0"}
        )
        self.kinds = Kinds(
            actions.kinds,
            kinds=[
                {"name": kind, "title": title, "explanation": curve.EXPLANATIONS[kind]}
                for kind, title in curve.KINDS.items()
            ],
            presets=[
                {"name": name, "title": title, "explanation": explanation}
                for name, (title, explanation) in PRESETS.items()
            ],
        )
        self.methods = Methods(actions.methods)
        self.jobs = {tab: self._job(tab) for tab in TABS}
        self.board = Board(
            actions.board, saves=[[what, title] for what, title in saving.TABLES.items()]
        )
        self.toolbar = Toolbar(actions.toolbar, link_base=LINK_BASE, saves=[*saving.FILES])
        self.notices = Notices(actions.notices)
        self.screen = Screen(
            {
                "picture": self._picture,
                "recipe": self._recipe,
                "link": self._link,
                "jobs": self._jobs,
                "forgetting": self._forgetting,
                "search": self._search,
                "compare": self._compare,
                "notices": self._notices,
            }
        )
        self.outdated = self.screen.outdated

    def _job(self, tab: str) -> Job:
        n = {"name": "n", "label": "images a task", "low": 1}
        choices = [[task, self.lens.titles[task]] for task in self.lens.model.tasks]
        learned = {
            "name": "adamerging",
            "label": "AdaMerging",
            "choices": [["without", "without"], ["with", "with, last (minutes)"]],
        }
        fields = {
            "forgetting": [{"name": "task", "label": "target", "choices": choices}, n],
            "search": [n],
            "compare": [n, {"name": "seed", "label": "seed", "low": 0}, learned],
        }
        listener = functools.partial(self.actions.job, tab)
        return Job(listener, title=STARTS[tab], fields=fields[tab], margin=(6, 12, 2, 12))

    # Parts

    def _picture(self) -> None:
        drawn = self.lens.rows()
        if drawn is not None:
            for display in self.displays:
                display.show(drawn)

    def _recipe(self) -> None:
        lens, state = self.lens, self.lens.state
        self.curve.param.update(
            curve=packed(state.recipe, state.n_layers, lens.vectors, lens.geometry),
            heard={**self.curve.noted},
        )
        self.mixer.param.update(
            heard={**self.mixer.noted},
            values=state.values,
            muted=[*state.off],
            solo=state.solo,
            focus=state.focus,
            shared=state.shared,
        )
        alpha, beta = state.alpha_and_beta
        low, high = curve.bounds(state.recipe.schedule, state.n_layers)
        self.lines.param.update(
            heard={**self.lines.noted}, values={"alpha": alpha, "beta": beta}, low=low, high=high
        )
        self.lines.visible = state.kind in curve.RAMPS
        schedule = state.recipe.schedule
        laid_out = schedule is not None and schedule.kind in curve.LAID_OUT
        self.kinds.param.update(
            chosen=state.kind,
            outside=schedule.outside if schedule is not None and laid_out else "",
            order=int(schedule.parameters[2])
            if schedule is not None and schedule.kind == "shuffled_lines"
            else -1,
            heard=self.kinds.heard + 1,
        )
        self._method()
        self.toolbar.param.update(can_undo=state.history.can_undo, can_redo=state.history.can_redo)
        for display in self.displays:
            display.follow()

    def _method(self) -> None:
        from explorer.editing.methods import find_method, merging_methods

        recipe = self.lens.state.recipe
        method = find_method(recipe.method)
        self.methods.param.update(
            methods=[{"name": name, "title": name.replace("_", " ")} for name in merging_methods()],
            method=recipe.method,
            summary=method.summary,
            reference=method.reference,
            options=option_fields(recipe, self.lens.titles),
            heard={**self.methods.noted},
        )

    def _link(self) -> None:
        self.toolbar.param.update(
            query=with_heads(links.to_query(self.lens.state), self.lens.model),
            python=self.lens.to_python(),
        )

    def _jobs(self) -> None:
        lens, jobs = self.lens, self.lens.jobs
        state = lens.state
        for tab, job in self.jobs.items():
            busy = jobs.tab == tab
            found = jobs.found.get(tab)
            job.param.update(
                busy=busy,
                progress=jobs.progress if busy else 0.0,
                left=sentences.left(jobs.progress, jobs.seconds_left) if busy else "",
                says=sentences.says(tab, found, lens.spec(tab), lens.titles, state.single),
                values={
                    "n": state.n,
                    "seed": state.seed,
                    "task": state.focus,
                    "adamerging": ADAMERGING[state.adamerging],
                },
                heard=job.heard + 1,
            )

    def _forgetting(self) -> None:
        for display in self.displays:
            display.show_forgetting()

    def _search(self) -> None:
        for display in self.displays:
            display.show_search()

    def _compare(self) -> None:
        found = self.lens.jobs.found.get("compare")
        if found is not None:
            self.board.param.update(
                columns=table.columns(found.result, self.lens.titles),
                rows=table.rows(found.result),
                note=table.note(found.result),
                open=table.open_row(found.result, self.lens.recipe),
            )

    def _notices(self) -> None:
        self.notices.param.update(**self.lens.notice())
