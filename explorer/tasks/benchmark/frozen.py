"""The benchmark's tasks as they are frozen in ``data/``: class names in order, templates, sources.

The order of class names decides what a label means, and the peers' programs take it from whatever
folders lie on the disk. Here it is written down once, from the files that each ``sources`` names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from explorer.errors import UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

# Ilharco et al. 2023 (arXiv 2212.04089); Wang et al. 2024 (arXiv 2405.07813) added twice six.
EIGHT = ("sun397", "cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd")
FOURTEEN = (*EIGHT, "flowers102", "pcam", "fer2013", "oxfordiiitpet", "stl10", "cifar100")
TWENTY = (*FOURTEEN, "cifar10", "food101", "fashionmnist", "emnist", "kmnist", "renderedsst2")
GROUPS = {8: EIGHT, 14: FOURTEEN, 20: TWENTY}
# The fine-tuned sets disagree on what EMNIST is: digits in TALL-masks, letters in fusion_bench.
ALL = (*TWENTY, "emnist_letters")

Names = Literal["tall", "fusion_bench"]
NAMES = ("tall", "fusion_bench")


@dataclass(frozen=True)
class BenchmarkTask:
    """One task: ``class_names`` in the order of its labels, ``templates`` with {} for the name.

    ``labels`` are the same classes as the dataset itself names them, ``words`` as one says them
    where that differs (digits). ``fusion_bench_class_names``
    and ``fusion_bench_templates`` are what the heads of that family are made from, the same as the
    others where nothing differs. ``torchvision`` says how torchvision reads it, or is None;
    ``n_test`` is the published size of the test split; ``sources`` name repository and file.
    """

    name: str
    title: str
    published: str
    aliases: tuple[str, ...]
    class_names: tuple[str, ...]
    fusion_bench_class_names: tuple[str, ...]
    labels: tuple[str, ...]
    words: tuple[str, ...]
    templates: tuple[str, ...]
    fusion_bench_templates: tuple[str, ...]
    n_test: int
    splits: str
    caveats: tuple[str, ...]
    torchvision: Mapping[str, Any] | None
    sources: Mapping[str, str]

    def prompts(self, names: Names = "tall") -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Class names and templates of a family's heads. Raises UnknownNameError."""
        if check_names(names) == "fusion_bench":
            return self.fusion_bench_class_names, self.fusion_bench_templates
        return self.class_names, self.templates


def benchmark_tasks(group: int = 20, names: Names = "tall") -> "pd.DataFrame":
    """Table of the benchmark of 8, 14 or 20 tasks, indexed by name, in the papers' order.

        ex.benchmark_tasks(8)

    Columns: title, classes and templates (how many), test_images (of the published split),
    torchvision (whether it reads the published split; otherwise a folder is needed), caveats.
    ``names`` is the family of checkpoints: "tall" (TALL-masks, LiNeS) has EMNIST's digits,
    "fusion_bench" its letters. Raises UnknownNameError.
    """
    import pandas as pd

    tasks = [benchmark_task(name) for name in group_names(group, names)]
    rows = [
        {
            "name": task.name,
            "title": task.title,
            "classes": len(task.class_names),
            "templates": len(task.templates),
            "test_images": task.n_test,
            "torchvision": task.torchvision is not None,
            "caveats": " ".join(task.caveats),
        }
        for task in tasks
    ]
    return pd.DataFrame(rows).set_index("name")


def group_names(group: int, names: Names = "tall") -> tuple[str, ...]:
    """The names of the 8, 14 or 20 tasks. Raises UnknownNameError."""
    if group not in GROUPS:
        raise UnknownNameError("benchmark", group, map(str, GROUPS))
    letters = check_names(names) == "fusion_bench"
    return tuple("emnist_letters" if letters and n == "emnist" else n for n in GROUPS[group])


def benchmark_task(name: str) -> BenchmarkTask:
    """A task by its name here or in a published set ("stanford-cars", "Cars", "MNISTVal").

    Raises UnknownNameError with the nearest names.
    """
    found = _spellings().get(_folded(name)) or _spellings().get(_folded(name.removesuffix("Val")))
    if found is None:
        raise UnknownNameError("benchmark task", name, ALL)
    return _read(found)


def check_names(names: object) -> str:
    """``names`` if it is a family of class names. Raises UnknownNameError."""
    if names not in NAMES:
        raise UnknownNameError("family of class names", names, NAMES)
    return str(names)


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")


@cache
def _spellings() -> dict[str, str]:
    """Every spelling of a task's name, folded -> the name."""
    found: dict[str, str] = {}
    for name in ALL:
        for spelling in (name, *_read(name).aliases):
            found[_folded(spelling)] = name
    return found


@cache
def _read(name: str) -> BenchmarkTask:
    path = Path(__file__).with_name("data") / f"{name}.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    texts = {key: tuple(data[key]) for key in ("aliases", "class_names", "templates", "caveats")}
    return BenchmarkTask(
        **texts,
        name=data["name"],
        title=data["title"],
        published=data["published"],
        fusion_bench_class_names=tuple(data.get("fusion_bench_class_names", data["class_names"])),
        fusion_bench_templates=tuple(data.get("fusion_bench_templates", data["templates"])),
        labels=tuple(data.get("labels", data["class_names"])),
        words=tuple(data.get("words", ())),
        n_test=data["n_test"],
        splits=data["splits"],
        torchvision=data["torchvision"],
        sources=data["sources"],
    )
