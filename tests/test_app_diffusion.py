"""The diffusion lens without a browser: pure parts, links, files, messages in, pictures out."""

import asyncio
import base64
import io
import subprocess
import sys

import numpy as np
import pytest
import traitlets
import xarray as xr
from PIL import Image
from test_diffusion import small_dit, small_model, small_unet, small_vae

import explorer as ex
from explorer.app import links as app_links
from explorer.app import rules, theme
from explorer.app.diffusion import links, opened, packing, runs
from explorer.app.diffusion.figure import noised
from explorer.app.diffusion.lens import DiffusionLens
from explorer.app.diffusion.palette import SUBJECTS
from explorer.app.diffusion.setting import KINDS, METHODS, Setting, Spec, Subject
from explorer.app.diffusion.state import DiffusionState
from explorer.app.diffusion.tracks import sheet, sheet_columns, to_pictures
from explorer.app.tree.palette import CONTROL_LINES, depth_colours
from explorer.checkpoints import zoo
from explorer.diffusion.model import Diffusion
from explorer.diffusion.samplers import SAMPLERS
from explorer.diffusion.tiles import Tiles
from explorer.measures import change_field

QUICK = "view.lens=diffusion&view.n=4,10,1&view.level=0.6"
SIDE = 8


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 120))


def settle(lens: DiffusionLens) -> None:
    """Until all that belongs on screen is computed."""
    run(lens.settled())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder in diffusers' layout, with held-out pictures."""
    from diffusers import DDPMScheduler

    path = tmp_path_factory.mktemp("diffusion") / "small"
    small_unet(3).save_pretrained(path / "unet")
    DDPMScheduler().save_pretrained(path / "scheduler")
    pictures = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    np.savez(path / "examples.npz", images=pictures)
    return path


@pytest.fixture(scope="module")
def lens(folder) -> DiffusionLens:
    """A lens that has computed everything on screen; tests leave its setting as it is."""
    made = DiffusionLens(folder, QUICK)
    made.display()
    settle(made)
    return made


def fresh(folder, query: str = QUICK) -> DiffusionLens:
    made = DiffusionLens(folder, query)
    made.display()
    return made


def png(mode: str = "RGB", size=(20, 30), **save) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG", **save)
    return out.getvalue()


# Choices


def test_the_choices_are_those_of_the_computation():
    assert set(METHODS) == set(SAMPLERS)
    assert set(KINDS) == set(change_field.KINDS)
    assert "preview" in METHODS["ddim_preview"], "eta = 0 draws no samples, and says so"


def test_importing_the_lens_loads_neither_torch_nor_diffusers():
    program = (
        "import explorer as ex; ex.DiffusionLens; import sys;"
        "print(*({'torch', 'diffusers', 'open_clip'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_levels_are_whole_numbers_of_steps_and_a_drag_is_one_step_back():
    state = DiffusionState(Setting(steps=20))
    before = state.setting.level
    for level in (0.52, 0.56, 0.61):
        state.set_level(level, done=False)
    state.set_level(0.61)
    assert state.setting.level == 0.6
    state.undo()
    assert state.setting.level == before


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.set_level(1.5), "between 0 and 1"),
        (lambda state: state.set_level("x"), "between 0 and 1"),
        (lambda state: state.set_counts(samples=1), "from 2 to 256"),
        (lambda state: state.set_counts(steps=5000), "from 2 to 1,000"),
        (lambda state: state.set_counts(samples=256, data=64), "at most 1,024"),
        (lambda state: state.set_method("ddpn"), "Did you mean 'ddpm'"),
        (lambda state: state.choose_picture("../etc"), "number of a held-out one"),
        (lambda state: state.choose_model("  "), "A model is a name"),
        (lambda state: state.choose_model("tiles", 1), "no side 1"),
        (lambda state: state.look_at("nowhere"), "no view"),
        (lambda state: state.set_seed(-1), "The seed"),
    ],
)
def test_a_value_that_makes_no_sense_is_a_sentence_and_changes_nothing(change, says):
    state = DiffusionState()
    before = state.setting
    with pytest.raises(ex.ExplorerError, match=says):
        change(state)
    assert state.setting == before


# Links


