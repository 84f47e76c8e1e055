"""``python -m training STAGE [--work DIR]``; see the package docstring for the stages."""

import argparse
from pathlib import Path

STAGES = ["data", "pretrain", "finetune", "tangent", "evaluate", "pack"]
STAGES += ["diffusion", "diffusion_pack"]
STAGES += ["closed", "closed_finetune", "closed_pack"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--work", type=Path, default=Path("build/training"))
    args, rest = parser.parse_known_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage == "data":
        from . import data

        data.build(args.work)
    else:
        from importlib import import_module

        import_module(f".{args.stage}", __package__).main(args.work, rest)


if __name__ == "__main__":
    main()
