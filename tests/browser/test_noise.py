"""The diffusion lens in headless Chromium: served, in the app, and in a JupyterLab cell."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serving
from seeing import REPAINTED, assert_fits_narrow_and_wide_windows, titles_cut

SERVE = """
import sys
import panel as pn
import explorer as ex

def page():
    return ex.DiffusionLens(sys.argv[2], query=pn.state.location.search or "").page()

ex.open_diffusion(sys.argv[2])  # imports that take long where several tests run
port = int(sys.argv[1])
ready = {"/": page, "/ready": lambda: pn.pane.Str("ready")}
pn.serve(ready, port=port, address="127.0.0.1", show=False,
         allow_websocket_origin=[f"127.0.0.1:{port}"])
"""
QUICK = "view.lens=diffusion&view.n=6,20,1&view.level=0.2"
CANVAS = ".noise-denoise figure.{} canvas.pixels"
POINTS = """(name) => [...Bokeh.index.query((v) => v.model.type === "Figure")]
    .flatMap((v) => v.model.renderers).map((r) => r.data_source)
    .filter((s) => s?.columns().includes(name)).map((s) => [...s.get_array(name)].length)"""
SLIDER_MARKS = """() => [...Bokeh.index.query((v) => v.model.type === "Figure")]
    .flatMap((v) => v.model.center).filter((r) => r.type === "Span").map((r) => r.location)"""
FITS = """() => [document.documentElement.scrollHeight - innerHeight,
                 document.documentElement.scrollWidth - innerWidth]"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A network that knows nothing, in diffusers' layout, with pictures."""
    from diffusers import DDPMScheduler
    from test_diffusion import small_unet

    path = tmp_path_factory.mktemp("noise") / "small"
    small_unet(3).save_pretrained(path / "unet")
    DDPMScheduler().save_pretrained(path / "scheduler")
    pictures = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez(path / "examples.npz", images=pictures)
    return path


@pytest.fixture(scope="module")
def lens_url(folder, tmp_path_factory) -> Iterator[str]:
    """The lens alone, served on that network."""
    port, where = serving.free_port(), tmp_path_factory.mktemp("noise-log")
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-c", SERVE, str(port), str(folder)]
    env = serving.environment(cache=where / "cache")
    with serving.running(command, where / "log.txt", f"{url}ready", env=env):
        yield url


@pytest.fixture
def lens(page, lens_url):
    page.goto(f"{lens_url}?{QUICK}")
    wait_until_computed(page)
    return page


def wait_until_computed(page) -> None:
    """Until every level of the curves is denoised to the end."""
    page.wait_for_function(REPAINTED, timeout=120_000)
    page.locator(".notices .text", has_text="curves: 10 levels").last.wait_for(timeout=120_000)
    page.locator(".noise-denoise[data-state=finished]").first.wait_for()


def seen(page, name: str) -> str:
    """What is on screen: its "level", the level of the variants "shown", their "state"."""
    return page.locator(".noise-denoise").first.get_attribute(f"data-{name}") or ""


def slider(page):
    return page.get_by_role("slider", name="noise level t / T")


def picture(page, which: str) -> str:
    """The pixels of the picture ("x0"), its noised form ("xt") or the large variant ("out")."""
    return page.locator(CANVAS.format(which)).first.evaluate("(canvas) => canvas.toDataURL()")


def drag(page, to: float, release: bool = True) -> None:
    """Drag the slider from where it stands."""
    box, at = slider(page).bounding_box(), float(seen(page, "level"))
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 7 + at * (box["width"] - 14), y)
    page.mouse.down()
    page.mouse.move(box["x"] + 7 + to * (box["width"] - 14), y, steps=10)
    if release:
        page.mouse.up()


def address(page) -> str:
    return page.evaluate("location.href")