def test_a_link_restores_everything_that_it_can_hold():
    state = DiffusionState(Setting(subjects=(Subject("tiles"),)))
    state.choose_picture("3")
    state.compare(True)
    state.choose_model("some/folder with spaces", 1)
    state.set_counts(8, 20, 2)
    state.set_level(0.35)
    state.set_method("dpm_sde")
    state.set_kind("clip")
    state.set_seed(7)
    state.choose_variant(5)
    state.set_opacity(0.25)
    state.look_at("filmstrip")
    state.set_task("letters")
    again = DiffusionState()
    assert links.apply(app_links.read(links.to_query(state.setting)), again) == []
    assert again.setting == state.setting


def test_a_link_says_what_it_cannot_restore():
    subjects = (Subject("tiles", "upload-0123456789ab"), Subject(run="abc"))
    query = links.to_query(Setting(subjects=subjects))
    found = links.apply(app_links.read(query), DiffusionState())
    assert len(found) == 2
    assert "upload it again" in found[0]
    assert "open its file" in found[1]


def test_a_link_with_mistakes_is_followed_as_far_as_it_makes_sense(folder):
    made = fresh(folder, "view.level=9&view.seed=4&view.kind=colour&view.nonsense=1")
    assert made.state.setting.seed == 4
    assert len(made.sentences) == 3


# What is computed


def test_the_lens_shows_what_forward_backward_computes(lens, folder):
    p = ex.open_diffusion(folder)
    levels = sorted({*np.linspace(0.1, 1, 10), 0.6})
    expected = ex.forward_backward(p, [p.examples[0]], levels, 4, 10, 0).result()
    np.testing.assert_array_equal(lens.result.level, expected.level)
    np.testing.assert_array_equal(lens.result.image, expected.image)
    chunks = ex.chunk_statistics(ex.change_field(expected, kind="blocks"))
    ((_, measured),) = lens.measured
    for name in ("susceptibility", "correlation_length", "changed", "relative_correlation"):
        np.testing.assert_allclose(measured.chunks[name], chunks[name])
    assert measured.chunks.attrs["threshold"] == pytest.approx(chunks.attrs["threshold"])


def assert_the_code_computes_what_is_on_screen(lens: DiffusionLens) -> dict:
    """Runs the copied Python; what it made, by name."""
    code = lens.to_python()
    assert lens.drawing.toolbar.python == code, "the button copies it as it is now"
    names: dict = {}
    exec(code, names)
    level = lens.state.setting.level
    for number, (_, measured), track in zip(("", "2"), lens.measured, lens.tracks, strict=False):
        chunks = names[f"chunks{number}"]
        np.testing.assert_array_equal(names[f"result{number}"].image, track.dataset().image)
        for name in ("level", "susceptibility", "correlation_length", "block_size"):
            np.testing.assert_allclose(chunks[name], measured.chunks[name])
        assert chunks.attrs["threshold"] == pytest.approx(measured.chunks.attrs["threshold"])
        at, columns = measured.correlation(level)
        here = names[f"here{number}"]
        assert float(here.level) == at
        values = here.relative_correlation.values[1:]
        np.testing.assert_allclose(np.where(values > 0, values, np.nan), columns["correlation"])
        if not track.precomputed:
            shown = names[f"variants{number}"].image.values.reshape(-1, *track.picture.shape)
            variants = track.nearest(level).images
            np.testing.assert_array_equal(shown[: len(variants)], variants)
    return names


def test_the_python_code_computes_the_numbers_on_screen(lens):
    assert_the_code_computes_what_is_on_screen(lens)


def test_the_code_knows_the_levels_that_the_slider_visited(folder):
    made = fresh(folder, "view.n=3,20,1&view.level=0.5")
    settle(made)
    for level in (0.65, 0.25):
        made.move(level)
        settle(made)
    names = assert_the_code_computes_what_is_on_screen(made)
    assert {0.65, 0.25} <= {*names["levels"]}


def test_the_code_computes_a_level_between_the_curves_of_one_picture_as_the_screen_does(folder):
    made = fresh(folder, "view.n=3,20,3&view.level=0.65")
    settle(made)
    names = assert_the_code_computes_what_is_on_screen(made)
    assert 0.65 not in names["levels"]
    assert names["variants"].sizes["datum"] == 1
    assert names["result"].sizes["datum"] == 3


