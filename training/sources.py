"""Raw material: public packages of digits, emoji, icons and fonts, fetched by name and unpacked.

npm and apt are used as they are configured on the machine. Fonts are downloaded and unpacked, never
installed. Only fonts whose Debian copyright file names a licence in ``ALLOWED_LICENCES`` are used.
"""

import json
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
NPM_PACKAGES = dict(line.split() for line in (HERE / "npm.txt").read_text().splitlines())

# Icon sets, and the split that each belongs to. A concept is drawn by many sets; those of val and
# test are used nowhere else.
ICON_SETS = {
    "pretrain": ["mdi", "tabler", "carbon", "fluent", "ph", "material-symbols", "lucide", "bi"],
    "train": ["ri", "mingcute", "ion", "solar"],
    "val": ["jam", "bx"],
    "test": ["iconoir", "uil", "heroicons", "octicon"],
}

FONT_PACKAGES = (HERE / "fonts.txt").read_text().split()

ALLOWED_LICENCES = {
    "OFL": r"\bOFL\b|open font licen[sc]e",
    "Apache-2.0": r"apache",
    "MIT": r"\bexpat\b|\bMIT\b",
    "CC0-1.0": r"\bCC0\b",
    "Bitstream-Vera": r"bitstream.?vera",
    "GUST": r"\bGUST\b|LPPL",
    "BSD": r"\bBSD\b",
    "public-domain": r"public.domain",
    "M+": r"m\+.?fonts|mplus",
    "IPA": r"\bIPA\b.*licen",
    "GPL with font exception": r"font.{0,40}exception|embed.{0,80}font|font-exception",
}


def fetch(folder: Path) -> None:
    """Download every package named above into ``folder`` with npm and apt; skips what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        f"{name}@{version}"
        for name, version in NPM_PACKAGES.items()
        if not (folder / "node_modules" / name).exists()
    ]
    if missing:
        if not (folder / "package.json").exists():
            (folder / "package.json").write_text('{"private": true}')
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", *missing], cwd=folder, check=True
        )
    debs, fonts = folder / "debs", folder / "fonts"
    debs.mkdir(exist_ok=True)
    fonts.mkdir(exist_ok=True)  # dpkg makes no parent folders
    for package in FONT_PACKAGES:
        if (fonts / package / "usr").exists():
            continue
        subprocess.run(["apt-get", "download", "-qq", package], cwd=debs, check=True)
        archive = next(debs.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", archive, fonts / package], check=True)


def font_licence(folder: Path, package: str) -> str | None:
    """The first allowed licence that the package's Debian copyright file names, or None."""
    text = ""
    for path in (folder / "fonts" / package / "usr/share/doc").glob("*/copyright*"):
        if path.suffix != ".gz":
            text += path.read_text(errors="replace")
    for name, pattern in ALLOWED_LICENCES.items():
        if re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return name
    return None


def icon_licence(folder: Path, name: str) -> str:
    """SPDX name of the licence that the icon set declares."""
    info = json.loads((folder / "node_modules/@iconify-json" / name / "info.json").read_text())
    return info["license"]["spdx"]