def test_dragging_changes_noised_picture_variants_curves_and_address(lens, until):
    noised, variant = picture(lens, "xt"), picture(lens, "out")
    original = picture(lens, "x0")
    drag(lens, 0.85, release=False)
    until(lambda: float(seen(lens, "level")) > 0.8, "the slider is there")
    until(lambda: picture(lens, "xt") != noised, "the noise follows at once")
    until(lambda: float(seen(lens, "shown")) >= 0.8, "so do the variants that are known")
    lens.mouse.up()
    level = float(seen(lens, "level"))
    until(lambda: seen(lens, "shown") == f"{level:.2f}", "the level itself is computed")
    until(lambda: seen(lens, "state") == "finished", "to the end")
    assert picture(lens, "out") != variant
    assert picture(lens, "x0") == original
    until(lambda: f"view.level={level:g}" in address(lens), "the address follows")
    until(lambda: lens.evaluate(SLIDER_MARKS)[0] == pytest.approx(level), "and the curves' mark")


def test_curves_have_a_mark_a_level_and_say_what_is_approximate(lens, until):
    until(lambda: 10 in lens.evaluate(POINTS, "value"), "ten marks")
    assert max(lens.evaluate(POINTS, "correlation")) > 10
    lens.locator(".approximate", has_text="Approximate: the network stands in").wait_for()
    assert "6 variants a level" in lens.locator(".notices .text").last.inner_text()


def test_computing_can_be_stopped_and_continued(page, lens_url, until):
    page.goto(f"{lens_url}?view.n=48,200,1&view.level=0.9")
    page.get_by_role("button", name="stop", exact=True).click(timeout=120_000)
    page.get_by_role("button", name="go on").wait_for()
    before = seen(page, "levels")
    page.wait_for_timeout(700)
    assert seen(page, "levels") == before
    page.get_by_role("button", name="go on").click()
    page.get_by_role("button", name="stop", exact=True).wait_for()


def test_keys_move_the_slider_and_undo_brings_the_level_back(lens, until):
    slider(lens).focus()
    for _ in range(2):
        lens.keyboard.press("ArrowRight")
    until(lambda: seen(lens, "level") == "0.30", "two steps of a twentieth")
    until(lambda: lens.get_by_role("button", name="undo").is_enabled(), "it can be undone")
    lens.keyboard.press("Control+z")
    until(lambda: seen(lens, "level") == "0.20", "undone")


def test_a_variant_is_chosen_and_the_map_can_be_faded(lens, until):
    first = picture(lens, "xt")
    lens.get_by_role("button", name="variant 3").click()
    until(lambda: picture(lens, "xt") != first, "the noise is that variant's")
    lens.locator("figcaption", has_text="variant 3").wait_for()
    over = lens.locator(".noise-denoise canvas.over").nth(2)
    before = over.evaluate("(canvas) => canvas.toDataURL()")
    lens.get_by_role("slider", name="opacity of the change map").focus()
    lens.keyboard.press("Home")
    until(lambda: over.evaluate("(c) => c.toDataURL()") != before, "the map is gone")
    until(lambda: "view.opacity=0&" in address(lens), "it is in the address")


def test_playing_runs_through_the_levels_until_it_is_paused(lens, until):
    lens.get_by_role("button", name="play").click()
    until(lambda: float(seen(lens, "level")) > 0.35, "it plays")
    lens.get_by_role("button", name="pause").click()
    paused = seen(lens, "level")
    until(lambda: f"view.level={float(paused):g}" in address(lens), "it says where it stopped")
    lens.wait_for_timeout(400)
    assert seen(lens, "level") == paused


def test_the_filmstrip_shows_every_level_and_leads_to_it(lens, until):
    lens.get_by_role("button", name="Same noise, all levels").click()
    frames = lens.locator(".film .frame-of")
    until(lambda: frames.count() == 10, "a frame a level")
    frames.nth(7).click()
    until(lambda: seen(lens, "level") == "0.80", "the slider goes there")
    assert lens.locator(".stage").first.is_hidden()


