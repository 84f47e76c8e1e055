"""Claims about opening diffusion models, about tiles, and about pictures of every kind."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin
from safetensors.torch import load_file
from test_diffusion import small_dit, small_unet, small_vae

import explorer as ex
from explorer.diffusion.exact import exact_denoising
from explorer.diffusion.model import Diffusion
from explorer.diffusion.opening import embedded_diffusion
from explorer.diffusion.pictures import as_picture
from explorer.diffusion.tiles import Tiles, leaf_places

SIZE = (8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A complete folder in diffusers' layout."""
    from diffusers import DDPMScheduler

    path = tmp_path_factory.mktemp("models") / "small"
    small_unet().save_pretrained(path / "unet")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(path / "scheduler")
    return path


def copy(folder, to):
    import shutil

    return shutil.copytree(folder, to)


# --- opening ---------------------------------------------------------------------------------


def test_a_folder_of_diffusers_opens(folder):
    p = ex.open_diffusion(folder, device="cpu")
    assert (p.image_size, p.channels, p.data_range) == (SIZE, 1, (-1.0, 1.0))
    assert (p.timesteps, p.prediction) == (1000, "v_prediction")
    assert "8 x 8 grey" in repr(p)
    reference = small_unet().state_dict()
    assert all(torch.equal(x, reference[name]) for name, x in p.unet.state_dict().items())


def test_a_folder_with_everything_at_the_top_opens(folder, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in [*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()]:
        (flat / file.name).write_bytes(file.read_bytes())
    assert ex.open_diffusion(flat, device="cpu").image_size == SIZE


def test_half_precision_weights_are_computed_with_in_float32(folder, tmp_path):
    from safetensors.torch import save_file

    there = copy(folder, tmp_path / "half")
    weights = there / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({k: x.half() for k, x in load_file(weights).items()}, weights, {"format": "pt"})
    p = ex.open_diffusion(there, device="cpu")
    assert {x.dtype for x in p.unet.parameters()} == {torch.float32}


def with_pickles(folder, there):
    """A copy of a folder whose weights are pickled, as older repositories have them."""
    copy(folder, there)
    for safe in there.rglob("*.safetensors"):
        torch.save(load_file(safe), safe.with_suffix(".bin"))
        safe.unlink()
    return there


def test_pickled_weights_are_read(folder, tmp_path):
    there = with_pickles(folder, tmp_path / "pickled")
    assert not [*there.rglob("*.safetensors")]
    p, safe = (ex.open_diffusion(path, device="cpu") for path in (there, folder))
    reference = safe.unet.state_dict()
    assert all(torch.equal(x, reference[name]) for name, x in p.unet.state_dict().items())
    assert not [*there.rglob("*.safetensors")], "nothing is written into the folder"


def test_names_of_old_versions_are_understood_in_pickles_too(tmp_path):
    from diffusers import DDPMScheduler, UNet2DModel

    there = tmp_path / "old"
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4,
        block_out_channels=(8, 8), attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    unet.save_pretrained(there / "unet")
    DDPMScheduler().save_pretrained(there / "scheduler")
    safe = there / "unet" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, x in load_file(safe).items():
        for new, before in old.items():
            name = name.replace(f".{new}.", f".{before}.")
        weights[name] = x
    torch.save(weights, safe.with_suffix(".bin"))
    safe.unlink()
    opened = ex.open_diffusion(there, device="cpu").unet.state_dict()
    assert all(torch.equal(x, opened[name]) for name, x in unet.state_dict().items())


def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(folder, tmp_path):
    there = with_pickles(folder, tmp_path / "evil")
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return (touched.touch, ())

    torch.save({"conv_in.weight": Evil()}, there / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ex.CheckpointError):
        ex.open_diffusion(there)
    assert not touched.exists()


def test_weights_of_another_configuration_are_refused(folder, tmp_path):
    there = with_pickles(folder, tmp_path / "part")
    path = there / "unet" / "diffusion_pytorch_model.bin"
    torch.save({"conv_in.weight": torch.zeros(8, 1, 3, 3)}, path)
    with pytest.raises(ex.CheckpointError, match="lack"):
        ex.open_diffusion(there)


def test_damaged_weights_are_refused(folder, tmp_path):
    there = copy(folder, tmp_path / "damaged")
    (there / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ex.CheckpointError, match="cannot be read"):
        ex.open_diffusion(there)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "needs a prompt"),
        ({"num_class_embeds": 10}, "is conditional"),
        ({"_class_name": "Nothing"}, "Nothing"),
    ],
)
def test_conditional_and_foreign_networks_are_refused(folder, tmp_path, changed, words):
    there = copy(folder, tmp_path / "other")
    config = json.loads((there / "unet" / "config.json").read_text())
    (there / "unet" / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ex.ModelError, match=words):
        ex.open_diffusion(there)