def test_the_code_of_an_upload_a_reopened_run_and_features_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = fresh(folder, "view.n=3,10,2&view.level=0.5")
    data = png()
    (tmp_path / "picture.png").write_bytes(data)
    made.upload("mine.png", data)
    settle(made)
    assert_the_code_computes_what_is_on_screen(made)
    (tmp_path / "run2.nc").write_bytes(made.file("nc"))
    made.state.compare(True)
    made.reopen("run2.nc", (tmp_path / "run2.nc").read_bytes(), 1)
    made.state.look_at("features")
    settle(made)
    names = assert_the_code_computes_what_is_on_screen(made)
    for number, (_, seen) in zip(("", "2"), made.features, strict=True):
        np.testing.assert_allclose(names[f"seen{number}"].similarity, seen.similarity, atol=1e-5)
        np.testing.assert_allclose(names[f"seen{number}"].flipped, seen.flipped)


# Linear RGB as seen without the cones for long, middle or short waves: Machado, Oliveira and
# Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009.
VISIONS = {
    "all cones": np.eye(3),
    "no long": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no middle": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "no short": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def linear(colour: str) -> np.ndarray:
    """Linear RGB, 0 to 1, of "#rrggbb"."""
    channel = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Björn Ottosson's Oklab coordinates of linear RGB; 0.02 apart is just noticeable."""
    lms = [[0.41222, 0.53633, 0.05145], [0.21190, 0.68070, 0.10740], [0.08830, 0.28172, 0.62998]]
    lab = [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    return np.array(lab) @ np.cbrt(np.clip(np.array(lms) @ np.clip(rgb, 0, 1), 0, None))


@pytest.mark.parametrize("vision", VISIONS)
def test_the_two_subjects_and_the_slider_are_told_apart_with_every_colour_vision(vision):
    colours = [oklab(VISIONS[vision] @ linear(c)) for c in (*SUBJECTS, theme.EDITED)]
    second = colours.pop(1)
    assert min(np.linalg.norm(second - colour) for colour in colours) > 0.1


def test_the_second_subjects_colour_has_no_other_meaning_and_shows_on_white_and_on_black():
    meanings = [theme.ZERO_SHOT, theme.FINE_TUNED, theme.EDITED, theme.RIGHT, theme.WRONG]
    meanings += [*CONTROL_LINES.values(), *depth_colours(7)]
    second = linear(SUBJECTS[1])
    apart = [np.linalg.norm(oklab(second) - oklab(linear(colour))) for colour in meanings]
    assert min(apart) > 0.1
    luminance = second @ [0.2126, 0.7152, 0.0722]
    assert 1.05 / (luminance + 0.05) >= 3  # WCAG's least contrast of what is no text
    assert (luminance + 0.05) / (linear("#121212") @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3


def test_the_browsers_noised_picture_is_the_results_x_t(lens):
    (track,) = lens.tracks
    side = packing.side(track)
    z = np.frombuffer(base64.b64decode(side["noise"]), np.int16).reshape(4, SIDE, SIDE, 3)
    x0 = np.frombuffer(base64.b64decode(side["original"]), np.uint8).reshape(SIDE, SIDE, 3)
    for point, row in track.rows.items():
        abar = side["alpha_bar"][point]
        seen = abar**0.5 * (x0 / 127.5 - 1) + (1 - abar) ** 0.5 * z / packing.NOISE_SCALE
        np.testing.assert_allclose(seen, row.data.x_t.values[0, 0], atol=2e-4)


def test_the_browsers_change_map_and_threshold_are_those_of_the_change_field(lens):
    (track,) = lens.tracks
    ((_, measured),) = lens.measured
    change = ex.change_field(lens.result, kind="blocks").change.isel(datum=0).values
    for i, (point, row) in enumerate(sorted(track.rows.items())):
        packed = packing.row(row, measured)
        field = np.frombuffer(base64.b64decode(packed["change"]), np.uint8)
        shown = field.reshape(change[i].shape) / 255 * measured.largest
        np.testing.assert_allclose(shown, change[i], atol=measured.largest / 400)
        assert packed["threshold"] / 255 * measured.largest == pytest.approx(
            measured.chunks.attrs["threshold"]
        )
        assert point == packed["point"]


def test_a_sheet_holds_every_picture_in_its_place():
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    data = base64.b64decode(sheet(images).partition(",")[2])
    board = np.asarray(Image.open(io.BytesIO(data)))
    columns = sheet_columns(7)
    for i, image in enumerate(images):
        y, x = divmod(i, columns)
        np.testing.assert_array_equal(board[4 * y : 4 * y + 4, 5 * x : 5 * x + 5], image)


def test_previews_come_first_and_finished_levels_stay_when_the_slider_moves(folder):
    made, states, progress = fresh(folder), [], []
    show = made.computing._show

    def watch() -> None:
        row = made.tracks[0].nearest(0.6) if made.tracks[0] else None
        states.append(None if row is None else row.preview)
        progress.append(made.computing.progress)
        show()

    made.computing._show = watch
    settle(made)
    assert states[0] is None, "the picture is on screen before any variant is"
    assert states[1] is True
    assert states[-1] is False
    assert progress == sorted(progress)
    assert progress[0] == 0
    assert progress[-1] == 1
    before = made.tracks[0].finished[6]
    made.state.set_level(0.3)
    settle(made)
    assert made.tracks[0].finished[6] is before


def test_a_level_between_the_curves_is_computed_when_the_slider_is_let_go(folder):
    made = fresh(folder, "view.n=3,20,1&view.level=0.5")
    settle(made)
    made.move(0.65, done=False)
    settle(made)
    assert 13 not in made.tracks[0].rows, "not while it is dragged"
    made.move(0.65, done=True)
    settle(made)
    assert made.tracks[0].done(13)


def test_stopping_keeps_what_is_there_and_going_on_completes_it(folder):
    made = fresh(folder, "view.n=4,40,1&view.level=0.2")
    show, seen = made.computing._show, []

    def stop_at_the_first() -> None:
        show()
        seen.append(None)
        if len(seen) == 2:
            made.stop()

    made.computing._show = stop_at_the_first
    settle(made)
    assert not made.complete
    assert made.stopped
    assert made.drawing.notices.action == "go on"
    made.go_on()
    settle(made)
    assert made.complete
    assert made.drawing.notices.action == ""


def test_several_pictures_give_errors_over_pictures(folder):
    made = fresh(folder, "view.n=3,6,3&view.level=0.5")
    settle(made)
    ((_, measured),) = made.measured
    assert measured.chunks.attrs["error_over"] == "pictures with their trajectories"
    assert made.result.sizes["datum"] == 3
    assert "over 3 pictures" in made.drawing.panel.approximate


def test_a_pair_shows_both_pictures_on_the_same_axes(folder):
    made = fresh(folder)
    made.state.compare(True)
    made.state.choose_picture("2", 1)
    settle(made)
    assert [title for title, _ in made.measured] == ["small, picture 0", "small, picture 2"]
    display = made.drawing.displays[0]
    assert [len(source.data["level"]) for source in display.chi.series.sources] == [10, 10]
    made.state.compare(False)
    settle(made)
    assert [len(source.data["level"]) for source in display.chi.series.sources] == [10, 0]


def model_of_tiles() -> Diffusion:
    """A network that knows nothing, with held-out tiles."""
    grammar = ex.hierarchy.Grammar.random(v=4, m=2, s=4, L=2)
    tiles = Tiles(grammar)
    pictures = tiles.render(grammar.sample(3)[-1])
    p = small_model(3)
    return Diffusion("toy", p.unet, p.scheduler, examples=pictures, tiles=tiles)


def test_symbols_are_offered_where_the_model_is_of_tiles(monkeypatch):
    p = model_of_tiles()
    made = DiffusionLens(p, f"{QUICK}&view.kind=symbols")
    made.display()
    settle(made)
    ((_, measured),) = made.measured
    assert measured.kind == "symbols"
    assert {*np.unique(measured.fields[10])} <= {0.0, 1.0}
    assert measured.fields[10].shape == (1, 4, 4, 4)
    monkeypatch.setattr(ex, "open_diffusion", lambda name: {"toy": p}[name])
    assert_the_code_computes_what_is_on_screen(made)


def test_a_pair_of_tiles_and_other_pictures_is_measured_in_one_kind(folder, monkeypatch):
    p = model_of_tiles()
    made = DiffusionLens(p, f"{QUICK}&view.kind=symbols")
    made.display()
    settle(made)
    made.state.compare(True)
    made.state.choose_model(str(folder), 1)
    settle(made)
    assert [measured.kind for _, measured in made.measured] == ["blocks", "blocks"]
    assert made.drawing.panel.values["kind"] == "blocks"
    assert "symbols" not in dict(made.drawing.panel.choices["kind"])
    assert b"symbols" not in made.file("svg"), "the figure's title says what is drawn"
    known = {"toy": p, str(folder): ex.open_diffusion(folder)}
    monkeypatch.setattr(ex, "open_diffusion", known.get)
    assert_the_code_computes_what_is_on_screen(made)
    made.state.compare(False)
    settle(made)
    assert [measured.kind for _, measured in made.measured] == ["symbols"]


def test_a_kind_that_the_model_has_not_becomes_blocks(folder):
    made = fresh(folder, f"{QUICK}&view.kind=symbols")
    settle(made)
    ((_, measured),) = made.measured
    assert measured.kind == "blocks"
    assert made.sentences == []


def test_flips_and_features_are_those_of_depth_similarity(lens):
    lens.state.look_at("features")
    lens.state.set_task("letters")
    settle(lens)
    ((_, seen),) = lens.features
    expected = ex.depth_similarity(lens.result, ex.open_model("glyphs"), "letters")
    np.testing.assert_allclose(seen.similarity, expected.similarity, atol=1e-5)
    np.testing.assert_allclose(seen.flipped, expected.flipped)
    lens.state.look_at("variants")


def test_a_model_of_latents_is_decoded_for_the_screen():
    p = Diffusion("latent", small_dit(4), small_model().scheduler, vae=small_vae())
    made = DiffusionLens(p, "view.n=2,3,1&view.level=0.5")
    made.display()
    made.upload("a.png", png())
    settle(made)
    (track,) = made.tracks
    assert track.noise is None
    row = track.nearest(0.5)
    assert row.noised.shape == row.images.shape
    assert row.noised.dtype == np.uint8


# Pictures and runs that a person brings


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_picture_of_any_mode_can_be_uploaded(folder, mode):
    out = io.BytesIO()
    Image.new(mode, (30, 20)).save(out, "TIFF" if mode == "CMYK" else "PNG")
    made = fresh(folder, "view.n=2,2,1&view.level=0.5")
    made.upload("mine", out.getvalue())
    settle(made)
    assert made.sentences == []
    assert made.tracks[0].picture.shape == (SIDE, SIDE, 3)


def test_an_uploaded_picture_is_turned_as_its_exif_data_say(folder):
    image = Image.new("RGB", (40, 20), "black")
    image.paste("white", (0, 0, 20, 20))  # the left half; turned by 90 degrees it is the upper
    exif = Image.Exif()
    exif[274] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif, quality=95)
    made = fresh(folder, "view.n=2,2,1&view.level=0.5")
    made.upload("photo.jpg", out.getvalue())
    settle(made)
    picture = made.tracks[0].picture.astype(float)
    assert picture[: SIDE // 2 - 1].mean() > 200
    assert picture[SIDE // 2 + 1 :].mean() < 50


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("note.txt", b"no picture at all", "no format that can be read"),
        ("half.png", png(size=(200, 200))[:90], "damaged"),
        ("huge.png", b"0" * 8_000_001, "at most 8 MB"),
        ("empty.png", b"", "no format that can be read"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_in_a_sentence(folder, name, data, says):
    made = fresh(folder)
    before = made.state.setting
    message = {"kind": "upload", "name": name, "data": base64.b64encode(data).decode(), "side": 0}
    made.drawing.actions.panel(message)
    assert says in made.sentences[-1]
    assert name in made.sentences[-1] or "This picture" in made.sentences[-1]
    assert made.state.setting == before


def test_a_file_that_the_browser_kept_back_is_said_to_be_too_large(folder):
    made = fresh(folder)
    made.drawing.actions.panel({"kind": "upload", "name": "film.mov", "size": 9e8, "side": 0})
    assert "film.mov is too large (900.0 MB)" in made.sentences[-1]


def test_on_a_server_for_strangers_no_file_is_taken_and_no_path_opened(folder, monkeypatch):
    made = fresh(folder)
    monkeypatch.setattr(rules, "_rules", rules.WORKSHOP)
    made.drawing.actions.panel({"kind": "upload", "name": "a.png", "data": "", "side": 0})
    assert "Files cannot be loaded" in made.sentences[-1]
    monkeypatch.setattr(opened.SHELF, "offered", frozenset({"glyphs"}))
    with pytest.raises(ex.UnknownNameError, match="diffusion model"):
        opened.open_shared(str(folder))


def test_a_saved_run_opens_again_without_its_model_and_says_so(lens, tmp_path):
    data = lens.file("nc")
    path = tmp_path / "run.nc"
    path.write_bytes(data)
    saved = xr.load_dataset(path, engine="h5netcdf")
    np.testing.assert_array_equal(saved.image, lens.result.image)
    again = DiffusionLens(result=saved)
    again.display()
    settle(again)
    assert again.complete
    assert again.sentences == []
    assert "precomputed" in again.drawing.notices.text
    assert again.tracks[0].precomputed
    ((_, measured),), ((_, first),) = again.measured, lens.measured
    np.testing.assert_allclose(measured.chunks.susceptibility, first.chunks.susceptibility)
    assert "x_t" not in saved
    for old, new in zip(
        lens.tracks[0].finished.values(), again.tracks[0].finished.values(), strict=True
    ):  # the seed gives x_t again
        assert (noised(again.tracks[0], new, 2) == noised(lens.tracks[0], old, 2)).all()


def test_a_run_saved_with_its_noised_pictures_shows_those(lens, tmp_path):
    path = ex.save_result(lens.result, tmp_path / "run.nc")
    again = DiffusionLens(result=ex.open_result(path))
    again.display()
    settle(again)
    row = again.tracks[0].nearest(0.6)
    assert again.tracks[0].noise is None
    np.testing.assert_array_equal(
        row.noised, to_pictures(lens.tracks[0].nearest(0.6).data.x_t[0, 0])
    )


def test_a_run_can_be_opened_beside_a_live_one(lens, folder):
    made = fresh(folder)
    made.state.compare(True)
    made.reopen("run.nc", lens.file("nc"), 1)
    settle(made)
    assert [bool(track.precomputed) for track in made.tracks] == [False, True]
    np.testing.assert_array_equal(made.tracks[1].dataset().image, made.tracks[0].dataset().image)


@pytest.mark.parametrize("data", [b"no NetCDF", b"", png()])
def test_a_file_that_is_no_run_is_refused_in_a_sentence(folder, data):
    made = fresh(folder)
    text = base64.b64encode(data).decode()
    made.drawing.actions.panel({"kind": "reopen", "name": "run.nc", "data": text, "side": 0})
    assert "run.nc" in made.sentences[-1]
    assert made.state.setting.subjects[0].run == ""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: run.assign_attrs(steps="fifty"), "whole number from 1 to 10,000, not 'fifty'"),
        (lambda run: run.assign_attrs(steps=10**12), "whole number from 1 to 10,000"),
        (lambda run: run.assign_attrs(steps=2.5), "whole number"),
        (lambda run: run.assign_attrs(steps=3), "different ones of its 3 steps"),
        (lambda run: run.assign_coords(alpha_bar=("level", ["x"] * 10)), "alpha_bar"),
        (lambda run: run.isel(sample=[0]), "two variants"),
    ],
)
def test_a_run_that_says_nonsense_of_itself_is_refused_in_a_sentence(lens, change, says):
    before = lens.state.setting
    with pytest.raises(ex.ImageError, match=says):
        DiffusionLens(result=change(lens.result))
    assert lens.state.setting == before


def test_a_run_that_unpacks_to_very_much_is_refused_before_it_is_read(lens, monkeypatch):
    data = lens.file("nc")
    monkeypatch.setattr(runs, "LARGEST_UNPACKED", 1000)
    with pytest.raises(ex.CheckpointError, match="unpacks to"):
        lens.reopen("run.nc", data)
    assert lens.state.setting.subjects[0].run == ""


def test_the_slider_of_a_reopened_run_has_the_run_s_steps(lens):
    made = DiffusionLens(result=lens.result)
    made.display()
    settle(made)
    assert made.state.setting.steps == 50
    assert made.drawing.noising.steps == 10
    made.move(0.3)
    assert made.state.setting.level == 0.3
    made.move(0.34)
    assert made.state.setting.level == 0.3, "a whole number of the run's ten steps"


def test_a_level_between_two_steps_goes_up_as_in_the_browser():
    state = DiffusionState(Setting(steps=10))
    state.set_level(0.25)
    assert state.setting.level == 0.3
    assert Spec(Subject(), steps=10).point(0.25) == 3


def test_after_a_reopened_run_the_model_s_pictures_can_be_chosen(lens, folder):
    made = fresh(folder)
    made.reopen("run.nc", lens.file("nc"))
    settle(made)
    made.state.choose_picture("2")
    settle(made)
    assert made.sentences == []
    assert made.state.setting.subjects == (Subject(str(folder), "2"),)
    assert made.complete
    bare = DiffusionState(Setting(subjects=(Subject(run="abc", steps=10),)))
    with pytest.raises(ex.ModelError, match="choose a model"):
        bare.choose_picture("2")


def test_runs_are_forgotten_when_they_hold_too_much_but_not_those_on_screen(lens, folder):
    made = fresh(folder)
    run = lens.result
    made.computing.runs.most_bytes = int(2.5 * runs.check_run(run).nbytes)
    changed = [run.assign(image=run.image.copy(data=run.image.values ^ i)) for i in range(1, 4)]
    path = [ex.save_result(x, folder.parent / f"{i}.nc") for i, x in enumerate(changed)]
    for file in path:
        made.reopen(file.name, file.read_bytes())
        settle(made)
    assert len(made.computing.runs) == 2
    assert {s.subject.run for s in made.computing.tracks} == {*made.computing.runs}
    assert made.state.setting.subjects[0].run in made.computing.runs
    made.state.undo()
    made.state.undo()
    settle(made)
    assert "no longer in memory" in made.sentences[-1]


def test_many_pictures_beside_one_do_not_push_that_one_out(folder):
    made = fresh(folder, "view.n=2,2,1&view.level=0.5")
    made.state.compare(True)
    for side in range(10):
        made.state.set_seed(side)
        made.state.choose_picture(str(side % 5 + 1), 1)
        settle(made)
    assert made.sentences == []
    assert made.complete


def test_a_dataset_of_something_else_is_no_run():
    with pytest.raises(ex.ExplorerError, match=r"no result of ex\.forward_backward"):
        DiffusionLens(result=xr.Dataset({"error": ("x", [1.0])}))


# Nothing to show


def test_without_any_model_the_screen_says_what_to_do(monkeypatch):
    monkeypatch.setattr(zoo, "diffusion_folders", dict)
    made = DiffusionLens()
    made.display()
    settle(made)
    assert "Give a folder in diffusers' layout or a hub id" in made.sentences[-1]
    assert made.drawing.noising.note == "choose a model, or open a saved run"
    assert made.drawing.panel.models == []


@pytest.mark.parametrize(
    ("model", "says"),
    [("nonesuch", "no diffusion model"), ("./nowhere", "There is no folder")],
)
def test_a_model_that_cannot_be_opened_is_a_sentence(model, says):
    made = DiffusionLens(model)
    made.display()
    settle(made)
    assert says in made.sentences[-1]
    assert not made.busy


def test_a_model_without_pictures_asks_for_one(folder, tmp_path):
    p = ex.open_diffusion(folder)
    made = DiffusionLens(Diffusion("bare", p.unet, p.scheduler), QUICK)
    made.display()
    settle(made)
    assert "comes with no pictures: upload one" in made.sentences[-1]
    made.upload("mine.png", png())
    settle(made)
    assert made.complete


def test_a_picture_that_the_model_has_not_is_a_sentence(folder):
    made = fresh(folder, f"{QUICK}&view.picture=60")
    settle(made)
    assert "6 held-out pictures" in made.sentences[-1]


# Files, messages, widget


@pytest.mark.parametrize(
    ("what", "begins"),
    [("png", b"\x89PNG"), ("svg", b"<?xml"), ("csv", b"# import explorer"), ("nc", b"\x89HDF")],
)
def test_every_kind_of_file_is_what_it_says(lens, what, begins):
    assert lens.file(what).startswith(begins)
    assert lens._named(what)[0].endswith(f".{what}")


def test_the_numbers_in_the_csv_file_are_those_on_screen(lens):
    import pandas as pd

    table = pd.read_csv(io.BytesIO(lens.file("csv")), comment="#")
    ((_, measured),) = lens.measured
    np.testing.assert_allclose(table["level"], measured.chunks.level)
    np.testing.assert_allclose(table["susceptibility"], measured.chunks.susceptibility)


def test_flips_and_similarities_are_exported(lens, tmp_path):
    import pandas as pd

    lens.state.look_at("features")
    settle(lens)
    ((_, seen),) = lens.features
    table = pd.read_csv(io.BytesIO(lens.file("csv")), comment="#")
    np.testing.assert_allclose(table["flipped"], seen.flipped)
    np.testing.assert_allclose(table["similarity_logits"], seen.similarity.isel(depth=-1))
    np.testing.assert_allclose(table["similarity_block_1"], seen.similarity.isel(depth=0))
    np.testing.assert_allclose(table["similarity_error_block_1"], seen.similarity_error[:, 0])
    (tmp_path / "run.nc").write_bytes(lens.file("nc"))
    saved = ex.open_result(tmp_path / "run.nc")
    np.testing.assert_allclose(saved.similarity, seen.similarity)
    np.testing.assert_allclose(saved.flipped, seen.flipped)
    again = DiffusionLens(result=saved)
    again.display()
    settle(again)
    assert again.sentences == []
    svg = lens.file("svg")
    assert b"cosine similarity of features" in svg
    assert b"not looked at yet" not in svg
    lens.state.look_at("variants")


def test_the_filmstrip_is_exported(lens):
    variants = Image.open(io.BytesIO(lens.file("png"))).size
    lens.state.look_at("filmstrip")
    svg, film = lens.file("svg"), Image.open(io.BytesIO(lens.file("png"))).size
    lens.state.look_at("variants")
    assert b"the same noise at every t/T" in svg
    assert svg.count(b"<image") == 30, "ten levels: noised, and two variants"
    assert film != variants


def test_a_pair_saves_both_runs_and_both_filmstrips(folder, tmp_path):
    made = fresh(folder)
    settle(made)
    assert "nc2" not in dict(made.drawing.toolbar.saves)
    with pytest.raises(ex.ExplorerError, match="no second run"):
        made.file("nc2")
    made.state.compare(True)
    made.state.choose_picture("4", 1)
    settle(made)
    assert "nc2" in dict(made.drawing.toolbar.saves)
    names = [made._named(what)[0] for what in ("nc", "nc2")]
    assert names == ["noise-small-run.nc", "noise-small-run-2.nc"]
    for what, track in zip(("nc", "nc2"), made.tracks, strict=True):
        (tmp_path / f"{what}.nc").write_bytes(made.file(what))
        saved = ex.open_result(tmp_path / f"{what}.nc")
        np.testing.assert_array_equal(saved.image, track.dataset().image)
    assert saved.attrs["picture"] == "4"
    made.state.look_at("filmstrip")
    assert made.file("svg").count(b"<image") == 60


def test_a_saved_run_that_no_browser_can_hand_back_is_said_to_be_one(lens, monkeypatch):
    monkeypatch.setattr(runs, "LARGEST_RUN", 1000)
    run(lens._save("nc"))
    assert "The saved run has" in lens.sentences[-1]
    assert "ex.DiffusionLens(result=ex.open_result(file))" in lens.sentences[-1]
    lens.dismiss(len(lens.sentences) - 1)
    run(lens._save("csv"))
    assert not any("The saved run" in sentence for sentence in lens.sentences)


def test_an_unknown_kind_of_file_is_a_sentence(lens):
    with pytest.raises(ex.UnknownNameError, match="kind of file"):
        lens.file("exe")


def test_nothing_is_saved_before_there_is_something(folder):
    with pytest.raises(ex.ExplorerError, match="in a moment"):
        DiffusionLens(folder, QUICK).file("png")


@pytest.mark.parametrize(
    "message",
    [
        {"kind": "set", "value": None},
        {"kind": "variant", "value": "x"},
        {"kind": "choice", "what": "colour", "name": "red"},
        {"kind": "compare"},
        {"kind": "model", "name": "", "side": 7},
        {"kind": "upload", "name": "x", "data": "%%%"},
    ],
)
def test_messages_that_make_no_sense_change_nothing(lens, message):
    before = lens.state.setting
    lens.drawing.actions.panel(message)
    lens.drawing.actions.noising(message)
    assert lens.state.setting == before


def test_the_widget_follows_the_lens_and_the_lens_the_widget(lens):
    widget = lens.to_ipywidget()
    before = lens.state.setting
    assert widget.value == before.level
    widget.value = 0.8
    assert lens.state.setting.level == 0.8
    lens.state.set_seed(3)
    assert widget.seed == 3
    with pytest.raises(traitlets.TraitError, match="between 0 and 1"):
        widget.value = 2.0
    lens.state.set_seed(before.seed)
    lens.state.set_level(before.level)
    assert widget.value == before.level