def test_the_address_restores_everything_on_screen(lens, until, page):
    lens.get_by_role("button", name="held-out picture 2").click()
    lens.get_by_label("seed").fill("5")
    lens.get_by_label("seed").press("Enter")
    until(lambda: "view.seed=5" in address(lens) and "picture=2" in address(lens), "it follows")
    wait_until_computed(lens)
    lens.wait_for_timeout(1500)  # until the last sheet of variants is decoded
    where, drawn = address(lens), [picture(lens, name) for name in ("x0", "xt", "out")]
    page.goto("about:blank")
    page.goto(where)
    wait_until_computed(page)
    until(lambda: [picture(page, n) for n in ("x0", "xt", "out")] == drawn, "all is as it was")


def test_an_upload_is_shown_and_a_bad_one_is_a_sentence(lens, until, tmp_path):
    from PIL import Image

    bad, good = tmp_path / "notes.png", tmp_path / "mine.png"
    bad.write_text("no picture at all")
    Image.new("RGB", (40, 30), (200, 30, 30)).save(good)
    before, field = picture(lens, "x0"), lens.get_by_label("picture file")
    field.set_input_files(bad)
    lens.locator(".sentence", has_text="notes.png is in no format that can be read").wait_for()
    assert picture(lens, "x0") == before
    field.set_input_files(good)
    until(lambda: picture(lens, "x0") != before, "the picture is on screen")
    lens.locator(".hint", has_text="your own picture").wait_for()


def drop(page, where, path: Path) -> None:
    """Drop a file on an element, as a person does from a folder's window."""
    text = base64.b64encode(path.read_bytes()).decode()
    files = page.evaluate_handle(
        """([name, text]) => {
          const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0))
          const data = new DataTransfer()
          data.items.add(new File([bytes], name))
          return data
        }""",
        [path.name, text],
    )
    for kind in ("dragenter", "dragover", "drop"):
        where.dispatch_event(kind, {"dataTransfer": files})


def test_a_picture_dropped_on_the_pictures_takes_the_place_of_that_side(lens, until, tmp_path):
    from PIL import Image

    path = tmp_path / "mine.png"
    Image.new("RGB", (40, 30), (20, 200, 30)).save(path)
    lens.get_by_role("button", name="compare two").click()
    originals = lens.locator(CANVAS.format("x0"))
    until(lambda: originals.count() == 2, "two sides")
    left, right = (originals.nth(i).evaluate("(c) => c.toDataURL()") for i in (0, 1))
    drop(lens, originals.nth(1), path)
    until(
        lambda: originals.nth(1).evaluate("(c) => c.toDataURL()") != right, "the picture is there"
    )
    assert originals.nth(0).evaluate("(c) => c.toDataURL()") == left
    until(lambda: "picture2=uploaded" in address(lens), "of the right side")
    assert lens.locator(".noise-denoise .side.over").count() == 0


def test_a_run_dropped_on_the_pictures_opens_and_a_bad_file_is_a_sentence(lens, until, tmp_path):
    lens.get_by_role("button", name="save", exact=True).click()
    with lens.expect_download() as download:
        lens.get_by_role("menuitem", name="The run, NetCDF").click()
    path, notes = tmp_path / "run.nc", tmp_path / "notes.txt"
    download.value.save_as(path)
    notes.write_text("no picture at all")
    noised = picture(lens, "xt")
    drop(lens, lens.locator(CANVAS.format("out")), notes)
    lens.locator(".sentence", has_text="notes.txt is in no format that can be read").wait_for()
    drop(lens, lens.locator(CANVAS.format("out")), path)
    lens.locator(".noise-denoise .head", has_text="precomputed").wait_for()
    until(lambda: picture(lens, "xt") == noised, "the noise is drawn from the run's seed again")


def test_a_picture_is_dropped_on_the_sidebar_s_pictures(lens, until, tmp_path):
    from PIL import Image

    path, before = tmp_path / "mine.png", picture(lens, "x0")
    Image.new("RGB", (40, 30), (20, 200, 30)).save(path)
    drop(lens, lens.locator(".experiment .drop"), path)
    until(lambda: picture(lens, "x0") != before, "the picture is on screen")


