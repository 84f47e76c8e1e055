"""The model card of an exported model: what it is, how it was made, how it is opened."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

    from explorer.models.model import Model
    from explorer.recipe import Recipe


def model_card(
    m: "Model",
    recipe: "Recipe",
    path: Path,
    layout: str,
    sha256: str,
    accuracy: "xr.Dataset | None" = None,
    trimmed: bool = False,
) -> str:
    """The card in Markdown. ``sha256`` is that of the weights at ``path``, ``trimmed`` says that
    the text tower has a trimmed token table; ``accuracy`` is a result of ``ex.accuracy``."""
    sections = [
        _front(layout),
        f"# {path.stem}\n\n{_summary(m, recipe)}",
        f"## Recipe\n\n```json\n{recipe.to_json(indent=1)}\n```",
        f"## Make it again\n\n```python\n{_making(m, recipe, path, layout)}\n```",
        f"## Open it\n\n{_opening(m, path, layout, trimmed)}",
        f"## Accuracy\n\n{_accuracies(accuracy)}",
        f"## Files\n\n{_hashes(m, recipe, path, sha256)}",
        f"## Data and licences\n\n{_licences(m, recipe)}",
    ]
    return "\n\n".join(sections) + "\n"


def _front(layout: str) -> str:
    library = "open_clip" if layout == "open_clip" else "transformers"
    tags = "\n".join(f"- {tag}" for tag in ("model-merging", "task-arithmetic", "clip"))
    return f"---\nlibrary_name: {library}\ntags:\n{tags}\n---"


def _summary(m: "Model", recipe: "Recipe") -> str:
    edits = ", ".join(f"{task} {c:+g}" for task, c in recipe.active.items()) or "none"
    schedule = recipe.schedule.to_text() if recipe.schedule else "the same at every depth"
    return (
        f"The image tower of {m.name} ({m.family}), edited in weight space: theta_0 + "
        f"schedule(method(coefficients, task vectors)).\n\n"
        f"- Coefficients: {edits}\n- Method: {recipe.method}\n- Schedule: {schedule}"
    )


def _making(m: "Model", recipe: "Recipe", path: Path, layout: str) -> str:
    extra = "" if layout == "open_clip" else f", layout={layout!r}"
    return (
        "import explorer as ex\n\n"
        f"m = ex.open_model({m.name!r})\n"
        f"recipe = {recipe.to_python()}\n"
        f"ex.export(m, recipe, {path.name!r}{extra})"
    )


def _opening(m: "Model", path: Path, layout: str, trimmed: bool) -> str:
    config = path.with_suffix(".config.json")
    mean, std = m.card["mean"], m.card["std"]
    if layout != "open_clip":
        return _python(
            "import json",
            "from safetensors.torch import load_file",
            "from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection",
            "",
            f"config = CLIPVisionConfig(**json.load(open({config.name!r})))",
            "model = CLIPVisionModelWithProjection(config).eval()",
            f"model.load_state_dict(load_file({path.name!r}))",
            "# model(pixel_values=images).image_embeds, for images normalised with",
            f"# mean {mean} and standard deviation {std}",
        )
    if not (m.folder.path / "text.safetensors").is_file():
        return "The file holds the image tower alone.\n\n" + _python(
            "import open_clip",
            "from safetensors.torch import load_file",
            "",
            f"open_clip.add_model_config({config.name!r})",
            f"model = open_clip.create_model({config.stem!r}).eval()",
            f"visual = load_file({path.name!r})",
            "visual = {key.removeprefix('visual.'): x for key, x in visual.items()}",
            "model.visual.load_state_dict(visual)",
        )
    opening = _python(
        "import open_clip",
        "",
        f"open_clip.add_model_config({config.name!r})",
        "model, _, preprocess = open_clip.create_model_and_transforms(",
        f"    {config.stem!r}, pretrained={path.name!r}, image_mean={mean}, image_std={std}",
        ")",
        "model.eval()",
    )
    return f"{opening}\n\n{_tokenising(m, path)}" if trimmed else opening


def _tokenising(m: "Model", path: Path) -> str:
    context = m.architecture["text_cfg"].get("context_length", 77)
    task = m.task(m.tasks[0])
    prompts = [task.templates[0].replace("{}", name) for name in task.class_names[:2]]
    return (
        "Its text tower knows some of CLIP's tokens only: the metadata say which token each row "
        "of the table is. A prompt with any other token cannot be read.\n\n"
    ) + _python(
        "import json",
        "import torch",
        "from safetensors import safe_open",
        "",
        f"with safe_open({path.name!r}, 'pt') as file:",
        "    tokens = torch.tensor(json.loads(file.metadata()['tokens']))",
        f"tokenizer = open_clip.SimpleTokenizer(context_length={context})",
        f"texts = tokenizer({prompts!r})",
        "rows = torch.searchsorted(tokens, texts)",
        "assert (tokens[rows.clamp(max=len(tokens) - 1)] == texts).all(), 'an unknown token'",
        "text_features = model.encode_text(rows)",
    )


def _accuracies(accuracy: "xr.Dataset | None") -> str:
    if accuracy is None:
        return "Not measured when this file was written."
    rows = ["| task | images | zero-shot | fine-tuned | this model |", "|---|---:|---:|---:|---:|"]
    for task in accuracy["task"].values:
        row = accuracy.sel(task=task)
        names = ("zero_shot", "fine_tuned", "edited")
        # A control task has no fine-tuned model.
        values = [f"{x:.3f}" if x == x else "" for x in (float(row[name]) for name in names)]
        rows.append(f"| {task} | {int(row['n'])} | {' | '.join(values)} |")
    attrs = accuracy.attrs
    return "\n".join(rows) + f"\n\n{attrs['split']} images, {attrs['seed']}; {attrs['family']}."


def _hashes(m: "Model", recipe: "Recipe", path: Path, sha256: str) -> str:
    known = m.card.get("sha256", {})
    operands = ["base.safetensors", *(f"vectors/{task}.safetensors" for task in recipe.active)]
    rows = [f"| {path.name} | `{sha256}` |"]
    rows += [f"| {m.name}/{name} | `{known[name]}` |" for name in operands if name in known]
    return "\n".join(["| file | sha256 |", "|---|---|", *rows])


def _licences(m: "Model", recipe: "Recipe") -> str:
    rows = [
        f"| {task.name} | {task.source} | {task.licence} |" for task in map(m.task, recipe.active)
    ]
    table = "\n".join(["| task | source of the images | licence |", "|---|---|---|", *rows])
    return (
        f"The base model's own card is CARD.md of {m.name}; it names what the base was trained "
        "on.\n\n" + (table if rows else "No task vector was used.")
    )


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])
