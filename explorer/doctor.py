"""`explorer doctor`: what is installed, what is wrong with it, and what to do.

Each check yields findings; a finding that is not "ok" says what to do about it.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

DISTRIBUTION = "weight-explorer"
HUB_TIMEOUT_S = 3.0
LOW_MEMORY_GB = 1.5
MARGIN = 21


@dataclass(frozen=True)
class Finding:
    """One line of the report; `state` "fail" means that something will not work."""

    what: str
    state: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def report(file: Path | None = None) -> int:
    """Print every finding as it is made, about a file of weights or about the installation.

    Returns 1 if any of them is a failure, else 0.
    """
    states = []
    for finding in _all_findings(file):
        states.append(finding.state)
        print(_wrapped(f"{finding.state:<5} {finding.what:<14} ", finding.found), flush=True)
        if finding.remedy:
            print(_wrapped(" " * MARGIN + "-> ", finding.remedy), flush=True)
    failures, warnings = states.count("fail"), states.count("warn")
    if failures or warnings:
        print(f"\n{failures} to mend, {warnings} to know about.")
    else:
        print("\nAll is well.")
    return 1 if failures else 0


def _all_findings(file: Path | None) -> Iterator[Finding]:
    if file is not None:
        from explorer.doctor_file import file_findings

        yield from file_findings(file)
        return
    for check in CHECKS:
        yield from _findings(check)


def _wrapped(start: str, text: str) -> str:
    return textwrap.fill(
        text,
        width=max(60, shutil.get_terminal_size((100, 24)).columns),
        initial_indent=start,
        subsequent_indent=" " * max(MARGIN, len(start)),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check that itself breaks is a finding too: the others still run."""
    try:
        yield from check()
    except Exception as error:
        name = check.__name__.removeprefix("check_")
        yield Finding(
            name,
            "fail",
            f"the check stopped with {type(error).__name__}: {error}",
            "Please report this line, with the lines above it.",
        )


def check_python() -> Iterator[Finding]:
    """This program, its interpreter and its system."""
    from explorer import __version__

    yield Finding("explorer", "ok", f"{__version__} in {Path(__file__).parent}")
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("python", "ok", f"{platform.python_version()} ({sys.executable}), {system}")


def check_packages() -> Iterator[Finding]:
    """Every declared dependency against the versions declared with it."""
    from packaging.requirements import Requirement

    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "warn",
            f"{DISTRIBUTION} is not installed",
            "Install it: `make env` in the checkout, or `pip install -e .`.",
        )
        return
    requirements = [Requirement(line) for line in declared]
    wrong = []
    found = []
    for requirement in requirements:
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement} is missing")
            continue
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement} is wanted, {version} is installed")
    yield Finding("packages", "ok", ", ".join(found))
    for problem in wrong:
        yield Finding("packages", "fail", problem, "Run `make env`, or install that version.")


def check_torch() -> Iterator[Finding]:
    """torch and torchvision import together only when they come from the same index."""
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding("torch", "fail", f"does not import: {error}", "Run `make env` again.")
        return
    try:
        torchvision = importlib.import_module("torchvision")
        importlib.import_module("torchvision.ops")
    except Exception as error:
        yield Finding(
            "torchvision",
            "fail",
            f"does not import beside torch {torch.__version__}: {error}",
            "Install both from the same index: `make env`, or `make env TORCH=cpu` "
            "(pip: uninstall both, then install both in one command).",
        )
        return
    pair = f"torch {torch.__version__} with torchvision {torchvision.__version__}"
    yield Finding("torch", "ok", pair)
    yield from _device(torch)


def _device(torch) -> Iterator[Finding]:  # type: ignore[no-untyped-def]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            name = torch.cuda.get_device_name(index)
            yield Finding(
                "device",
                "ok",
                f"cuda:{index} {name}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free",
            )
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "device",
            "warn",
            "cpu: an NVIDIA driver is here, but this torch does not reach it",
            "Compare the driver's CUDA version (nvidia-smi) with torch.version.cuda "
            f"({torch.version.cuda}); `make env TORCH=auto` chooses a matching build.",
        )
    else:
        yield Finding("device", "ok", "cpu")
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    cores = f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"
    yield Finding("processor", "ok", f"{cores} (OMP_NUM_THREADS {threads})")


def check_memory() -> Iterator[Finding]:
    """Free memory, within the container's limit where there is one."""
    import psutil

    memory = psutil.virtual_memory()
    free, total = memory.available / 1e9, memory.total / 1e9
    limit = _container_limit_gb()
    if limit is not None and limit < total:
        used = psutil.Process().memory_info().rss / 1e9
        free, total = min(free, limit - used), limit
    found = f"{free:.1f} of {total:.1f} GB free"
    if free < LOW_MEMORY_GB:
        yield Finding(
            "memory",
            "warn",
            found,
            f"The app with the embedded models takes up to {LOW_MEMORY_GB} GB: "
            "stop other kernels (JupyterLab: Running Terminals and Kernels).",
        )
    else:
        yield Finding("memory", "ok", found)


def _container_limit_gb() -> float | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        path = Path(file)
        if path.is_file() and (text := path.read_text().strip()).isdecimal():
            return int(text) / 1e9
    return None


