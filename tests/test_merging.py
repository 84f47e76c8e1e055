"""Merging: the plain dictionary merge, and the resident flat buffers that must equal it."""

import pytest
import torch

import explorer as ex
from explorer.compute.cell_weights import CellWeights
from explorer.compute.resident import MAX_MOVES, EditedWeights, FlatLayout, ResidentWeights
from explorer.editing import methods

SCHEDULES = [
    None,
    ex.constant(0.5),
    ex.lines(0.2, 0.8),
    ex.lines(0.2, 0.8, outside="depth"),
    ex.inverse_lines(0.2, 0.8),
    ex.shuffled_lines(0.2, 0.8, seed=1),
    ex.piecewise([(0, 0.3), (0.4, -0.1), (1, 1.2)], outside="depth"),
    ex.per_layer([0.1, 0.5, -0.3], outside=0.7),
]


@pytest.fixture(scope="module")
def vectors(tiny_model):
    return {task: tiny_model.task_vector(task) for task in tiny_model.tasks}


@pytest.fixture(scope="module")
def resident(tiny_model, vectors):
    return ResidentWeights(tiny_model.base, vectors, torch.device("cpu"))


def by_hand(base, vectors, coefficients, schedule) -> dict[str, torch.Tensor]:
    """theta_0 + sum_t c_t s(key) tau_t in float64, one parameter at a time."""
    merged = {}
    for key, tensor in base.items():
        total = tensor.double().clone()
        scale = 1.0 if schedule is None else schedule.scale_of(key, 3)
        for task, c in coefficients.items():
            total += c * scale * vectors[task][key].double()
        merged[key] = total
    return merged


def assert_close(found, expected, tolerance=2e-6):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key].double(), tensor, rtol=0, atol=tolerance)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize(
    "coefficients",
    [
        {},
        {"digits": 1.0},
        {"digits": 0.4, "letters": -0.3},
        {"digits": 1, "letters": 2, "hearts": 3},
    ],
)
def test_every_merge_equals_the_one_by_hand(tiny_model, vectors, resident, coefficients, schedule):
    expected = by_hand(tiny_model.base, vectors, coefficients, schedule)
    recipe = ex.Recipe(coefficients=coefficients, schedule=schedule)
    assert_close(ex.merge(tiny_model.base, vectors, recipe), expected)
    edited = EditedWeights(resident)
    edited.set(coefficients, schedule)
    assert_close(edited.named(), expected)
    edited.merge(coefficients, schedule)
    assert_close(edited.named(), expected)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_thousand_moves_end_where_a_fresh_merge_begins(resident, schedule):
    generator = torch.Generator().manual_seed(0)
    moved, fresh = EditedWeights(resident), EditedWeights(resident)
    moved.merge({}, schedule)
    position = dict.fromkeys(resident.tasks, 0.0)
    for step in range(1000):
        task = resident.tasks[step % len(resident.tasks)]
        delta = float(torch.rand((), generator=generator)) - 0.5
        position[task] += delta
        moved.move(task, delta)
    fresh.merge(position, schedule)
    torch.testing.assert_close(moved.flat, fresh.flat, rtol=0, atol=1e-5)


def test_dragging_back_to_zero_gives_exactly_the_base_after_the_bound_on_moves(resident):
    edited = EditedWeights(resident)
    for step in range(MAX_MOVES + 1):
        edited.set({"digits": 0.01 * (step + 1)})
    edited.merge({})
    assert torch.equal(edited.flat, resident.theta0)


def test_many_small_sets_stay_close_to_the_merge_by_hand(tiny_model, vectors, resident):
    edited = EditedWeights(resident)
    for step in range(300):
        coefficients = {"digits": 0.01 * (step % 100), "hearts": 0.3 if step % 7 else -0.2}
        edited.set(coefficients)
    assert_close(edited.named(), by_hand(tiny_model.base, vectors, coefficients, None), 1e-5)


def test_changing_only_the_schedule_changes_the_weights(tiny_model, vectors, resident):
    edited = EditedWeights(resident)
    for schedule in [*SCHEDULES, None]:
        edited.set({"letters": 0.7}, schedule)
        assert_close(edited.named(), by_hand(tiny_model.base, vectors, {"letters": 0.7}, schedule))


