"""Layer schedules follow LiNeS, and names find their layer by an anchored pattern."""

import pytest

import explorer as ex


@pytest.mark.parametrize("n_layers", [2, 6, 12])
def test_lines_rises_linearly_from_alpha_to_alpha_plus_beta(n_layers):
    schedule = ex.lines(0.1, 0.9)
    for block in range(1, n_layers + 1):  # the paper counts blocks from 1
        expected = 0.1 + 0.9 * (block - 1) / (n_layers - 1)
        assert schedule.scale(block - 1, n_layers) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    "key",
    ["class_embedding", "positional_embedding", "conv1.weight", "ln_pre.bias", "ln_post.weight",
     "proj"],
)  # fmt: skip
def test_lines_gives_alpha_to_everything_outside_the_blocks(key):
    assert ex.lines(0.3, 0.5).scale_of(key, 12) == 0.3


def test_lines_by_depth_lets_ln_post_and_proj_follow_the_last_block():
    schedule = ex.lines(0.3, 0.5, outside="depth")
    assert schedule.scale_of("proj", 12) == schedule.scale_of("ln_post.bias", 12) == 0.8
    assert schedule.scale_of("conv1.weight", 12) == 0.3


def test_a_single_block_gets_alpha():
    assert ex.lines(0.3, 0.5).scale(0, 1) == 0.3


def test_constant_is_the_same_everywhere():
    schedule = ex.constant(0.7)
    assert {schedule.scale(layer, 6) for layer in [None, *range(6)]} == {0.7}


def test_the_layer_of_a_key_is_anchored_at_resblocks():
    assert ex.layer_of("transformer.resblocks.11.mlp.c_fc.weight", 12) == 11
    assert ex.layer_of("transformer.resblocks.1.attn.in_proj_weight", 12) == 1
    assert ex.layer_of("conv1.weight", 12) is None
    assert ex.layer_of("stem.1.norm.3.weight", 12) is None
    assert ex.layer_of("proj", 12) is None


def test_a_key_beyond_the_last_block_is_an_error():
    with pytest.raises(ex.RecipeError, match=r"block 13.*has 12 blocks"):
        ex.layer_of("transformer.resblocks.12.ln_1.weight", 12)


@pytest.mark.parametrize(
    "schedule", [ex.lines(0.25, -1e-9), ex.lines(1, 2, "depth"), ex.constant(3)]
)
def test_schedules_survive_their_text_data_and_python_forms(schedule):
    assert ex.Schedule.from_text(schedule.to_text()) == schedule
    assert ex.Schedule.from_data(schedule.to_data()) == schedule
    assert eval(schedule.to_python(), {"ex": ex}) == schedule


@pytest.mark.parametrize("numbers", [("a", 1), (float("nan"), 1), (1, float("inf")), (None, 0)])
def test_a_schedule_takes_finite_numbers_only(numbers):
    with pytest.raises(ex.RecipeError, match="number"):
        ex.lines(*numbers)


def test_an_unknown_treatment_of_the_outside_is_refused():
    with pytest.raises(ex.RecipeError, match="'alpha' or by 'depth'"):
        ex.lines(0.1, 0.9, outside="beta")