def test_a_folder_without_a_scheduler_is_refused(folder, tmp_path):
    there = copy(folder, tmp_path / "silent")
    (there / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(ex.CheckpointError, match="scheduler"):
        ex.open_diffusion(there)


def test_a_transformer_of_latents_opens_with_its_decoder_only(folder, tmp_path):
    there = tmp_path / "latent"
    small_dit(4).save_pretrained(there / "transformer")
    copy(folder / "scheduler", there / "scheduler")
    with pytest.raises(ex.ModelError, match="latents"):
        ex.open_diffusion(there)
    small_vae().save_pretrained(there / "vae")
    assert ex.open_diffusion(there, device="cpu").image_size == SIZE


def test_an_unknown_name_is_named():
    with pytest.raises(ex.UnknownNameError, match="diffusion model"):
        ex.open_diffusion("nothing-of-this-name")
    with pytest.raises(ex.CheckpointError, match="no folder"):
        ex.open_diffusion("./nothing/here/at/all")


def test_a_hub_that_does_not_answer_is_a_sentence(monkeypatch):
    from huggingface_hub import errors

    def offline(*args, **kwargs):
        raise errors.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ex.HubError, match="does not answer"):
        ex.open_diffusion("google/ddpm-cifar10-32")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that holds one folder: what is asked for lands in another, and is listed."""
    remote, here = tmp_path / "remote", tmp_path / "here"
    here.mkdir()
    downloaded = []

    def download(repository, allow_patterns, ignore_patterns):
        from huggingface_hub.utils import filter_repo_objects

        assert repository == "someone/small"
        names = [path.relative_to(remote).as_posix() for path in remote.rglob("*.*")]
        options = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        for name in filter_repo_objects(names, **options):
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes((remote / name).read_bytes())
            downloaded.append(name)
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    return remote, downloaded


def weights_among(names):
    return [name for name in names if not name.endswith(".json")]


def test_only_what_is_needed_is_downloaded(hub, folder):
    remote, downloaded = hub
    copy(folder, remote)
    weights = remote / "unet" / "diffusion_pytorch_model"
    for other in (".fp16.safetensors", ".bin", ".onnx"):
        weights.with_suffix(other).write_bytes(b"the same once more")
    assert ex.open_diffusion("hub:someone/small", device="cpu").image_size == SIZE
    assert weights_among(downloaded) == ["unet/diffusion_pytorch_model.safetensors"]


def test_pickles_are_downloaded_where_there_is_nothing_else(hub, folder):
    remote, downloaded = hub
    with_pickles(folder, remote)
    assert ex.open_diffusion("hub:someone/small", device="cpu").image_size == SIZE
    assert weights_among(downloaded) == ["unet/diffusion_pytorch_model.bin"]


def test_a_repository_with_everything_at_the_top_is_downloaded(hub, folder):
    remote, downloaded = hub
    remote.mkdir()
    for file in [*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()]:
        (remote / file.name).write_bytes(file.read_bytes())
    assert ex.open_diffusion("hub:someone/small", device="cpu").image_size == SIZE
    assert weights_among(downloaded) == ["diffusion_pytorch_model.safetensors"]


@pytest.mark.parametrize(
    ("file", "changed", "words"),
    [
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "needs a prompt"),
        ("unet/config.json", {"num_class_embeds": 10}, "is conditional"),
        ("unet/config.json", {"in_channels": 4, "out_channels": 4}, "latents"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "predicts 'flow'"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"},
         "another noise process"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_used_is_refused_before_its_weights_are_downloaded(
    hub, folder, file, changed, words
):
    remote, downloaded = hub
    copy(folder, remote)
    config = json.loads((remote / file).read_text())
    (remote / file).write_text(json.dumps(config | changed))
    with pytest.raises(ex.ModelError, match=words) as refused:
        ex.open_diffusion("hub:someone/small")
    assert "someone/small" in str(refused.value)
    assert weights_among(downloaded) == []


@pytest.mark.parametrize("name", embedded_diffusion() or [pytest.param("", marks=pytest.mark.skip)])
def test_embedded_models_open_and_denoise_a_little_noise(name):
    p = ex.open_diffusion(name, device="cpu")
    found = ex.forward_backward(p, p.examples[0], [0.1], samples=2, steps=20)
    image = found.result(show_progress=False).image
    assert np.abs(image.astype(int) - p.examples[0].astype(int)).mean() < 16


# --- tiles -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiles() -> Tiles:
    return Tiles(ex.hierarchy.Grammar.random(v=4, m=3, s=4, L=2, seed=3))


def test_the_children_of_a_node_are_its_quarters():
    rows, columns = leaf_places(2)
    grid = np.empty((4, 4), dtype=int)
    grid[rows, columns] = np.arange(16)
    assert grid.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_tiles_are_read_as_they_were_drawn(tiles):
    leaves = tiles.grammar.sample(20, seed=1)[-1]
    images = tiles.render(leaves)
    assert images.shape == (20, 8, 8, 3)
    assert (tiles.read(images) == leaves).all()
    noisy = np.clip(images + np.random.default_rng(0).normal(0, 10, images.shape), 0, 255)
    assert (tiles.read(noisy.astype(np.uint8)) == leaves).all()


def test_tiles_survive_json(tiles):
    again = Tiles.from_json(json.loads(json.dumps(tiles.to_json())))
    leaves = tiles.grammar.sample(5, seed=1)[-1]
    assert (again.render(leaves) == tiles.render(leaves)).all()
    assert all((again.grammar.parse(leaves)[d] >= 0).all() for d in range(3))


def test_the_likelihood_of_tiles_is_that_of_gaussian_noise(tiles):
    g = torch.Generator().manual_seed(0)
    x_t, abar = torch.randn(2, 3, 8, 8, generator=g), 0.3
    found = tiles.likelihood(x_t, abar).double()
    rows, columns = leaf_places(2)
    slow = torch.zeros(2, 16, 4, dtype=torch.float64)
    for leaf in range(16):
        y, x = 2 * rows[leaf], 2 * columns[leaf]
        patch = x_t[:, :, y : y + 2, x : x + 2].double()
        for symbol in range(4):
            colour = tiles.palette[symbol].double().view(1, 3, 1, 1)
            gap = (patch - abar**0.5 * colour).square().sum((1, 2, 3))
            slow[:, leaf, symbol] = -gap / (2 * (1 - abar))
    assert torch.allclose(found, slow.softmax(-1), atol=1e-5)


def test_exact_denoising_draws_legal_pictures_of_the_same_noise(tiles):
    from diffusers import DDPMScheduler

    unet = small_unet(3)
    p = Diffusion("tiles", unet, DDPMScheduler(), tiles=tiles)
    image = tiles.render(tiles.grammar.sample(1, seed=5)[-1])[0]
    run = ex.forward_backward(p, image, [0, 0.1, 0.9], samples=16, steps=10)
    result = run.result(show_progress=False)
    exact = exact_denoising(result, tiles)
    assert (exact.x_t == result.x_t).all()
    pictures = exact.image.values.reshape(-1, 8, 8, 3)
    assert all((level >= 0).all() for level in tiles.grammar.parse(tiles.read(pictures)))
    change = ex.change_field(exact, kind="symbols", tiles=tiles)
    by_level = change.change.mean(("sample", "y", "x")).values
    assert by_level[0] == 0
    assert by_level[1] < 0.05 < 0.5 < by_level[2]


def test_grammars_that_make_no_tiles_are_refused():
    with pytest.raises(ex.GrammarError, match="s = 4"):
        Tiles(ex.hierarchy.Grammar.random(v=4, m=2, s=2, L=2))
    with pytest.raises(ex.GrammarError, match="colours"):
        Tiles(ex.hierarchy.Grammar.random(v=9, m=2, s=4, L=1))


def test_pictures_of_another_size_are_no_tiles(tiles):
    with pytest.raises(ex.ImageError, match="Tiles"):
        tiles.read(np.zeros((1, 6, 6, 3), dtype=np.uint8))


# --- pictures --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB",
                                  "HSV", "I", "F", "I;16", "RGBX"])  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_every_mode_are_taken(mode, channels):
    found = as_picture(Image.new(mode, (20, 12)), SIZE, channels)
    assert (found.shape, found.dtype) == ((8, 8, channels), np.uint8)


def test_sixteen_bits_are_scaled_not_cut_off(tmp_path):
    values = np.full((8, 8), 32768, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    assert (as_picture(tmp_path / "grey.png", SIZE, 1) == 128).all()


def test_transparency_lies_on_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (as_picture(clear, SIZE, 3) == 255).all()


def test_a_camera_s_rotation_is_followed(tmp_path):
    upright = np.zeros((8, 8, 3), dtype=np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    stored = Image.fromarray(np.rot90(upright).copy())
    stored.save(tmp_path / "turned.png", exif=exif)
    found = as_picture(tmp_path / "turned.png", SIZE, 3)
    assert (found == upright).all()


@pytest.mark.parametrize("mode", ["I", "F"])
@pytest.mark.parametrize(("value", "grey"), [(-7, 0), (0, 0), (100, 100), (255, 255), (4000, 255)])
def test_a_picture_of_one_32_bit_value_is_an_even_grey(mode, value, grey):
    assert (as_picture(Image.new(mode, (9, 7), value), SIZE, 1) == grey).all()


def turned(form: str, **damage: bytes) -> bytes:
    """A picture stored a quarter turn anticlockwise, with bytes of its EXIF data replaced."""
    upright = np.zeros((16, 16, 3), dtype=np.uint8)
    upright[:8] = 255
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", (72, 1)
    out = io.BytesIO()
    Image.fromarray(np.rot90(upright).copy()).save(out, form, exif=exif, quality=95)
    data = out.getvalue()
    for before, after in damage.items():
        found = {"order": b"MM\x00*", "resolution": b"\x01\x1a\x00\x05"}[before]
        assert data.count(found) == 1
        data = data.replace(found, after)
    return data


def test_damage_beside_the_orientation_does_not_hide_it(tmp_path):
    """The resolution as a text: PIL's `exif_transpose` raises AttributeError or struct.error."""
    for kind in (2, 3, 9, 12):
        path = tmp_path / f"{kind}.jpg"
        path.write_bytes(turned("JPEG", resolution=b"\x01\x1a\x00" + bytes([kind])))
        found = as_picture(path, (16, 16), 1)[..., 0].astype(float)
        assert found[:6].mean() > 240
        assert found[10:].mean() < 15


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_a_picture_with_damaged_exif_data_is_taken_as_it_lies(tmp_path, caplog, form):
    (tmp_path / "a.jpg").write_bytes(turned(form, order=b"QQ\x00*"))
    caplog.clear()
    found = as_picture(tmp_path / "a.jpg", (16, 16), 1)[..., 0].astype(float)
    assert found[:, :6].mean() > 240
    assert found[:, 10:].mean() < 15
    # PIL itself passes over it in a JPEG, and raises SyntaxError for a WebP picture.
    assert form == "JPEG" or "a.jpg has damaged EXIF data" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pil_turns_it(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(out)))
    assert (as_picture(Image.open(out), SIZE, 3) == expected).all()


