"""Names of parameters: every published layout of a vision tower, to open_clip's names and back.

Our names are those of open_clip's image tower without "visual.". Towers other than CLIP's are
called as open_clip calls them: by timm's names, under "trunk.". Tables: ``layout_tables.py``.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from explorer.checkpoints.layout_tables import LAYOUTS, Layout, Rule, Tensors, same
from explorer.errors import CheckpointError, UnknownNameError


@dataclass(frozen=True)
class Entry:
    """How one of our tensors is made: from which of the file's names, and by what."""

    sources: tuple[str, ...]
    make: Callable[[Tensors], Tensors] = same
    index: int = 0

    def of(self, tensors: Tensors) -> Tensor:
        return self.make(tensors)[self.index]


def layouts() -> dict[str, str]:
    """Name -> what it is, of every layout that ``to_layout`` writes."""
    return {layout.name: layout.title for layout in LAYOUTS}


def to_layout(tensors: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """A tower's tensors under another layout's names, without loss; see ``layouts()``.

    Raises UnknownNameError for a layout that does not exist, CheckpointError for a tower that the
    layout has no names for.
    """
    found = next((each for each in LAYOUTS if each.name == layout), None)
    if found is None:
        raise UnknownNameError("layout", layout, layouts())
    if not found.rules:
        return {found.wrapper + key: tensor for key, tensor in tensors.items()}
    entries, left = _matched(found.rules, tensors.keys(), backwards=True)
    if left:
        raise CheckpointError(
            f"{found.title} has no name for {sorted(left)[0]!r}: this tower is of another family."
        )
    return {
        key: entry.of([tensors[s] for s in entry.sources]).contiguous()
        for key, entry in entries.items()
    }


def detect(names: Iterable[str]) -> tuple[Layout, str] | None:
    """(the layout of these names, what stands before all names of the tower), or None.

    Raises CheckpointError when the names hold the same tower twice.
    """
    known = set(names)
    for layout in LAYOUTS:
        first, *others = layout.signature
        prefixes = sorted(
            prefix
            for name in known
            if name.endswith(first) and (prefix := name.removesuffix(first))[-1:] in ("", ".")
            if all(prefix + other in known for other in others)
        )
        if len(prefixes) > 1:
            raise CheckpointError(
                f"The file holds the same tower twice, under {prefixes[0]!r} and {prefixes[1]!r}. "
                "Save the one that you mean by itself."
            )
        if prefixes:
            return _by_wrapper(layout, prefixes[0]), prefixes[0]
    return None


def entries_of(layout: Layout, prefix: str, names: Iterable[str]) -> dict[str, Entry]:
    """Our name -> how it is made from the file's names. Raises CheckpointError for a gap."""
    inside = {name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    if not layout.rules:
        return {name: Entry((prefix + name,)) for name in sorted(inside)}
    entries, _ = _matched(layout.rules, inside)
    return {
        key: Entry(tuple(prefix + source for source in entry.sources), entry.make, entry.index)
        for key, entry in entries.items()
    }


def linearised_names(shapes: Sequence[tuple[int, ...]]) -> list[str | None] | None:
    """Names of a linearised CLIP's parameters by their order; None for those of the text side.

    Tangent fine-tuning (Ortiz-Jiménez et al. 2023) saved ``params.<i>`` in the order in which the
    modules were made: the text side's loose parameters, the image tower, the token table. Returns
    None when the shapes are not those of such a tower.
    """
    conv = next((i for i, shape in enumerate(shapes) if len(shape) == 4), -1)
    start = conv - 3
    for after in (3, 0):
        blocks, rest = divmod(len(shapes) - after - start - 8, 12)
        if start not in (0, 3) or rest or blocks < 1:
            continue
        tower = ["class_embedding", "positional_embedding", "proj", "conv1.weight"]
        tower += ["ln_pre.weight", "ln_pre.bias"]
        tower += [f"transformer.resblocks.{i}.{name}" for i in range(blocks) for name in _BLOCK]
        tower += ["ln_post.weight", "ln_post.bias"]
        if _fits(dict(zip(tower, shapes[start:], strict=False))):
            return [None] * start + tower + [None] * after
    return None


_BLOCK = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.in_proj_weight",
    "attn.in_proj_bias",
    "attn.out_proj.weight",
    "attn.out_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)


def _fits(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    width = shapes["class_embedding"]
    if len(width) != 1:
        return False
    (w,) = width
    ranks = {"positional_embedding": 2, "proj": 2, "conv1.weight": 4}
    wanted = {"attn.in_proj_weight": (3 * w, w), "attn.out_proj.weight": (w, w)}
    return (
        all(len(shapes[name]) == rank for name, rank in ranks.items())
        and shapes["proj"][0] == shapes["positional_embedding"][1] == shapes["conv1.weight"][0] == w
        and all(shapes[f"transformer.resblocks.0.{name}"] == s for name, s in wanted.items())
        and shapes["ln_post.bias"] == (w,)
    )


def _by_wrapper(layout: Layout, prefix: str) -> Layout:
    """Of the layouts that differ only in what is before the names, the one with this prefix."""
    alike = [each for each in LAYOUTS if each.signature == layout.signature]
    ending = [each for each in alike if each.wrapper and prefix.endswith(each.wrapper)]
    return max(ending, key=lambda each: len(each.wrapper), default=layout)


def _matched(
    rules: Iterable[Rule], names: Iterable[str], backwards: bool = False
) -> tuple[dict[str, Entry], set[str]]:
    """(entries made by the rules, names that no rule takes)."""
    known = set(names)
    left = set(known)
    entries: dict[str, Entry] = {}
    for rule in rules:
        sources, targets = (rule.ours, rule.theirs) if backwards else (rule.theirs, rule.ours)
        make = rule.to_theirs if backwards else rule.to_ours
        pattern = _pattern(sources[0])
        for name in [name for name in left if pattern.fullmatch(name)]:
            numbers = pattern.fullmatch(name).groupdict()  # type: ignore[union-attr]
            needed = tuple(source.format(**numbers) for source in sources)
            missing = [source for source in needed if source not in known]
            if missing:
                raise CheckpointError(
                    f"The file has {name!r}, but not {missing[0]!r}, which belongs to it. "
                    "Download or copy it again."
                )
            left -= set(needed)
            for index, target in enumerate(targets):
                entries[target.format(**numbers)] = Entry(needed, make, index)
    return entries, left


def _pattern(name: str) -> re.Pattern[str]:
    text = re.escape(name).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{j\}", r"(?P<j>\d+)")
    return re.compile(text.replace(r"\{w\}", r"(?P<w>weight|bias)"))
