"""Layer schedules follow LiNeS, and names find their layer by an anchored pattern."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import explorer as ex
from explorer.compute import references
from explorer.compute.engine import ImageRange
from explorer.editing.layers import layer_name, lies_after_blocks


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


numbers = st.floats(-1e6, 1e6)
layouts = st.sampled_from(["alpha", "depth"])


@st.composite
def schedules(draw):
    """Any schedule."""
    kind = draw(st.sampled_from(["constant", "lines", "inverse", "shuffled", "points", "layers"]))
    alpha, beta, outside = draw(numbers), draw(numbers), draw(layouts)
    if kind == "constant":
        return ex.constant(alpha)
    if kind == "lines":
        return ex.lines(alpha, beta, outside)
    if kind == "inverse":
        return ex.inverse_lines(alpha, beta, outside)
    if kind == "shuffled":
        return ex.shuffled_lines(alpha, beta, draw(st.integers(0, 2**31)), outside)
    if kind == "layers":
        drawn = draw(st.lists(numbers, min_size=1, max_size=24))
        return ex.per_layer(drawn, alpha, outside)
    depths = draw(st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True))
    return ex.piecewise([(depth, draw(numbers)) for depth in sorted(depths)], outside)


@given(schedules())
def test_schedules_survive_their_text_data_and_python_forms(schedule):
    assert ex.Schedule.from_text(schedule.to_text()) == schedule
    assert ex.Schedule.from_data(schedule.to_data()) == schedule
    assert eval(schedule.to_python(), {"ex": ex}) == schedule
    recipe = ex.Recipe(coefficients={"mnist": 0.5}, schedule=schedule)
    assert ex.Recipe.from_url(recipe.to_url()) == recipe
    assert ex.Recipe.from_json(recipe.to_json()) == recipe
    assert hash(ex.Recipe.from_json(recipe.to_json())) == hash(recipe)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (ex.lines(0.1, 0.9), "lines:0.1,0.9"),
        (ex.lines(0.1, 0.9, "depth"), "lines:0.1,0.9,depth"),
        (ex.inverse_lines(0.1, 0.9), "inverse_lines:0.1,0.9"),
        (ex.shuffled_lines(0.1, 0.9, seed=3), "shuffled_lines:0.1,0.9,3"),
        (ex.piecewise([(0, 0.1), (0.5, 0.2), (1, 1)]), "piecewise:0.0:0.1,0.5:0.2,1.0:1.0"),
        (ex.per_layer([0.2, 0.8], outside=0.1), "per_layer:0.2,0.8,outside:0.1"),
        (ex.per_layer([0.2, 0.8], 0.1, "depth"), "per_layer:0.2,0.8,outside:0.1,depth"),
    ],
    ids=str,
)
def test_a_link_shows_the_schedule_as_a_person_would_write_it(schedule, text):
    link = ex.Recipe(coefficients={"mnist": 0.5}, schedule=schedule).to_url()
    assert link == f"base=glyphs&mnist=0.5&schedule={text}"


@pytest.mark.parametrize("numbers", [("a", 1), (float("nan"), 1), (1, float("inf")), (None, 0)])
def test_a_schedule_takes_finite_numbers_only(numbers):
    with pytest.raises(ex.RecipeError, match="number"):
        ex.lines(*numbers)


def test_an_unknown_treatment_of_the_outside_is_refused():
    with pytest.raises(ex.RecipeError, match="'alpha' or by 'depth'"):
        ex.lines(0.1, 0.9, outside="beta")


def test_an_unknown_kind_of_schedule_is_refused_with_the_kinds_there_are():
    with pytest.raises(ex.RecipeError, match=r"no schedule 'waves'.*lines.*per_layer"):
        ex.Schedule("waves", (1.0,))
    with pytest.raises(ex.RecipeError, match="is written as"):
        ex.Schedule.from_data({"kind": ["lines"]})


@pytest.mark.parametrize(
    "text",
    ["lines:0.1", "lines:", "constant:1,depth,2", "shuffled_lines:1,2,0.5", "shuffled_lines:1,2,-3",
     "piecewise:", "piecewise:0.5", "piecewise:0:1:2", "piecewise:0:a", "piecewise:0:1,0:2",
     "piecewise:0.5:1,0.2:2", "piecewise:-0.1:1", "piecewise:0:1,1.5:2", "piecewise:0:nan",
     "per_layer:0.2,0.8", "per_layer:outside:0.1", "per_layer:1,x,outside:0.1", "per_layer:",
     "depth"],
)  # fmt: skip
def test_a_text_that_is_no_schedule_is_refused_in_a_sentence(text):
    with pytest.raises(ex.RecipeError, match=r"\.$"):
        ex.Schedule.from_text(text)


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "piecewise"}, {"kind": "piecewise", "points": 3},
        {"kind": "piecewise", "points": [1]}, {"kind": "piecewise", "points": [[0, None]]},
        {"kind": "per_layer", "values": "123", "outside": 1}, {"kind": "per_layer", "values": [1]},
        {"kind": "lines", "alpha": 1, "beta": 2, "gamma": 3},
        {"kind": "lines", "alpha": 1, "beta": 2, "outside": ["depth"]},
    ],
)  # fmt: skip
def test_data_that_is_no_schedule_is_refused_in_a_sentence(data):
    with pytest.raises(ex.RecipeError, match=r"\.$"):
        ex.Schedule.from_data(data)


# --- the controls and the drawn ones -------------------------------------------------------------


def test_inverse_lines_is_lines_with_its_blocks_reversed():
    up, down = ex.lines(0.1, 0.9), ex.inverse_lines(0.1, 0.9)
    assert [down.scale(i, 12) for i in range(12)] == [up.scale(11 - i, 12) for i in range(12)]
    assert down.scale_of("conv1.weight", 12) == down.scale_of("proj", 12) == 0.1
    assert ex.inverse_lines(0.1, 0.9, "depth").scale_of("proj", 12) == 0.1
    assert down.scale(0, 1) == 0.1


def test_shuffled_lines_has_the_factors_of_lines_in_an_order_of_its_seed():
    up = [ex.lines(0.1, 0.9).scale(i, 12) for i in range(12)]
    orders = [
        [ex.shuffled_lines(0.1, 0.9, seed).scale(i, 12) for i in range(12)] for seed in range(4)
    ]
    assert all(sorted(order) == up for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert ex.shuffled_lines(0.1, 0.9, 2).scale_of("proj", 12) == 0.1
    places = [round(ex.shuffled_lines(0, 11, 0).scale(i, 12)) for i in range(12)]
    assert places == [3, 7, 5, 2, 8, 11, 4, 9, 1, 6, 0, 10]  # on every machine


def test_piecewise_goes_straight_from_point_to_point_and_stays_flat_beyond():
    schedule = ex.piecewise([(0.25, 0.0), (0.5, 1.0), (0.75, -1.0)])
    found = [schedule.scale(i, 9) for i in range(9)]
    assert found == [0.0, 0.0, 0.0, 0.5, 1.0, 0.0, -1.0, -1.0, -1.0]
    assert schedule.scale_of("conv1.weight", 9) == schedule.scale_of("proj", 9) == 0.0
    assert ex.piecewise([(0, 0.2), (1, 0.7)], "depth").scale_of("proj", 9) == 0.7
    assert ex.piecewise([(0, 0.2), (1, 0.7)], "depth").scale_of("conv1.weight", 9) == 0.2
    assert ex.piecewise([(0.5, 0.3)]).scale(2, 3) == 0.3


def test_two_points_at_the_ends_are_lines():
    drawn, lines = ex.piecewise([(0, 0.1), (1, 1.0)]), ex.lines(0.1, 0.9)
    for layer in (None, *range(24)):
        assert drawn.scale(layer, 24) == pytest.approx(lines.scale(layer, 24), abs=1e-15)


def test_per_layer_gives_each_block_its_number_and_the_outside_its_own():
    schedule = ex.per_layer([0.1, 0.5, 0.9], outside=0.3)
    assert [schedule.scale(i, 3) for i in range(3)] == [0.1, 0.5, 0.9]
    assert schedule.scale_of("conv1.weight", 3) == schedule.scale_of("proj", 3) == 0.3
    assert ex.per_layer([0.1, 0.5]).scale_of("proj", 2) == 0.1


def test_per_layer_by_depth_lets_ln_post_and_proj_follow_the_last_block():
    schedule = ex.per_layer([0.1, 0.2, 0.9], outside=0.4, layout="depth")
    assert schedule.scale(None, 3) == 0.4
    assert schedule.scale(None, 3, after=True) == 0.9


def test_numbers_for_another_depth_are_refused():
    with pytest.raises(ex.RecipeError, match="numbers for 3 blocks, but the tower has 12"):
        ex.per_layer([0.1, 0.5, 0.9]).scale(0, 12)
    with pytest.raises(ex.RecipeError, match="Block 13"):
        ex.piecewise([(0, 1)]).scale(12, 12)


@given(schedules(), st.integers(1, 24))
def test_a_schedule_is_the_sum_of_its_fixed_patterns(schedule, n):
    if schedule.kind == "per_layer":
        n = len(schedule.parameters) - 1
    terms = schedule.terms(n)
    assert len({pattern for pattern, _ in terms}) == len(terms)
    for layer, after in [(None, False), (None, True), *((i, False) for i in range(n))]:
        total = sum(w * p.at(layer, n, after=after) for p, w in terms)
        assert total == schedule.scale(layer, n, after=after)


def test_patterns_do_not_depend_on_the_numbers_of_a_schedule():
    def patterns(schedule):
        return [pattern for pattern, _ in schedule.terms(6)]

    assert patterns(ex.lines(0.1, 0.9)) == patterns(ex.lines(3, -2))
    assert len(patterns(ex.lines(0.1, 0.9))) == 2
    assert len(patterns(ex.constant(2))) == 1
    drawn = patterns(ex.piecewise([(0, 1), (1, 2)]))
    assert drawn == patterns(ex.piecewise([(0.5, 3)], "depth"))
    assert drawn == patterns(ex.per_layer([1, 2, 3, 4, 5, 6], outside=0))
    assert len(drawn) == 8


DRAWN = [
    ex.inverse_lines(0.2, 0.6),
    ex.shuffled_lines(0.2, 0.6, 5, "depth"),
    ex.piecewise([(0, 0.3), (0.7, -0.2), (1, 0.9)], "depth"),
    ex.per_layer([0.1, 0.0, 0.9], outside=0.4),
]


@pytest.mark.parametrize("schedule", DRAWN, ids=ex.Schedule.to_text)
def test_the_linearised_spaces_are_exact_under_every_schedule(tiny_model, schedule):
    c = {"digits": 0.7, "hearts": -0.4}
    images = ImageRange("letters", "test", 2, 6)
    recipe = ex.Recipe(coefficients=c, space="tangent", schedule=schedule)
    found = tiny_model.engine().features(recipe, [images])[0]
    edit = sum(x * tiny_model.task_vector(t, "tangent") for t, x in c.items()).scaled(schedule)
    linear = tiny_model.linear_features
    tower, base = linear._base_tower()
    store = tiny_model.image_store
    x = store.normalised(store.pixels("letters", "test")[2:6], torch.float32)
    features, derivative = references.jacobian_product(tower, base, edit, x)
    torch.testing.assert_close(found, features + derivative, rtol=1e-4, atol=1e-5)


def test_a_drawn_schedule_needs_one_product_a_depth_and_then_none(tiny_folder, monkeypatch):
    model = ex.open_model(tiny_folder, device="cpu")
    done = []
    real = references.jacobian_product

    def counting(tower, base, delta, images):
        done.append({layer_name(key, 3) for key in delta})
        return real(tower, base, delta, images)

    monkeypatch.setattr(references, "jacobian_product", counting)
    images = ImageRange("letters", "test", 0, 4)

    def features(schedule):
        recipe = ex.Recipe(coefficients={"digits": 0.7}, space="posthoc", schedule=schedule)
        return model.engine().features(recipe, [images])[0]

    features(ex.per_layer([0.1, 0.2, 0.3], outside=0.4))
    assert [sorted(depths) for depths in done] == [
        ["input"], ["block 1"], ["block 2"], ["block 3"], ["output"],
    ]  # fmt: skip
    features(ex.per_layer([5, 4, 3], outside=2))
    features(ex.piecewise([(0, 1), (0.3, 2), (1, -1)], "depth"))
    assert len(done) == 5
    features(ex.lines(0.1, 0.9))
    features(ex.lines(0.5, -0.9))
    features(None)
    assert len(done) == 7


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("layer1.0.conv1.weight", 0),  # a ResNet's stages count from 1
        ("layer4.2.downsample.1.running_var", 3),
        ("visual.layer3.1.bn2.bias", 2),
        ("trunk.layer2.0.conv1.weight", 1),
        ("trunk.blocks.3.mlp.fc1.weight", 3),  # timm ViT, EVA, SigLIP
        ("trunk.stages.2.blocks.1.gamma", 2),  # timm ConvNeXt: by stages, not by blocks
        ("trunk.stages.1.downsample.0.weight", 1),
        ("trunk.layers.0.blocks.1.norm1.weight", 0),  # timm Swin
        ("trunk.patch_embed.backbone.stages.0.0.pre_norm.weight", None),  # ViTamin's stem
        ("encoder.layers.3.self_attn.q_proj.weight", 3),  # HF
        ("vision_model.encoder.layers.0.mlp.fc2.bias", 0),
        ("model.visual.transformer.resblocks.2.attn.in_proj_bias", 2),
        ("trunk.stem.1.weight", None),
        ("layer0.conv1.weight", None),
        ("trunk.head.norm.weight", None),
        ("bn1.running_mean", None),
        ("attnpool.positional_embedding", None),
        ("layer_norm.1.weight", None),
        ("post_layernorm.weight", None),
    ],
)
def test_names_of_every_published_layout_find_their_layer(key, layer):
    assert ex.layer_of(key, 4) == layer


@pytest.mark.parametrize(
    ("key", "after"),
    [
        ("ln_post.weight", True), ("proj", True), ("attnpool.c_proj.weight", True),
        ("attn_pool.query", True), ("head.proj.weight", True), ("trunk.norm.weight", True),
        ("trunk.fc_norm.bias", True), ("trunk.head.weight", True), ("post_layernorm.bias", True),
        ("visual_projection.weight", True), ("visual.proj", True), ("conv1.weight", False),
        ("trunk.norm_pre.weight", False), ("trunk.patch_embed.proj.weight", False),
        ("trunk.blocks.1.attn.proj.weight", False), ("class_embedding", False),
        ("transformer.resblocks.3.mlp.c_proj.weight", False), ("embeddings.class_embedding", False),
    ],
)  # fmt: skip
def test_what_comes_after_the_blocks_is_known_in_every_layout(key, after):
    assert lies_after_blocks(key) is after


def published_keys(n_blocks: int) -> list[str]:
    """The image tower of ViT-B/32 (12 blocks) or ViT-L/14 (24) as the published files name it."""
    parts = ["attn.in_proj_weight", "attn.in_proj_bias"]
    for module in ("ln_1", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"):
        parts += [f"{module}.weight", f"{module}.bias"]
    outside = ["class_embedding", "positional_embedding", "proj", "conv1.weight",
               "ln_pre.weight", "ln_pre.bias", "ln_post.weight", "ln_post.bias"]  # fmt: skip
    blocks = [f"transformer.resblocks.{i}.{part}" for i in range(n_blocks) for part in parts]
    return [*outside, *blocks]


@pytest.mark.parametrize(("n_blocks", "n_tensors"), [(12, 152), (24, 296)])
@pytest.mark.parametrize(("alpha", "beta"), [(0.125, 0.7), (1.0, 0.0), (0.0, 1.0)])
def test_lines_gives_the_authors_numbers_key_by_key(n_blocks, n_tensors, alpha, beta):
    keys = published_keys(n_blocks)
    assert len(keys) == n_tensors
    vector = ex.TaskVector({key: torch.ones(2, dtype=torch.float64) for key in keys})
    scaled = vector.scaled(ex.lines(alpha, beta))
    for key in keys:
        # The authors' rule: the first i with ".i." in the name; alpha where there is none.
        blocks = [i for i in range(n_blocks) if f".{i}." in key]
        expected = alpha + beta * (blocks[0] / (n_blocks - 1)) if blocks else alpha
        assert scaled[key].tolist() == pytest.approx([expected] * 2, abs=1e-15), key