@pytest.mark.filterwarnings("ignore::UserWarning")  # PIL's own remarks on the damage
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_a_damaged_picture_of_any_format_is_taken_or_refused_in_a_sentence(tmp_path, form):
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", (72, 1)
    out = io.BytesIO()
    Image.new("RGB", (16, 8), (9, 90, 200)).save(out, form, exif=exif)
    for _ in range(300):
        data = bytearray(out.getvalue())
        for at in generator.integers(0, len(data), generator.integers(1, 5)):
            data[at] = generator.integers(256)
        (tmp_path / "a").write_bytes(bytes(data))
        with contextlib.suppress(ex.ImageError):  # any other error fails
            assert as_picture(tmp_path / "a", SIZE, 3).shape == (8, 8, 3)


def test_a_wide_picture_keeps_its_middle():
    wide = np.zeros((8, 24), dtype=np.uint8)
    wide[:, 8:16] = 255
    assert (as_picture(wide, SIZE, 1)[:, 2:-2] == 255).all()


def test_a_picture_that_fits_is_taken_as_it_is():
    exact = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert as_picture(exact, SIZE, 3) is exact


def test_a_damaged_file_is_a_sentence(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(
        tmp_path / "whole.png"
    )
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ex.ImageError, match=r"half\.png is damaged"):
        as_picture(tmp_path / "half.png", SIZE, 3)
    (tmp_path / "text.png").write_text("no picture at all")
    with pytest.raises(ex.ImageError, match="no format"):
        as_picture(tmp_path / "text.png", SIZE, 3)
    with pytest.raises(ex.ImageError, match="There is no picture"):
        as_picture(tmp_path / "missing.png", SIZE, 3)


def test_a_picture_of_absurd_size_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.new("L", (8, 8)).save(tmp_path / "large.png", pnginfo=PngImagePlugin.PngInfo())
    with pytest.raises(ex.ImageError, match="too many pixels"):
        as_picture(tmp_path / "large.png", SIZE, 1)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((8, 8, 3)),
        np.zeros((8, 8, 2), dtype=np.uint8),
        np.zeros((0, 8), dtype=np.uint8),
        np.zeros(8, dtype=np.uint8),
        17,
        None,
    ],
)
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(ex.ImageError, match="picture"):
        as_picture(bad, SIZE, 3)
