"""The words of the zero-shot head, editable: class names and templates of the focused task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import panel as pn
import panel_material_ui as pmui
import param

from explorer.app.state import Prompts

if TYPE_CHECKING:
    from explorer.app.arithmetic import ArithmeticLens

EXPLANATION = (
    "The head compares every image with these words. Change them and the labels change with them; "
    "accuracies are measured with your words."
)


class PromptEditor(pn.viewable.Viewer):
    """Two text areas. What they hold becomes the head when its words are known to the model."""

    class_names = param.String(label="class names, one a line")
    templates = param.String(label="templates, one a line; {} is where the class name goes")

    def __init__(self, lens: ArithmeticLens):
        super().__init__()
        self._lens = lens
        self._following = False
        self.follow()

    def follow(self) -> None:
        """Show the focused task's words."""
        words = self._lens.words(self._lens.state.focus)
        if self.words() == words:
            return
        self._following = True
        try:
            self.param.update(
                class_names="\n".join(words.class_names), templates="\n".join(words.templates)
            )
        finally:
            self._following = False

    def words(self) -> Prompts:
        """What the text areas hold, without empty lines."""
        return Prompts(_lines(self.class_names), _lines(self.templates))

    @param.depends("class_names", "templates", watch=True)
    def _edited(self) -> None:
        if self._following:
            return
        task, words = self._lens.state.focus, self.words()
        self._lens.change_prompts(task, None if words == self._lens.own_words(task) else words)

    def _restore(self, _event: Any) -> None:
        self._lens.state.set_prompts(self._lens.state.focus, None)
        self.follow()

    def __panel__(self) -> pn.viewable.Viewable:
        area = {"sizing_mode": "stretch_width", "size": "small", "auto_grow": True, "max_rows": 12}
        restore = pmui.Button(
            label="Restore the model's own words",
            variant="outlined",
            size="small",
            on_click=self._restore,
        )
        return pn.Column(
            pmui.Typography(EXPLANATION, variant="body2", margin=(4, 10)),
            pmui.TextAreaInput.from_param(self.param.class_names, rows=6, **area),
            pmui.TextAreaInput.from_param(self.param.templates, rows=3, **area),
            restore,
            sizing_mode="stretch_width",
        )


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.split("\n") if line.strip())
