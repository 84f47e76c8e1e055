"""Stage ``closed_pack``: ``explorer/zoo/glyphs-closed`` and ``glyphs-scratch``, with their cards.

Everything on the cards is measured with ``explorer`` itself: the coefficient of the sum is chosen
on the validation split, the tables are of the test split. The images are those of
``explorer/zoo/glyphs``, which the folders name and do not hold: ``pack`` must have run.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

import explorer as ex
from explorer.checkpoints.zoo import embedded_root, read_folder

from . import clip, closed
from .evaluate import additions
from .pack import sha256_of

IMAGES = "glyphs"
TITLES = {
    "closed": "Glyphs without text: a base trained on classes, eight tasks and a control",
    "scratch": "Glyphs from scratch: random weights as the base, eight tasks and a control",
}
MADE = {
    "closed": "trained from scratch to tell the tags of glyphs' pretraining pictures apart, by one "
    "vector a tag in place of a text tower ({pretraining})",
    "scratch": "left with its random initial weights: the control for what pretraining does",
}


def write_folder(work: Path, out: Path, base: str, results: dict) -> dict:
    """Write a model folder, all but its card in words; returns its model.json."""
    shared = read_folder(embedded_root() / IMAGES).card
    if out.exists():
        shutil.rmtree(out)
    (out / "vectors").mkdir(parents=True)
    tower = closed.load_base(work, base)
    state = {key: value.half().cpu().contiguous() for key, value in tower.state_dict().items()}
    save_file(state, out / "base.safetensors")
    shutil.copy(work / base / "heads.safetensors", out)
    for task in shared["tasks"]:
        shutil.copy(work / base / "vectors" / f"{task}.safetensors", out / "vectors")
    card = {
        "format": 1,
        "name": f"{IMAGES}-{base}",
        "title": TITLES[base],
        "family": f"{IMAGES}-{base} (embedded)",
        "architecture": closed.ARCHITECTURE,
        "mean": [clip.MEAN] * 3,
        "std": [clip.STD] * 3,
        "images": IMAGES,
        "heads": "heads.safetensors",
        "tasks": shared["tasks"],
        "control": shared["control"],
        "task_info": shared["task_info"],
        "seeds": {"data": "fixed in training/", "base": 0, "finetune": 0},
        **results,
        "sha256": sha256_of(out),
    }
    (out / "model.json").write_text(json.dumps(card, indent=1, ensure_ascii=False))
    return card


def measured(folder: Path) -> dict:
    """What the card says of a folder: accuracies of base, fine-tuned towers and their sum."""
    model = ex.open_model(folder)
    base = ex.accuracy(model, ex.Recipe(base=model.name), tasks=model.all_tasks)
    probe = dict(zip(model.all_tasks, map(float, base.edited.values), strict=True))
    found = additions(model, "weights")
    return {
        "best_shared_coefficient": {"weights": found["sum"]["coefficient"]},
        "results": {
            "linear_probe": probe,
            "linear_probe_mean": float(np.mean([probe[task] for task in model.tasks])),
            **found,
        },
    }


def recipe(work: Path, base: str) -> str:
    """How the vectors were made, from the notes in their files."""
    notes = []
    for path in sorted((work / base / "vectors").glob("*.safetensors")):
        with safe_open(path, "np") as file:
            notes.append(file.metadata())
    pairs = sorted({(int(note["steps"]), float(note["rate"])) for note in notes})
    return "; ".join(f"{steps} steps of 64 at rate {rate:g}" for steps, rate in pairs)


def card_text(card: dict, base: str, pretraining: str, finetuning: str) -> str:
    """The model card, in Markdown."""
    found, info = card["results"], card["task_info"]
    vision = card["architecture"]["vision_cfg"]
    means = [found["linear_probe_mean"], found["fine_tuned_mean"], found["sum"]["accuracy_mean"]]
    lines = [
        f"# {card['title']}",
        "",
        f"CLIP's image tower (32x32 RGB, patches of {vision['patch_size']}, {vision['layers']} "
        f"blocks, width {vision['width']}) {MADE[base].format(pretraining=pretraining)}. A linear "
        "probe of the frozen base is the head of each task (`heads.safetensors`), and the tower "
        "was fine-tuned on eight tasks with these heads as they are (Hazimeh et al. 2025, arXiv "
        "2511.14569). There is no text: prompts cannot be written. Made by `python -m training` in "
        "this repository; weights are fp16, heads fp32.",
        "",
        f"Tasks, images and control are those of `{IMAGES}`, whose files are read and not held "
        f"here; licences of fonts and icon sets: `licences.json` of `{IMAGES}`.",
        "",
        "## Accuracy on the test split",
        "",
        "| task | classes | images | linear probe | fine-tuned | sum of eight | source | licence |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [*card["tasks"], card["control"]]:
        task = info[name]
        cells = [
            found["linear_probe"][name],
            found["fine_tuned"].get(name),
            found["sum"]["accuracy"][name],
        ]
        shown = " | ".join("" if cell is None else f"{cell:.3f}" for cell in cells)
        lines.append(
            f"| {name}: {task['title']} | {len(task['class_names'])} | {task['n_test']} | {shown} "
            f"| {task['source']} | {task['licence']} |"
        )
    lines += [
        f"| mean of the eight | | | {' | '.join(f'{mean:.3f}' for mean in means)} | | |",
        "",
        "The sum of the eight vectors is taken at the coefficient "
        f"{found['sum']['coefficient']:.2f}, the best of 21 on the validation split "
        f"({found['sum']['normalized_mean']:.3f} normalized).",
        "",
        "## Recipe",
        "",
        f"- Base: {pretraining if base == 'closed' else 'random initial weights of open_clip'}; "
        "seed 0.",
        "- Heads: softmax regression without a bias on the base's normalised features of at most "
        "1,500 training images, the penalty the best of five on validation images, the rows' mean "
        "length set to 20; the control's on 1,500 fresh drawings.",
        f"- Fine-tuning: {finetuning}, AdamW, weight decay 0.1, cosine, gradients clipped at 1, "
        "images shifted and turned a little; seed 100.",
        "- Rates and steps were chosen on the validation split, for each base its own; the table "
        "above is of the test split. There is one seed.",
        "- Files and hashes: `model.json`.",
        "",
        "What the two bases show beside the one with text: docs/closed_vocabulary.md.",
        "",
    ]
    return "\n".join(lines)


def main(work: Path, options: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m training closed_pack")
    parser.add_argument("--pretraining", required=True, help="for the card: steps, hardware")
    parser.add_argument("--bases", nargs="+", choices=closed.BASES, default=closed.BASES)
    parser.add_argument("--out", type=Path, default=Path("explorer/zoo"))
    args = parser.parse_args(options)
    for base in args.bases:
        draft = work / "draft" / f"{IMAGES}-{base}"
        write_folder(work, draft, base, {})
        results = measured(draft)
        out = args.out / draft.name
        card = write_folder(work, out, base, results)
        text = card_text(card, base, args.pretraining, recipe(work, base))
        (out / "CARD.md").write_text(text)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        found = results["results"]
        print(
            f"{out}: {size / 2**20:.2f} MiB, linear probe {found['linear_probe_mean']:.3f}, "
            f"fine-tuned {found['fine_tuned_mean']:.3f}, sum {found['sum']['accuracy_mean']:.3f} "
            f"at {found['sum']['coefficient']:.2f}"
        )