def test_the_tower_sees_a_move_without_being_touched(resident):
    edited = EditedWeights(resident)
    view = edited.named()["proj"]
    before = view.clone()
    edited.move("digits", 0.5)
    torch.testing.assert_close(view, before + 0.5 * resident.vector("digits")["proj"])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_cell_of_a_plane_equals_the_merge_under_every_schedule(tiny_model, vectors, schedule):
    recipe = ex.Recipe(coefficients={"digits": 1, "hearts": 1}, schedule=schedule)
    cells = CellWeights(tiny_model, recipe)
    for a1, a2 in [(0.5, -1.0), (0.5, 2.0), (-0.3, 0.0)]:
        cells.set(a1, a2)
        c = {"digits": a1, "hearts": a2}
        assert_close(cells.named(), by_hand(tiny_model.base, vectors, c, schedule))


def test_the_flat_buffer_is_ordered_by_depth_and_covers_every_parameter_once(tiny_model):
    layout = FlatLayout.of(tiny_model.base)
    assert [s.layer for s in layout.segments] == [None, 0, 1, 2, None]
    assert [s.after for s in layout.segments] == [False] * 4 + [True]
    assert layout.segments[0].start == 0
    assert layout.segments[-1].stop == layout.size
    flat = torch.arange(layout.size)
    seen = torch.cat([view.flatten() for view in layout.views(flat).values()])
    assert len(seen.unique()) == len(seen) == sum(t.numel() for t in tiny_model.base.values())


def test_a_recipe_for_a_task_without_vector_is_refused_with_the_nearest_name(tiny_model, vectors):
    with pytest.raises(ex.UnknownNameError, match=r"'digit'.*'digits'"):
        ex.merge(tiny_model.base, vectors, ex.Recipe(coefficients={"digit": 1}))
    with pytest.raises(ex.UnknownNameError, match=r"'digit'.*'digits'"):
        tiny_model.engine().set_recipe(ex.Recipe(coefficients={"digit": 1}))


def test_an_unknown_method_is_refused_with_the_nearest_name(tiny_model, vectors):
    recipe = ex.Recipe(coefficients={"digits": 1}, method="task_aritmetic")
    with pytest.raises(ex.UnknownNameError, match="task_arithmetic"):
        ex.merge(tiny_model.base, vectors, recipe)


def test_an_option_that_the_method_does_not_have_is_refused(tiny_model, vectors):
    recipe = ex.Recipe(coefficients={"digits": 1}, options={"k": 20})
    with pytest.raises(ex.RecipeError, match=r"task_arithmetic.*'k'"):
        ex.merge(tiny_model.base, vectors, recipe)


def test_a_linearised_recipe_has_no_merged_weights(tiny_model, vectors):
    with pytest.raises(ex.RecipeError, match=r"ex.accuracy"):
        ex.merge(tiny_model.base, vectors, ex.Recipe(coefficients={"digits": 1}, space="tangent"))


def test_merging_does_not_touch_its_inputs(tiny_model, vectors):
    before = {key: tensor.clone() for key, tensor in tiny_model.base.items()}
    merged = ex.merge(tiny_model.base, vectors, ex.Recipe())
    merged["proj"].zero_()
    assert all(torch.equal(before[key], tiny_model.base[key]) for key in before)


def test_merging_methods_tell_their_signature_and_reference():
    method = ex.merging_methods()["task_arithmetic"]
    assert str(method.signature) == "()"
    assert "Ilharco" in method.reference
    assert "weighted sum" in method.summary
    assert "task_arithmetic()" in repr(method)


def test_a_new_method_is_one_function_and_the_engine_follows_it(tiny_model, vectors, monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", dict(methods._METHODS))

    @ex.merging_method(reference="this test")
    def loudest(vectors, coefficients, power: float = 2.0):
        """Only the vector with the largest coefficient, to a power."""
        task = max(coefficients, key=coefficients.get)
        return coefficients[task] ** power * vectors[task]

    assert str(ex.merging_methods()["loudest"].signature) == "(power: float = 2.0)"
    squared = ex.Recipe(coefficients={"digits": 0.5, "letters": 0.2}, method="loudest")
    engine = tiny_model.engine()
    for recipe, c in [(squared, 0.25), (squared.replace(options={"power": 1.0}), 0.5)]:
        expected = by_hand(tiny_model.base, vectors, {"digits": c}, None)
        assert_close(ex.merge(tiny_model.base, vectors, recipe), expected)
        engine.set_recipe(recipe)
        assert_close(engine.named(), expected)
    engine.set_recipe(ex.Recipe(coefficients={"digits": 0.5}))
    assert_close(engine.named(), by_hand(tiny_model.base, vectors, {"digits": 0.5}, None))