@pytest.fixture
def photographer(browser_type, browser_type_launch_args, browser_context_args) -> Iterator:
    """A page of a browser whose camera shows a moving test picture, and is allowed."""
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    arguments = [*browser_type_launch_args["args"], *camera]
    launched = browser_type.launch(**{**browser_type_launch_args, "args": arguments})
    context = launched.new_context(**{**browser_context_args, "permissions": ["camera"]})
    page = context.new_page()
    page.set_default_timeout(40_000)
    yield page
    launched.close()


def test_a_snapshot_of_the_camera_is_noised(photographer, lens_url, until):
    page = photographer
    page.goto(f"{lens_url}?{QUICK}")
    wait_until_computed(page)
    before = picture(page, "x0")
    page.get_by_role("button", name="camera").click()
    video = page.get_by_label("camera", exact=True).and_(page.locator("video"))
    until(lambda: video.evaluate("(v) => v.videoWidth > 0 && v.currentTime > 0"), "it films")
    page.get_by_role("button", name="snap").click()
    until(lambda: picture(page, "x0") != before, "the snapshot is on screen")
    page.locator(".hint", has_text="your own picture").wait_for()
    assert video.is_hidden()
    assert video.evaluate("(v) => v.srcObject.getTracks().every((t) => t.readyState === 'ended')")
    wait_until_computed(page)


def test_a_run_is_saved_and_opens_again_as_precomputed(lens, until, tmp_path):
    variant = picture(lens, "out")
    lens.get_by_role("button", name="save", exact=True).click()
    with lens.expect_download() as download:
        lens.get_by_role("menuitem", name="The run, NetCDF").click()
    path = tmp_path / "run.nc"
    download.value.save_as(path)
    lens.get_by_label("run file").set_input_files(path)
    lens.locator(".notices .text", has_text="precomputed run, 10 levels").last.wait_for()
    lens.locator(".noise-denoise .head", has_text="precomputed").wait_for()
    until(lambda: picture(lens, "out") == variant, "the same variant")


def test_two_pictures_are_compared_side_by_side(lens, until):
    lens.get_by_role("button", name="compare two").click()
    lens.get_by_role("button", name="held-out picture 4").click()
    until(lambda: lens.locator(CANVAS.format("x0")).count() == 2, "two sides")
    until(lambda: "view.picture2=4" in address(lens), "the second has a picture of its own")
    until(lambda: lens.evaluate(POINTS, "value").count(10) >= 4, "both have curves")


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (1920, 1080)])
def test_the_lens_fits_a_laptop_and_a_projector(lens, size):
    lens.set_viewport_size({"width": size[0], "height": size[1]})
    lens.wait_for_timeout(800)
    down, across = lens.evaluate(FITS)
    assert across <= 0
    assert down <= 40


def test_in_a_cell_the_lens_follows_the_slider_and_fits(page, lab, folder, until):
    cell = f"import explorer as ex\nex.DiffusionLens({str(folder)!r}, {QUICK!r})"
    lab.open(page, [cell])
    wait_until_computed(page)
    noised = picture(page, "xt")
    slider(page).focus()
    page.keyboard.press("ArrowRight")
    until(lambda: seen(page, "level") == "0.25", "one step to the right")
    until(lambda: picture(page, "xt") != noised, "more noise")
    until(lambda: seen(page, "shown") == "0.25", "the new level is computed")
    assert_fits_narrow_and_wide_windows(page)


def test_no_title_of_a_chart_is_cut_in_a_cell_with_and_without_the_file_browser(
    page, lab, folder, until
):
    lab.open(page, [f"import explorer as ex\nex.DiffusionLens({str(folder)!r}, {QUICK!r})"])
    wait_until_computed(page)
    until(lambda: titles_cut(page) == [], "beside the file browser every title fits")
    page.keyboard.press("Control+b")
    page.wait_for_timeout(1500)
    until(lambda: titles_cut(page) == [], "and without it")


def test_the_app_offers_the_lens_without_opening_another_model(page, served, until):
    page.goto(served.url)
    page.get_by_role("button", name="Noise and denoise").click()
    page.locator(".noise-denoise").wait_for()
    assert not page.get_by_label("model", exact=True).is_visible()
    until(lambda: "view.lens=diffusion" in address(page), "the address is the lens's")
