"""What kdprobe sees right, refuses and gets wrong of every family of timm's and torchvision's classifiers.

    make bench-families        # about 5 minutes on one core; goes on where it was interrupted

One small network of random weights each, two images of the smallest size that it takes. For each: `stages` are
captured, and the network is run on other images with each stage's output replaced by the captured one, which must give
the first images' logits (a *cut*); `gap` and `tokens` are compared with timm's own `forward_intermediates`, or with
where a disturbance of a corner of the images shows; `cls` with the first token of networks that have one; `complexity`
with torch's counter on the network itself. The table goes to docs/reference/networks.md.
"""

import json
import time
import traceback
import warnings
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision

from tests.families import TORCHVISION, build, build_torchvision, count, look_at, smallest

ROOT = Path(__file__).parent.parent.parent
KEPT = ROOT / "build" / "families"
ASKED = ("stages", "gap", "tokens", "cls", "complexity")
HEAD = """# Networks

What `capture` and `complexity` make of one small network of every family of timm's and torchvision's classifiers,
with random weights, on two images; written by `make bench-families` with timm {timm}, torchvision {torchvision} and
torch {torch}.

* **stages**: how many, the first and the last one. From each of them the rest of the network was run alone and gave the
  same logits, but where *no cut* stands: there, later layers also use something else (branches, hidden states).
* **gap**, **tokens**: compared with timm's own maps, or with where a disturbance of a corner of the images shows.
* **cls**: *none* where no class token is among the tokens of the stages; it is then refused.
* **complexity**: parameters and operations equal those that torch counts on the network itself.

Other layers than stages: a layer whose output's dimensions are not known is refused by `gap`, `tokens` and `cls`;
`flatten`, `whole` and functions of one's own take every layer.

"""


def look(key: str) -> dict[str, Any]:
    """One network, from the file of an earlier run where there is one."""
    path = KEPT / f"{key.replace(':', '-')}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    family = key.removeprefix("torchvision:")
    started = time.process_time()
    try:
        model, images, logits = (build_torchvision if family != key else build)(family)
        seen = look_at(model, images, logits)
        count(model, images, seen)
        found = {**asdict(seen), "size": images.shape[-1], "name": family if family != key else smallest(family)}
    except Exception:  # a crash is what this looks for
        found = {"wrong": {"all": traceback.format_exc()[-400:]}, "name": family}
    found["seconds"] = round(time.process_time() - started, 1)
    path.write_text(json.dumps(found, indent=1))
    return found


def verdict(found: dict[str, Any], what: str) -> str:
    """Right, refused or wrong."""
    if what in found["wrong"] or "all" in found["wrong"]:
        return "wrong"
    if what in found["refused"]:
        return "none" if what == "cls" and "no class token" in found["refused"][what] else "refused"
    if "stages" in found["refused"] and what != "complexity":
        return "refused"
    return "yes"


def row(key: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    stages, cells = found.get("stages", []), {what: verdict(found, what) for what in ASKED}
    if cells["stages"] == "yes":
        ends = f"{len(stages)}: `{stages[0]}` ... `{stages[-1]}`"
        cells["stages"] = ends + (", no cut" if found["not_cuts"] else "")
    layouts = ", ".join(dict.fromkeys(found.get("layouts", {}).values()))
    told = [key, f"`{found['name']}`", str(found.get("size", "")), cells["stages"], layouts]
    return f"| {' | '.join([*told, *(cells[what] for what in ASKED[1:])])} |"


def main() -> None:
    """Look at all networks and write the table."""
    warnings.simplefilter("ignore")
    KEPT.mkdir(parents=True, exist_ok=True)
    keys = [*timm.list_modules(), *(f"torchvision:{name}" for name in TORCHVISION)]
    rows, counts = [], {what: Counter[str]() for what in ASKED}
    for key in keys:
        found = look(key)
        rows.append(row(key, found))
        for what in ASKED:
            counts[what][verdict(found, what)] += 1
        for what, reason in {**found["wrong"], **found.get("refused", {})}.items():
            if verdict(found, what) in ("wrong", "refused"):
                print(f"{key}: {what}: {verdict(found, what)}: {reason}")
    lines = ["| asked for | right | refused | there is none | wrong |", "|---|---|---|---|---|"]
    for what, of in counts.items():
        lines.append(f"| {what} | {of['yes']} | {of['refused']} | {of['none']} | {of['wrong']} |")
    head = "| family | network | pixels | stages | layouts | gap | tokens | cls | complexity |\n" + "|---" * 9 + "|"
    versions = {module.__name__: module.__version__ for module in (timm, torchvision, torch)}
    text = HEAD.format(**versions) + "\n".join([*lines, "", head, *rows]) + "\n"
    (ROOT / "docs" / "networks.md").write_text(text, encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
