"""A real JupyterLab in headless Chromium: the lens as a cell's last line.

No test calls `pn.extension`: a lens must show itself in a notebook that knows nothing of panel, and
ask no content network for anything (see `page` in conftest).
"""

from __future__ import annotations

import pytest
from seeing import chart, edited, slider, tiles, wait_until_complete

OPEN = "import explorer as ex\nm = ex.open_model('tiny')"
LENS = "lens = ex.ArithmeticLens(m)\nlens"
APP = "import explorer as ex\nex.app('tiny')"


def printed(page) -> str:
    """Everything cells have printed."""
    return "\n".join(page.locator(".jp-OutputArea-output pre").all_inner_texts())


@pytest.mark.parametrize("cells", [[OPEN, LENS], [APP]], ids=["lens", "app"])
def test_a_slider_in_a_cell_changes_chart_and_gallery_and_undo_brings_them_back(
    page, lab, until, cells
):
    lab.open(page, cells)
    wait_until_complete(page)
    assert "WARNING" not in printed(page)
    before, labels = chart(page), tiles(page)
    slider(page, "Digits").focus()
    page.keyboard.press("End")
    until(lambda: edited(page, "Digits") != before["edited"][0], "the chart follows")
    until(lambda: tiles(page) != labels, "the gallery follows")
    page.keyboard.press("Control+z")
    until(lambda: chart(page)["edited"] == before["edited"], "Ctrl+Z undoes")
    assert float(slider(page, "Digits").input_value()) == 0


def test_the_lens_fits_a_narrow_and_a_wide_cell(page, lab):
    lab.open(page, [OPEN, LENS])
    wait_until_complete(page)
    for width in (1000, 1270, 1920):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(500)
        output = page.locator(".jp-OutputArea-output").last
        overflow = output.evaluate("o => o.scrollWidth - o.clientWidth")
        assert overflow <= 2, f"the lens overflows a window of {width} px by {overflow} px"
