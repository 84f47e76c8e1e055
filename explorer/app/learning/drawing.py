"""The panels' heads, drawn from the lens's state, and what is said of the whole view."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import xarray as xr

from explorer.app.learning.components import Head
from explorer.app.learning.curves import PANELS, Series, against_law, key

if TYPE_CHECKING:
    from explorer.app.listening import Message
    from explorer.app.tree.lens import HierarchyLens


class Heads:
    """One head a panel, shared by the displays of a lens."""

    def __init__(self, lens: HierarchyLens, listener: Callable[[Message], None]):
        self._lens = lens
        self.of = {
            name: Head(
                listener, name_of=name, title=panel.title, law=panel.law,
                choices=[*panel.live], examples=lens.state.examples(name), margin=(2, 8),
            )
            for name, panel in PANELS.items()
        }  # fmt: skip

    def draw(self) -> None:
        """Bring all heads to what the lens knows."""
        desk, setting = self._lens.desk, self._lens.state.setting
        for name, head in self.of.items():
            head.param.update(
                law=law_of(name, desk.shipped.get(name, [])),
                shipped=provenance(desk.shipped.get(name, [])),
                examples=self._lens.state.examples(name),
                scaled=name in setting.scaled,
                key=key(series_of(self._lens, name)[0]),
                said=self._said(name),
                busy=desk.measuring == name,
                heard=head.heard + 1,
            )

    def _said(self, name: str) -> str:
        desk = self._lens.desk
        if desk.measuring == name:
            return f"measuring P = {desk.examples:,} … {desk.progress:.0%}"
        if name in desk.live:
            return found_live(desk.live[name])
        return ""

    def status(self) -> str:
        """One line on the whole view."""
        desk = self._lens.desk
        if not desk.complete:
            return "reading the cached curves…"
        return "cached curves, errors over grammars · measure adds one more grammar, now"


def series_of(lens: HierarchyLens, name: str) -> tuple[list[Series], list[Series]]:
    """What a panel draws: shipped series, and live ones."""
    panel, scaled = PANELS[name], name in lens.state.setting.scaled
    shipped, live = lens.desk.shipped.get(name), lens.desk.live.get(name)
    return (
        panel.series(shipped, scaled) if shipped else [],
        panel.series([live], scaled) if live is not None else [],
    )


def law_of(name: str, shipped: list[xr.Dataset]) -> str:
    """The law, and how near the shipped curves are to it."""
    found = against_law(shipped) if shipped else ""
    return f"{PANELS[name].law}; {found}" if found else PANELS[name].law


def provenance(shipped: list[xr.Dataset]) -> str:
    """How a panel's shipped curves were made."""
    if not shipped:
        return "being read"
    calls = "\n".join(str(data.attrs["call"]) for data in shipped)
    return f"cached curves, made by\n{shipped[0].attrs['command']}\n{calls}"


def found_live(data: xr.Dataset) -> str:
    """What was measured live, in words."""
    head = f"P = {int(data['examples'][0]):,}, seed {data.attrs['seed']}"
    return f"{head}: {_finding(data)}"


def _finding(data: xr.Dataset) -> str:
    first = data.isel(examples=0)
    if "separation" in data:
        return f"ratio {float(first['separation']):.2f}, Rand index {float(first['recovered']):.2f}"
    if "levels_found" in data:
        latent, token = (int(first["levels_found"].sel(target=t)) for t in ("latent", "token"))
        return f"{latent} levels found by latents, {token} by tokens"
    if "noise" in data:
        above = int((first["correlation"] ** 2 > 2 * first["noise"] ** 2).sum())
        return f"{above} of {data.sizes['distance']} steps above the noise"
    if "legal" in data:
        shares = ", ".join(f"{x:.0%}" for x in first["legal"].values)
        return f"legal at heights 1, 2, …: {shares}"
    tau = float(first["tau_copied"])
    return f"copies from step {tau:.0f}" if tau == tau else "does not copy"
