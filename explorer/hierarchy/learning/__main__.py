"""Make shipped curves again and print them: `python -m explorer.hierarchy.learning [NAME ...]`."""

import argparse
import time
from pathlib import Path

from explorer.hierarchy.learning.cached import EXPERIMENTS, FOLDER, regenerate


def main() -> None:
    """Measure the named experiments, or all, write their curves, and print them."""
    parser = argparse.ArgumentParser(
        prog="python -m explorer.hierarchy.learning", description=__doc__
    )
    parser.add_argument("names", nargs="*", help=f"of {', '.join(EXPERIMENTS)}; all without one")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where curves are written")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in EXPERIMENTS]
    if unknown:
        parser.error(f"no experiment is called {unknown[0]}; there are {', '.join(EXPERIMENTS)}")
    for name in arguments.names or EXPERIMENTS:
        experiment = EXPERIMENTS[name]
        for sizes in experiment.sizes:
            started, worked = time.monotonic(), time.process_time()
            made = regenerate(experiment, sizes, arguments.folder)
            spent = f"{time.monotonic() - started:.0f} s, {time.process_time() - worked:.0f} CPU s"
            print(f"\n{name}, (v, m, s, L) = {sizes}, {experiment.seeds} seeds: {spent}")
            print(made)
            for variable in made.data_vars.values():
                if not str(variable.name).endswith("_error"):
                    print(f"\n{variable.name}\n{variable.values.round(3)}")


if __name__ == "__main__":
    main()
