"""Builds a small random model folder in the zoo's format: complete, and good for nothing else.

By hand: ``python tests/tiny_zoo.py DIR [--eight]`` writes a folder that ``ex.open_model(DIR)``
opens; ``--eight`` has the embedded zoo's task names and its size.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from explorer.models.heads import zero_shot_head
from explorer.models.tokens import END, START, Vocabulary, byte_pairs
from explorer.models.towers import TextTower, VisionTower, build_text_tower, build_tower

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
THREE = {
    "digits": (["zero", "one", "two", "three", "four"], ["a photo of the digit {}.", "the {}"]),
    "letters": (["a", "b", "c", "d"], ["the letter {}."]),
    "hearts": (["heart", "star", "cloud"], ["an icon of a {}.", "a {}"]),
    "shapes": (["circle", "square"], ["a photo of a {}."]),
}
EIGHT = {
    "mnist": (DIGITS, ["a photo of the digit {}.", "a handwritten {}."]),
    "uci": (DIGITS, ["a small photo of the digit {}."]),
    "letters": ([chr(ord("a") + i) for i in range(26)], ["the letter {}."]),
    "hiragana": (["ka", "ki", "ku", "ke", "ko", "sa", "shi", "su"], ["the hiragana {}."]),
    "scripts": (["latin", "greek", "arabic", "thai", "hebrew"], ["a letter in {}."]),
    "emoji": (["face", "animal", "food", "flag", "hand"], ["an emoji of a {}."]),
    "icons": (["heart", "key", "cloud", "house", "clock", "star"], ["an icon of a {}."]),
    "counts": (["one", "two", "three", "four", "five"], ["a photo of {} dots."]),
    "shapes": (["circle", "square", "triangle", "cross"], ["a photo of a {}."]),
}
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]


@dataclass(frozen=True)
class Plan:
    """Sizes and amounts of training of a tiny zoo."""

    tasks: dict[str, tuple[list[str], list[str]]]
    width: int = 32
    layers: int = 3
    embed_dim: int = 16
    n_test: tuple[int, ...] = (70, 48, 60, 64)
    n_val: int = 40
    pretraining: int = 12
    fine_tuning: int = 25

    @classmethod
    def eight(cls) -> "Plan":
        sizes = (1000, 600, 800, 500, 400, 450, 700, 400, 400)
        return cls(EIGHT, 128, 6, 128, sizes, 200, 12, 15)


def write_tiny_zoo(folder: Path, plan: Plan | None = None, seed: int = 0) -> Path:
    """Write a whole model folder; the same files for the same plan and seed."""
    plan = plan or Plan(THREE)
    folder = Path(folder)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    for name in ("vectors", "tangent", "tasks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    architecture, tokens = _architecture(plan), _tokens(plan)
    architecture["text_cfg"]["vocab_size"] = len(tokens)
    text = _random(build_text_tower(architecture))
    text.logit_scale.data.fill_(2.0)
    heads = _heads(plan, text, tokens)
    images = {
        task: _images(rng, len(classes), n, plan.n_val)
        for (task, (classes, _)), n in zip(plan.tasks.items(), plan.n_test, strict=True)
    }
    tower = _random(build_tower(architecture))
    _train(tower, [(images[t], heads[t]) for t in plan.tasks], plan.pretraining, 2e-3)
    # The vectors belong to the base as it is stored: in half precision.
    _save(folder / "base.safetensors", _half(tower.state_dict()))
    base = {key: tensor.half().float() for key, tensor in tower.state_dict().items()}
    _save(folder / "text.safetensors", _half(text.state_dict()))
    (folder / "vocabulary.json").write_text(json.dumps({"tokens": tokens}))
    *tasks, control = plan.tasks
    for task in tasks:
        tower.load_state_dict(base)
        _train(tower, [(images[task], heads[task])], plan.fine_tuning, 2e-3)
        tuned = tower.state_dict()
        _save(folder / "vectors" / f"{task}.safetensors", _half(_minus(tuned, base)))
        tower.load_state_dict(base)
        tangent = _tangent(tower, base, images[task], heads[task])
        _save(folder / "tangent" / f"{task}.safetensors", _half(tangent))
    for task, splits in images.items():
        np.savez_compressed(folder / "tasks" / f"{task}.npz", **splits)
    (folder / "CARD.md").write_text("# Tiny random model\n\nMade by tests/tiny_zoo.py.\n")
    _write_card(folder, plan, architecture, control)
    return folder


def _architecture(plan: Plan) -> dict:
    return {
        "embed_dim": plan.embed_dim,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": plan.width,
            "layers": plan.layers,
            "head_width": plan.width // 4,
            "mlp_ratio": 4.0,
        },
        "text_cfg": {"context_length": 16, "vocab_size": 0, "width": 32, "heads": 2, "layers": 1},
    }


def _tokens(plan: Plan) -> list[int]:
    pairs, found = byte_pairs(), {0, START, END}
    extra = ["a photo of the red blue green dog cat"]
    for classes, templates in plan.tasks.values():
        for text in [t.replace("{}", c) for c in classes for t in templates] + extra:
            for word in pairs.words(text):
                found.update(pairs.ids(word))
    return sorted(found)


def _random(tower: torch.nn.Module) -> torch.nn.Module:
    tower.to_empty(device="cpu")
    for name, parameter in tower.named_parameters():
        if "ln_" in name and name.endswith("weight"):
            torch.nn.init.ones_(parameter)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
        else:
            fan = parameter.shape[-1] if parameter.ndim > 1 else len(parameter.reshape(-1))
            torch.nn.init.normal_(parameter, std=fan**-0.5)
    return tower


def _heads(plan: Plan, text: TextTower, tokens: list[int]) -> dict[str, Tensor]:
    vocabulary = Vocabulary(tokens, text.context_length)

    @torch.no_grad()
    def encode(texts):
        return text(vocabulary.rows_of(texts))

    return {
        task: zero_shot_head(encode, 2.0, classes, templates).weight
        for task, (classes, templates) in plan.tasks.items()
    }


def _images(rng, n_classes: int, n_test: int, n_val: int) -> dict[str, np.ndarray]:
    """Coarse random patterns, one a class, under noise that makes some of them hard."""
    patterns = rng.uniform(0, 255, (n_classes, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
    splits = {}
    for split, n in (("val", n_val), ("test", n_test), ("train", 128)):
        labels = rng.integers(0, n_classes, n)
        strength = rng.uniform(0.2, 0.8, (n, 1, 1, 1))
        noise = rng.uniform(0, 255, (n, 32, 32, 3))
        mixed = strength * patterns[labels] + (1 - strength) * noise
        splits[f"{split}_images"] = mixed.round().astype(np.uint8)
        splits[f"{split}_labels"] = labels.astype(np.int64)
    return splits


def _batch(splits: dict[str, np.ndarray]) -> tuple[Tensor, Tensor]:
    x = torch.tensor(splits["train_images"]).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return x, torch.tensor(splits["train_labels"])


def _train(tower: VisionTower, tasks, steps: int, rate: float) -> None:
    tower.requires_grad_(True)
    optimiser = torch.optim.Adam(tower.parameters(), lr=rate)
    batches = [(*_batch(splits), head) for splits, head in tasks]
    for _ in range(steps):
        for x, y, head in batches:
            loss = F.cross_entropy(F.normalize(tower(x), dim=-1) @ head.T, y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    tower.requires_grad_(False)


def _tangent(tower, base, splits, head) -> dict[str, Tensor]:
    """The first step of tangent fine-tuning: at the base, both kinds have the same gradient."""
    x, y = _batch(splits)
    parameters = {key: tensor.clone().requires_grad_() for key, tensor in base.items()}
    features = torch.func.functional_call(tower, parameters, (x,))
    loss = F.cross_entropy(F.normalize(features, dim=-1) @ head.T, y)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return {key: -0.01 * g.sign() for key, g in zip(base, gradients, strict=True)}


def _minus(tuned: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tuned[key] - base[key] for key in base}


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.detach().half().contiguous() for key, tensor in tensors.items()}


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path)


def _write_card(folder: Path, plan: Plan, architecture: dict, control: str) -> None:
    tasks = [task for task in plan.tasks if task != control]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    card = {
        "format": 1,
        "name": folder.name,
        "title": "Tiny random model",
        "family": f"{folder.name} (random)",
        "architecture": architecture,
        "mean": MEAN,
        "std": STD,
        "tasks": tasks,
        "control": control,
        "task_info": {
            task: {
                "title": task.capitalize(),
                "class_names": classes,
                "templates": templates,
                "source": "random patterns",
                "licence": "CC0-1.0",
                "n_val": plan.n_val,
                "n_test": n,
            }
            for (task, (classes, templates)), n in zip(plan.tasks.items(), plan.n_test, strict=True)
        },
        "best_shared_coefficient": {"weights": 0.3, "tangent": 0.4},
        "sha256": {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if path.name != "model.json"
        },
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--eight", action="store_true", help="the embedded zoo's names and size")
    arguments = parser.parse_args()
    print(write_tiny_zoo(arguments.folder, Plan.eight() if arguments.eight else None))