def check_zoo() -> Iterator[Finding]:
    """The models at hand: every file against the sha256 in its description."""
    from explorer.checkpoints.zoo import (
        diffusion_folders,
        folder_size,
        model_folders,
        read_folder,
        verify_diffusion,
    )
    from explorer.errors import ExplorerError

    remedy = "Restore the file (git checkout explorer/zoo) or install again."
    folders = model_folders()
    if not any(kind == "embedded" for kind, _ in folders.values()):
        yield Finding(
            "zoo", "fail", "no model is embedded", "The installation is incomplete: install again."
        )
    for name, (kind, path) in folders.items():
        try:
            folder = read_folder(path)
            folder.verify()
        except ExplorerError as error:
            yield Finding("zoo", "fail", f"{name} ({kind}): {error}", remedy)
        else:
            sums = f"every sha256 of {len(folder.card.get('sha256', {}))} files agrees"
            yield Finding("zoo", "ok", f"{name} ({kind}), {folder.size / 1e6:.1f} MB, {sums}")
    for name, path in diffusion_folders().items():
        try:
            files = verify_diffusion(path)
        except ExplorerError as error:
            yield Finding("zoo", "fail", f"{name} (diffusion): {error}", remedy)
        else:
            size = f"{folder_size(path) / 1e6:.1f} MB"
            sums = f"every sha256 of {files} files agrees"
            yield Finding("zoo", "ok", f"{name} (diffusion), {size}, {sums}")


def check_cache() -> Iterator[Finding]:
    """Where results are kept must be writable."""
    import platformdirs

    folder = Path(platformdirs.user_cache_dir("explorer"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".doctor"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        yield Finding(
            "cache",
            "warn",
            f"{folder} cannot be written ({error.strerror})",
            "Results are computed anew each time; set XDG_CACHE_HOME to a folder of yours.",
        )
    else:
        yield Finding("cache", "ok", str(folder))


def check_hub() -> Iterator[Finding]:
    """Whether the model hub answers. Nothing embedded needs it."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        yield Finding("hub", "ok", "not asked: HF_HUB_OFFLINE is set")
        return
    import urllib.error
    import urllib.request

    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):
            yield Finding("hub", "ok", f"{constants.ENDPOINT} answers")
    except urllib.error.HTTPError as error:
        yield Finding("hub", "ok", f"{constants.ENDPOINT} answers (status {error.code})")
    except OSError as error:
        reason = getattr(error, "reason", error)
        yield Finding(
            "hub",
            "warn",
            f"{constants.ENDPOINT} does not answer ({reason})",
            "The embedded models need no network. For models from the hub: check the connection, "
            "HTTPS_PROXY, or set HF_ENDPOINT to a mirror; HF_HUB_OFFLINE=1 stops asking.",
        )


def check_jupyter() -> Iterator[Finding]:
    """JupyterLab, and whether its python3 kernel is this interpreter's."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    version = metadata.version("jupyterlab")
    try:
        kernel = KernelSpecManager().get_kernel_spec("python3")
    except NoSuchKernel:
        yield Finding(
            "jupyter",
            "fail",
            f"JupyterLab {version} has no python3 kernel",
            f"{sys.executable} -m ipykernel install --sys-prefix",
        )
        return
    program = kernel.argv[0]
    if os.path.isabs(program) and not os.path.samefile(program, sys.executable):
        yield Finding(
            "jupyter",
            "warn",
            f"the kernel called python3 is another Python's: {program}",
            "`explorer lab` starts the right one; elsewhere set JUPYTER_PREFER_ENV_PATH=1.",
        )
    else:
        yield Finding("jupyter", "ok", f"JupyterLab {version}, kernel python3 is this Python")


def check_websocket() -> Iterator[Finding]:
    """Notebook and app talk to the browser through a websocket on the loopback address."""
    import asyncio

    try:
        asyncio.run(_echo_on_loopback())
    except (OSError, TimeoutError) as error:
        yield Finding(
            "websocket",
            "fail",
            f"no websocket on 127.0.0.1: {type(error).__name__} {error}",
            "A firewall or security program may close the loopback address to this Python.",
        )
    else:
        yield Finding("websocket", "ok", "a message went to 127.0.0.1 and back")


async def _echo_on_loopback() -> None:
    import asyncio

    from tornado.httpserver import HTTPServer
    from tornado.netutil import bind_sockets
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler, websocket_connect

    class Echo(WebSocketHandler):
        async def on_message(self, message: str | bytes) -> None:
            await self.write_message(message)

    sockets = bind_sockets(0, "127.0.0.1")
    port = sockets[0].getsockname()[1]
    server = HTTPServer(Application([("/", Echo)]))
    server.add_sockets(sockets)
    try:
        connection = await asyncio.wait_for(websocket_connect(f"ws://127.0.0.1:{port}/"), 5)
        await connection.write_message("hello")
        await asyncio.wait_for(connection.read_message(), 5)
        connection.close()
    finally:
        server.stop()


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    check_python,
    check_packages,
    check_memory,
    check_torch,
    check_zoo,
    check_cache,
    check_hub,
    check_jupyter,
    check_websocket,
)
