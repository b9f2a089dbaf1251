"""A page in headless Chromium: its DOM once scripts have run, or the pages that it prints."""

import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
)


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """The DOM after scripts have run, and what the browser said."""
    run = _run(page, profile, *flags, "--dump-dom")
    return run.stdout, run.stderr


def printed_on(page: Path, folder: Path) -> tuple[int, dict[str, int]]:
    """How many pages a page prints, and on which one (0, 1, ...) each place is that it has a link to, by its id."""
    _run(page, folder / "profile", f"--print-to-pdf={folder / 'printed.pdf'}")
    text = (folder / "printed.pdf").read_bytes().decode("latin-1")
    pages = [found[1] for found in re.finditer(r"(\d+) 0 obj\s*<</Type /Page\b(?!s)", text)]
    places = re.findall(r"/([\w-]+) \[(\d+) 0 R /XYZ", text)
    return len(pages), {name: pages.index(number) for name, number in places}


def with_script(page: Path, script: str) -> Path:
    text = page.read_text(encoding="utf-8")
    changed = page.with_name("scripted.html")
    changed.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return changed


def _run(page: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
