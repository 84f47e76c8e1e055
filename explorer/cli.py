"""The command line: `explorer lab | app | zoo | map | merge | bench | doctor`.

Only the standard library is imported here at the top: `explorer --help` answers at once, and each
command imports what it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from explorer import __version__, zoo_commands
from explorer.errors import ExplorerError

FIRST_TUTORIAL = "00-start-here.ipynb"
PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent
_LOOPBACK = ("127.0.0.1", "localhost", "::1")  # as in explorer.app.serve, without importing it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; a mistake is one sentence on stderr."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except ExplorerError as error:
        print(f"explorer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="explorer", description="See how neural networks can be edited, live."
    )
    parser.add_argument("--version", action="version", version=f"explorer {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    lab = commands.add_parser("lab", help="open JupyterLab on the first tutorial")
    lab.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="copy the tutorials here and work on the copies (files already there are kept)",
    )
    lab.add_argument("--port", type=_port, default=8888, help="first port to try (8888)")
    lab.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    lab.set_defaults(run=_lab)

    app = commands.add_parser("app", help="serve the app on its own page")
    app.add_argument("model", nargs="?", default="", help="model to open first: a name or a folder")
    app.add_argument("--address", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    app.add_argument("--port", type=_port, help="port (5006, or a free one where that is taken)")
    app.add_argument(
        "--no-browser", "--no-show", action="store_true", help="print the address, open nothing"
    )
    app.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="a further host that the page may be reached under, for example behind a proxy",
    )
    app.add_argument(
        "--workshop",
        action="store_true",
        help="for many people at once: they take turns; no uploads; password in PANEL_BASIC_AUTH",
    )
    app.set_defaults(run=_app)

    zoo_commands.add_parser(commands)

    error_map = commands.add_parser("map", help="compute the disentanglement map of two tasks")
    error_map.add_argument("tasks", nargs=2, metavar="TASK", help="two tasks with a vector")
    error_map.add_argument("--model", default="glyphs", help="a name or a folder (glyphs)")
    error_map.add_argument("--space", default="weights", help="weights, posthoc or tangent")
    error_map.add_argument("--n", type=int, default=2048, help="images a task, at most (2048)")
    error_map.add_argument("--points", type=int, default=21, help="points an axis (21)")
    error_map.add_argument(
        "--range",
        nargs=2,
        type=float,
        default=(-3.0, 3.0),
        metavar=("LOW", "HIGH"),
        help="of both coefficients (-3 3)",
    )
    error_map.add_argument("--seed", type=int, default=0, help="draws the images (0)")
    error_map.add_argument("--schedule", help="of the edit over depth, such as lines:0.2,0.8")
    error_map.add_argument("--method", default="task_arithmetic", help="merges the two vectors")
    error_map.add_argument("-o", "--output", type=Path, help="file.nc (NetCDF) to write")
    error_map.add_argument("--force", action="store_true", help="write over a file that is there")
    error_map.set_defaults(run=_map)

    merge = commands.add_parser("merge", help="write the model that a recipe describes")
    merge.add_argument("recipe", type=Path, help="recipe file (JSON), as saved from the app")
    merge.add_argument("-o", "--output", type=Path, required=True, help="file.safetensors to write")
    merge.add_argument("--layout", choices=("open_clip", "huggingface"), default="open_clip")
    merge.add_argument(
        "--card", action=argparse.BooleanOptionalAction, default=True, help="model card (default)"
    )
    merge.add_argument("--accuracy", action="store_true", help="measure it for the card")
    merge.add_argument("--force", action="store_true", help="write over files that are there")
    merge.set_defaults(run=_merge)

    bench = commands.add_parser("bench", help="measure merging, evaluation, opening and memory")
    bench.add_argument("--quick", action="store_true", help="fewer repetitions")
    bench.add_argument("names", nargs="*", help="only these benchmarks")
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser("doctor", help="what is installed, what is wrong, what to do")
    doctor.add_argument("file", nargs="?", type=Path, help="what this file of weights is, instead")
    doctor.set_defaults(run=_doctor)
    return parser


def _port(text: str) -> int:
    if text.isdecimal() and 0 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")


def _lab(arguments: argparse.Namespace) -> int:
    root, notebook = _tutorials(arguments.folder)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{notebook.relative_to(root).as_posix()}",
        f"--ServerApp.port={arguments.port}",
    ]
    if arguments.no_browser:
        command.append("--no-browser")
    if getattr(os, "geteuid", lambda: 1)() == 0:
        # In a container one is root, and JupyterLab would refuse to start.
        command.append("--allow-root")
    try:
        return subprocess.call(command, env=_lab_environment())
    except KeyboardInterrupt:
        return 0


def _lab_environment() -> dict[str, str]:
    """Panel's scripts inside the notebook (no CDN), this environment's kernel, no news pop-up."""
    config_path = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(PACKAGE / "jupyter_config")]
    return os.environ | {
        "PANEL_INLINE": "true",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_PATH": os.pathsep.join(filter(None, config_path)),
    }


def _tutorials(folder: Path | None) -> tuple[Path, Path]:
    """(folder JupyterLab shows, the first tutorial in it).

    In a checkout the tutorials are opened where they are. An installed package has them among its
    own files, which are nobody's to edit: they are copied to a folder of the user's own.
    """
    in_checkout = CHECKOUT / "notebooks"
    if folder is None and in_checkout.is_dir():
        return CHECKOUT, in_checkout / FIRST_TUTORIAL
    originals = in_checkout if in_checkout.is_dir() else PACKAGE / "notebooks"
    target = (folder or Path("explorer-notebooks")).resolve()
    try:
        (target / "images").mkdir(parents=True, exist_ok=True)
        for original in sorted([*originals.glob("*.ipynb"), *originals.glob("images/*.png")]):
            copy = target / original.relative_to(originals)
            if not copy.exists():
                copy.write_bytes(original.read_bytes())
    except OSError as error:
        raise ExplorerError(
            f"The tutorials cannot be copied to {target} ({error.strerror}); "
            "name a folder you may write to: explorer lab FOLDER"
        ) from error
    return target, target / FIRST_TUTORIAL


def _app(arguments: argparse.Namespace) -> int:
    port = _free_port(arguments.address, arguments.port)
    host = "localhost" if arguments.address in ("127.0.0.1", "0.0.0.0", "::") else arguments.address
    # Who can reach the app may have it download, and only this machine's people should.
    os.environ.setdefault("EXPLORER_PULL", "1" if arguments.address in _LOOPBACK else "0")
    print(f"The app opens on http://{host}:{port} (Ctrl+C stops it)", flush=True)

    from explorer.app.serve import serve

    serve(
        address=arguments.address,
        port=port,
        show=not arguments.no_browser,
        origins=tuple(arguments.origin),
        model=arguments.model,
        workshop=arguments.workshop,
    )
    return 0


def _free_port(address: str, wanted: int | None) -> int:
    """The port asked for if it is free; without a wish 5006, or any free one."""
    import socket

    for port in (5006, 0) if wanted is None else (wanted,):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((address, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise ExplorerError(
        f"Nothing can listen on {address}:{wanted if wanted is not None else 5006}; "
        "another program may be using the port: choose another with --port, or leave --port out."
    )


def _map(arguments: argparse.Namespace) -> None:
    if arguments.output:
        _check_output(arguments.output, arguments.force, ".nc", "NetCDF")
    if arguments.points < 1:
        raise ExplorerError(f"A map has 1 point an axis or more, not {arguments.points}.")

    import numpy as np

    import explorer as ex

    low, high = arguments.range
    schedule = ex.Schedule.from_text(arguments.schedule) if arguments.schedule else None
    model = ex.open_model(arguments.model)
    run = ex.disentanglement(
        model,
        arguments.tasks,
        np.linspace(low, high, arguments.points),
        n=arguments.n,
        space=arguments.space,
        schedule=schedule,
        seed=arguments.seed,
        method=arguments.method,
    )
    found = run.result()
    if arguments.output:
        try:
            found.to_netcdf(arguments.output, engine="h5netcdf")
        except OSError as error:
            raise ExplorerError(f"{arguments.output} could not be written: {error}") from error
    summary = ex.disentanglement_summary(found)
    images = " and ".join(map(str, found["n"].values))
    print(f"{run.title} in {model.family}: {found.attrs['resolution']}, {images} images")
    for region in summary["region"].values:
        part = summary.sel(region=region)
        terms = ", ".join(f"{t} {float(part['error'].sel(task=t)):.3f}" for t in arguments.tasks)
        print(f"  {region} ({int(part['cells'])} cells): {float(part['mean_error']):.3f} ({terms})")
    print(f"  {found.attrs['stored']}" + (f", {arguments.output}" if arguments.output else ""))


def _merge(arguments: argparse.Namespace) -> None:
    output = arguments.output
    _check_output(output, arguments.force, ".safetensors", "safetensors")

    import explorer as ex
    from explorer.checkpoints.exporting import files_beside

    files = files_beside(output, arguments.card)
    for file in files[1:]:
        _check_output(file, arguments.force, file.suffix, "text")
    recipe = ex.Recipe.from_json(_text(arguments.recipe))
    model = ex.open_model(recipe.base)
    measured = None
    if arguments.accuracy:
        measured = ex.accuracy(model, recipe)
    ex.export(
        model,
        recipe,
        output,
        layout=arguments.layout,
        overwrite=arguments.force,
        card=arguments.card,
        accuracy=measured,
    )
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB in the layout of {arguments.layout}")
    print("with " + " and ".join(file.name for file in files[1:]))
    if measured is not None:
        mean = float(measured["edited"].mean())
        print(f"mean accuracy on {len(measured['task'])} tasks: {mean:.3f}")


def _check_output(output: Path, overwrite: bool, suffix: str, kind: str) -> None:
    if output.suffix != suffix:
        raise ExplorerError(f"The output is a {kind} file: give it as {output.stem}{suffix}")
    if not output.parent.is_dir():
        raise ExplorerError(f"There is no folder {output.parent} to write {output.name} to.")
    if output.exists() and not overwrite:
        raise ExplorerError(f"{output} exists; choose another name, or --force to write over it.")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise ExplorerError(f"The recipe {path} cannot be read: {reason}.") from error


def _bench(arguments: argparse.Namespace) -> int:
    if not (CHECKOUT / "benchmarks").is_dir():
        raise ExplorerError(
            "The benchmarks are in the source repository, not in the installed package: "
            "clone it and run `make bench` there."
        )
    quick = ["--quick"] if arguments.quick else []
    command = [sys.executable, "-m", "benchmarks", *quick, *arguments.names]
    return subprocess.call(command, cwd=CHECKOUT)


def _doctor(arguments: argparse.Namespace) -> int:
    from explorer.doctor import report

    return report(arguments.file)


if __name__ == "__main__":
    sys.exit(main())
