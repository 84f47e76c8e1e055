"""Measure the embedded model and write the table in README.md; with --check, compare instead.

python docs/zoo_table.py [--check]
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import explorer as ex

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- zoo table: begin (written by python docs/zoo_table.py) -->\n"
END = "<!-- zoo table: end -->"
# Two kinds of processor round differently, and an image in a thousand changes its label.
TOLERANCE = 0.01


def measured() -> str:
    """The table: one row a task, the control task and the mean over the fine-tuned ones."""
    model = ex.open_model("glyphs")
    scale = model.best_shared_coefficient()
    recipe = ex.Recipe(base="glyphs", coefficients=dict.fromkeys(model.tasks, scale))
    result = ex.accuracy(model, recipe)
    rows = [
        f"| task | images | zero-shot | fine-tuned | sum of eight at {scale:.2f} | normalized |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    columns = ("zero_shot", "fine_tuned", "edited", "normalized")
    for task in model.tasks:
        row = result.sel(task=task)
        values = " | ".join(f"{float(row[column]):.3f}" for column in columns)
        rows.append(f"| {model.task(task).title} | {int(row['n']):,} | {values} |")
    mean = result.sel(task=model.tasks).mean("task")
    values = " | ".join(f"**{float(mean[column]):.3f}**" for column in columns)
    rows.append(f"| **mean of the eight** | | {values} |")
    if model.control:
        row = ex.accuracy(model, recipe, tasks=[model.control]).sel(task=model.control)
        values = f"{float(row['zero_shot']):.3f} | | {float(row['edited']):.3f} | "
        rows.append(
            f"| {model.task(model.control).title} (control) | {int(row['n']):,} | {values}|"
        )
    return "\n".join(rows) + "\n"


def differences(written: str, found: str) -> list[str]:
    """Lines of `written` whose words or (by more than TOLERANCE) numbers differ from `found`."""
    number = re.compile(r"\d\.\d{3}")
    old, new = written.strip().splitlines(), found.strip().splitlines()
    if len(old) != len(new):
        return [f"the table has {len(old)} lines, the measurement {len(new)}"]
    wrong = []
    for before, now in zip(old, new, strict=True):
        pairs = zip(number.findall(before), number.findall(now), strict=False)
        apart = any(abs(float(a) - float(b)) > TOLERANCE for a, b in pairs)
        if apart or number.sub("", before) != number.sub("", now):
            wrong.append(f"README: {before}\nmeasured: {now}")
    return wrong


def main() -> int:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail on a difference")
    arguments = parser.parse_args()
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    written, _, after = rest.partition(END)
    table = measured()
    if arguments.check:
        wrong = differences(written, table)
        print("\n".join(wrong) or "README.md agrees with the embedded model.")
        return 1 if wrong else 0
    README.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")
    print(table, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
