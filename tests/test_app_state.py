"""The app's state, undo, links, presets, pictures: pure Python, no browser."""

import numpy as np
import pytest
import xarray as xr

from explorer.app import links, presets
from explorer.app.gallery import COLUMNS, page_of
from explorer.app.history import PAUSE, History
from explorer.app.picture import changes, count_sentences, resolution, row_labels, rows, tiles
from explorer.app.state import LensState, Prompts
from explorer.errors import RecipeError, UnknownNameError
from explorer.recipe import Recipe

TASKS = ("mnist", "letters", "emoji")


@pytest.fixture
def state() -> LensState:
    return LensState(TASKS, Recipe(base="tiny"), control="shapes")


class Clock:
    """A clock that tests can turn."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# --- undo ------------------------------------------------------------------------------------


def recipe(**coefficients: float) -> Recipe:
    return Recipe(base="tiny", coefficients=coefficients)


def test_a_drag_is_one_undo_step():
    history = History(recipe())
    for i in range(1, 50):
        history.record(recipe(mnist=i / 100), gesture="mnist", done=False)
    history.record(recipe(mnist=0.49), gesture="mnist", done=True)
    assert history.undo() == recipe()
    assert not history.can_undo
    assert history.redo() == recipe(mnist=0.49)


def test_a_drag_with_a_long_pause_is_still_one_step_but_a_second_drag_is_not():
    clock = Clock()
    history = History(recipe(), clock)
    history.record(recipe(mnist=0.1), "mnist", done=False)
    clock.now += 60
    history.record(recipe(mnist=0.2), "mnist", done=True)
    clock.now += PAUSE + 1
    history.record(recipe(mnist=0.9), "mnist", done=True)
    assert history.undo() == recipe(mnist=0.2)
    assert history.undo() == recipe()


def test_quick_key_presses_on_one_slider_are_one_step_and_on_two_sliders_are_two():
    clock = Clock()
    history = History(recipe(), clock)
    for i in range(1, 6):
        clock.now += PAUSE / 2
        history.record(recipe(mnist=i / 100), "mnist")
    history.record(recipe(mnist=0.05, letters=0.01), "letters")
    assert history.undo() == recipe(mnist=0.05)
    assert history.undo() == recipe()


def test_a_change_after_undo_forgets_what_was_undone():
    history = History(recipe())
    history.record(recipe(mnist=1.0))
    history.undo()
    history.record(recipe(letters=1.0))
    assert not history.can_redo
    assert history.undo() == recipe()


# --- state -----------------------------------------------------------------------------------


def test_switching_off_keeps_the_slider_and_switching_on_restores_it(state):
    state.set_coefficient("mnist", 0.4)
    state.switch("mnist", False)
    assert state.recipe == recipe()
    assert state.values["mnist"] == 0.4
    state.switch("mnist", True)
    assert state.recipe == recipe(mnist=0.4)


def test_solo_leaves_one_task_on_and_a_second_time_brings_all_back(state):
    state.replace(recipe(mnist=0.4, letters=0.3))
    state.toggle_solo("letters")
    assert state.recipe == recipe(letters=0.3)
    assert state.solo == "letters"
    state.toggle_solo("letters")
    assert state.recipe == recipe(mnist=0.4, letters=0.3)
    assert state.solo == ""


def test_the_slider_for_all_moves_only_tasks_that_are_on(state):
    state.switch("emoji", False)
    state.set_all(0.5)
    assert state.recipe == recipe(mnist=0.5, letters=0.5)
    assert state.shared == 0.5


def test_undo_brings_back_a_switched_off_task(state):
    state.set_coefficient("mnist", 0.4)
    state.switch("mnist", False)
    state.undo()
    assert state.recipe == recipe(mnist=0.4)
    assert "mnist" not in state.off


@pytest.mark.parametrize("value", [2.01, -1.5, float("nan"), float("inf"), "0.3", None, True])
def test_a_coefficient_out_of_range_or_no_number_is_refused_and_nothing_changes(state, value):
    with pytest.raises(RecipeError, match="between -1 and 2"):
        state.set_coefficient("mnist", value)
    assert state.recipe == recipe()


def test_an_unknown_task_is_refused_with_the_nearest_name(state):
    with pytest.raises(UnknownNameError, match="'letters'"):
        state.set_coefficient("leters", 0.3)


def test_the_control_task_can_be_looked_at_but_has_no_coefficient(state):
    state.look_at("shapes")
    assert state.focus == "shapes"
    with pytest.raises(UnknownNameError):
        state.set_coefficient("shapes", 0.3)


def test_a_recipe_for_another_model_is_refused(state):
    with pytest.raises(RecipeError, match="'other'"):
        state.replace(Recipe(base="other"))


def test_a_step_begins_once_a_gesture(state):
    before = state.step
    for i in range(1, 9):
        state.set_coefficient("mnist", i / 10, done=False)
    assert state.step == before + 1


# --- links -----------------------------------------------------------------------------------


def follow(query: str) -> tuple[LensState, list[str], dict]:
    state = LensState(TASKS, Recipe(base="tiny"), control="shapes")
    wrong, asked = links.apply(links.read(query), state)
    return state, wrong, asked


def test_a_link_restores_recipe_focus_chart_switches_and_prompts(state):
    state.replace(recipe(mnist=0.4, letters=-0.3))
    state.switch("letters", False)
    state.look_at("emoji")
    state.set_chart("normalized")
    words = Prompts(("a|b", "c & d", "né %7C", "+ ="), ("a photo of a {}.", "{}, truly"))
    state.set_prompts("emoji", words)
    there, wrong, asked = follow("?" + links.to_query(state))
    assert wrong == []
    assert there.recipe == state.recipe
    assert there.off == {"letters": -0.3}
    assert (there.focus, there.chart) == ("emoji", "normalized")
    assert asked == {"emoji": words}


def test_a_link_may_name_its_own_lens(state):
    assert links.apply(links.read("view.lens=arithmetic&view.focus=mnist"), state) == ([], {})


def test_an_empty_link_changes_nothing():
    state, wrong, asked = follow("")
    assert (state.recipe, wrong, asked) == (recipe(), [], {})


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("base=tiny&mnits=0.4", "'mnist'"),
        ("base=tiny&mnist=7", "between -1 and 2"),
        ("base=tiny&mnist=much", "no number"),
        ("base=other&mnist=0.4", "'other'"),
        ("view.focus=nothing", "no task 'nothing'"),
        ("view.chart=pie", "no chart 'pie'"),
        ("view.colour=red", "does not know"),
        ("view.off=mnist:9", "outside -1 to 2"),
        ("view.off=mnist:x", "no number"),
        ("view.off=nobody:1", "no task 'nobody'"),
        ("view.classes.nobody=a|b", "no task 'nobody'"),
        ("<script>alert(1)</script>", "no recipe"),
    ],
)
def test_what_makes_no_sense_in_a_link_becomes_a_sentence(query, says):
    state, wrong, asked = follow(query)
    assert len(wrong) == 1
    assert says in wrong[0]
    assert state.recipe == recipe()
    assert asked == {}


def test_one_mistake_in_a_link_does_not_spoil_the_rest():
    state, wrong, _ = follow("base=tiny&mnist=0.4&view.focus=nothing&view.chart=normalized")
    assert len(wrong) == 1
    assert state.recipe == recipe(mnist=0.4)
    assert state.chart == "normalized"


# --- presets ---------------------------------------------------------------------------------


def test_presets_make_the_recipes_of_the_paper():
    start = recipe(emoji=1.5)
    assert presets.zero_shot(start) == recipe()
    assert presets.single(start, "mnist") == recipe(mnist=1.0)
    assert presets.addition(start, TASKS, 0.3) == recipe(mnist=0.3, letters=0.3, emoji=0.3)
    assert presets.forget(start, "mnist", 0.5) == recipe(mnist=-0.5)
    assert presets.analogy(start, *TASKS, 0.5) == recipe(mnist=0.5, letters=0.5, emoji=-0.5)


def test_an_analogy_needs_three_different_tasks():
    with pytest.raises(RecipeError, match="three different"):
        presets.analogy(recipe(), "mnist", "mnist", "emoji")


# --- pictures --------------------------------------------------------------------------------


def measured() -> xr.Dataset:
    per_image = ("task", "image")
    label = np.array([[0, 1, 1, 0], [1, 1, -1, -1]])
    return xr.Dataset(
        {
            "edited": ("task", [0.5, 0.5]),
            "zero_shot": ("task", [0.5, 1.0]),
            "fine_tuned": ("task", [0.8, np.nan]),
            "n": ("task", [4, 2]),
            "label": (per_image, label),
            "predicted": (per_image, np.array([[0, 0, 2, 0], [1, 0, -1, -1]])),
            "zero_shot_predicted": (per_image, np.array([[1, 1, 0, 0], [1, 1, -1, -1]])),
            "confidence": (per_image, np.array([[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, np.nan, np.nan]])),
        },
        coords={"task": ["mnist", "shapes"]},
    )


def test_rows_are_the_tasks_their_mean_and_the_control_task():
    drawn = rows(measured(), {"mnist": 10, "shapes": 4}, "absolute", "shapes")
    assert drawn.edited == (0.5, 0.5, 0.5)
    assert drawn.zero_shot == (0.5, 0.5, 1.0)
    assert drawn.n == (4, 4, 2)
    assert drawn.chance == (0.1, 0.1, 0.25)
    labels = row_labels({"mnist": "Digits", "shapes": "Shapes"}, "shapes")
    assert labels == ["Digits", "mean", "Shapes (control)"]


def test_normalized_rows_are_shares_of_fine_tuned_and_of_zero_shot_for_the_control():
    drawn = rows(measured(), {"mnist": 10, "shapes": 4}, "normalized", "shapes")
    assert drawn.edited == pytest.approx((0.625, 0.625, 0.5))
    assert drawn.fine_tuned[0] == pytest.approx(1.0)
    assert np.isnan(drawn.fine_tuned[2])


def test_every_kind_of_change_has_its_name():
    predicted, zero_shot = np.array([0, 0, 1, 2, 2, -1]), np.array([0, 1, 0, 1, 2, 0])
    labels = np.array([0, 0, 0, 0, 0, 0])
    assert changes(predicted, zero_shot, labels) == [
        "right",
        "became_right",
        "became_wrong",
        "other_wrong",
        "wrong",
        None,
    ]


def test_tiles_say_what_each_label_was_before():
    shown = tiles(measured(), "mnist", slice(0, 3), np.array([0, 1, -1, 0]))
    assert shown == [
        [0, 0.9, "became_right", 0],
        [0, 0.8, "became_wrong", 1],
        [2, 0.7, "other_wrong", -1],
    ]


def test_tiles_of_images_not_reached_yet_are_unknown():
    assert tiles(measured(), "shapes", slice(1, 4), None) == [
        [0, 0.4, "became_wrong", -1],
        None,
        None,
    ]


def test_counts_are_over_all_measured_images_of_the_task():
    said = dict(count_sentences(measured(), "mnist", np.array([0, 1, 2, 0])))
    assert said["became_right"] == "1 became right"
    assert said["became_wrong"] == "1 became wrong"
    texts = [text for _, text in count_sentences(measured(), "mnist", np.array([0, 1, 2, 0]))]
    assert "1 just flipped" in texts
    assert "against zero-shot, of 4 images" in texts


def test_the_number_of_images_behind_the_figures_is_said():
    assert resolution([16, 16], [1000, 1000], False) == "16 of 1,000 test images a task…"
    assert resolution([400, 900], [400, 900], True) == "all 400–900 test images a task"


def test_pages_cover_all_images_and_numbers_beyond_the_last_page_give_the_last():
    images = np.zeros((100, 32, 32, 3), np.uint8)
    first, last = page_of("t", images, np.arange(100), 0), page_of("t", images, np.arange(100), 9)
    assert (first.where, last.where) == ("1–48 of 100", "97–100 of 100")
    assert (last.number, last.pages, last.labels) == (2, 3, [96, 97, 98, 99])
    assert first.sprite.startswith("data:image/png;base64,")
    assert COLUMNS > 1


def test_a_task_without_images_has_one_empty_page():
    page = page_of("t", np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, int), 0)
    assert (page.labels, page.pages, page.where) == ([], 1, "no images")
