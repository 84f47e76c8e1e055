"""Components of the app's own: what a message and a changed parameter do, on the short way too."""

import param
import pytest
from bokeh.document import Document

from explorer.app.messenger import Confirmed, Messenger


class Slider(Confirmed):
    """The smallest component with a parameter of its own."""

    value = param.Number(0.0)
    rows = param.List()

    _esm = "export function render() {}"


@pytest.fixture
def shown():
    """A slider in a document: (component, its browser half, what it was sent)."""
    heard = []
    component = Slider(heard.append)
    document = Document()
    model = component.get_root(document)
    document.add_root(model)
    return component, model, heard


def test_a_parameter_reaches_the_browser(shown):
    component, model, _ = shown
    component.param.update(value=0.5, rows=[{"name": "a"}], heard={"v": 3})
    assert (model.data.value, model.data.rows, model.data.heard) == (0.5, [{"name": "a"}], {"v": 3})
    assert component._changing == {}, "nothing is left marked as on its way"


def test_layout_goes_the_way_of_panel(shown):
    component, model, _ = shown
    component.param.update(visible=False, value=0.25)
    assert (model.visible, model.data.value) == (False, 0.25)


def test_what_python_sent_is_not_taken_for_the_browsers(shown, monkeypatch):
    component, model, _ = shown
    worked = []
    monkeypatch.setattr(Messenger, "_process_events", lambda self, events: worked.append(events))
    component.value = 0.5
    component._server_change(model.document, "ref", None, "value", 0.0, 0.5)
    assert worked == []
    component._server_change(model.document, "ref", None, "value", 0.5, 0.75)
    assert worked == [{"value": 0.75}], "but what the browser changed is"


def test_a_message_goes_to_the_listener_and_is_noted(shown):
    component, _, heard = shown
    message = {"kind": "set", "view": "v", "seq": 7}
    component._handle_msg(message)
    component._handle_msg("not a message")
    component._handle_msg({"kind": 3})
    assert heard == [message]
    assert component.noted == {"v": 7}
