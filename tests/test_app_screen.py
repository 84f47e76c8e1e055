"""When parts of the screen are drawn: all that wait at once, in order, never before a browser."""

from unittest.mock import Mock

import pytest
from bokeh.document import Document
from bokeh.document.events import ModelChangedEvent
from bokeh.models import Div

from explorer.app import notebook
from explorer.app.screen import PATIENCE, PATIENCE_IN_A_CROWD, Screen, in_one_message
from explorer.compute import turns


@pytest.fixture
def screen(monkeypatch):
    """A notebook's screen whose callbacks wait in `screen.waiting` as (seconds, function)."""
    waiting = []
    monkeypatch.setattr(notebook, "in_kernel", lambda: True)
    monkeypatch.setattr(
        notebook, "call_soon", lambda function, wait=0.0: waiting.append((wait, function))
    )
    drawn = []
    made = Screen({name: lambda name=name: drawn.append(name) for name in ("a", "b", "c")})
    made.waiting, made.drawn = waiting, drawn
    return made


def test_nothing_is_drawn_before_a_browser_listens(screen):
    screen.outdated("a")
    assert screen.waiting == []
    screen.ready()
    ((wait, draw),) = screen.waiting
    draw()
    assert (wait, screen.drawn) == (0.0, ["a"])


def test_parts_outdated_together_are_drawn_together_in_their_own_order(screen):
    screen.ready()
    screen.outdated("c", "a")
    screen.outdated("a", "b")
    ((_, draw),) = screen.waiting
    draw()
    assert screen.drawn == ["a", "b", "c"]


def test_a_patient_part_goes_with_one_that_cannot_wait(screen):
    screen.ready()
    screen.outdated("c", patient=True)
    screen.outdated("b", patient=True)
    screen.outdated("a")
    later, soon = screen.waiting
    assert (later[0], soon[0]) == (PATIENCE, 0.0)
    soon[1]()
    assert screen.drawn == ["a", "b", "c"]
    later[1]()
    assert screen.drawn == ["a", "b", "c"], "what was drawn is not drawn again"


def test_a_patient_part_alone_is_drawn_when_its_patience_ends(screen):
    screen.ready()
    screen.outdated("c", patient=True)
    ((wait, draw),) = screen.waiting
    draw()
    assert (wait, screen.drawn) == (PATIENCE, ["c"])
    screen.outdated("a", patient=True)
    assert len(screen.waiting) == 2, "and the next one waits anew"


def test_in_a_crowd_what_was_set_is_confirmed_later(screen, monkeypatch):
    monkeypatch.setattr(turns, "crowded", lambda: True)
    screen.ready()
    screen.outdated("c", patient=True)
    assert screen.waiting[0][0] == PATIENCE_IN_A_CROWD
    screen.outdated("a")
    (_, (wait, draw)) = screen.waiting
    draw()
    assert (wait, screen.drawn) == (0.0, ["a", "c"]), "or with the next picture"


def test_a_closed_screen_draws_nothing(screen):
    screen.ready()
    screen.outdated("a")
    screen.close()
    screen.waiting[0][1]()
    assert screen.drawn == []


def test_what_is_drawn_together_is_sent_when_the_last_part_is_drawn():
    document, first, second = Document(), Div(text="old"), Div(text="old")
    document.add_root(first)
    document.add_root(second)
    sent = []

    def draw_first():
        first.text = "nearly"
        first.text = "new"

    def draw_second():
        assert not any(isinstance(e, ModelChangedEvent) for e in sent), "too soon"
        second.text = "new"

    screen = Screen({"first": draw_first, "second": draw_second})
    screen.document = document
    screen.outdated("first", "second")
    document.on_change(sent.append)
    document.session_callbacks[0].callback()
    changes = [(e.model, e.attr, e.new) for e in sent if isinstance(e, ModelChangedEvent)]
    assert changes == [(first, "text", "new"), (second, "text", "new")]


class _Browser:
    """Somebody connected to a session: messages it is sent."""

    def __init__(self):
        self.got, self.protocol, self._socket = [], self, self

    def create(self, kind, events):
        return kind, [(e.model, e.attr, e.new) for e in events]

    def send_message(self, message):
        self.got.append(message)
        return message


def test_what_is_drawn_together_is_one_message_to_each_browser():
    document, first, second = Document(), Div(text="old"), Div(text="old")
    document.add_root(first)
    document.add_root(second)
    browsers = [_Browser(), _Browser()]
    session = Mock(_pending_writes=[], _subscribed_connections=browsers)
    document._session_context = lambda: Mock(session=session)
    others, own, followed = [], [], []
    document.callbacks._change_callbacks[session] = own.append
    document.on_change(others.append)
    first.on_change("text", lambda attr, old, new: followed.append(new))
    with in_one_message(document):
        first.text = "new"
        second.text = "new"
        document.add_next_tick_callback(lambda: None)
    changes = [(first, "text", "new"), (second, "text", "new")]
    assert [b.got for b in browsers] == [[("PATCH-DOC", changes)]] * 2
    assert session._pending_writes == [("PATCH-DOC", changes)] * 2
    assert followed == ["new"], "who follows a property is told as ever"
    assert [e for e in own if isinstance(e, ModelChangedEvent)] == [], "and not sent twice"
    assert len([e for e in others if isinstance(e, ModelChangedEvent)]) == 2
    assert len(own) == len(others) - 2 == 1, "a callback to come is announced as ever"
    first.text = "later"
    assert document.callbacks.hold_value is None
    assert own[-1].new == "later", "the hold is over"
