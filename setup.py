"""What setup.cfg cannot say: where the README's links lead on a package index, which has none of the files they name.

KDPROBE_URL is the address of the repository, as `make dist URL=https://...` gives it; without it links stay relative.
"""

import os
import re
from pathlib import Path

BRANCH = "main"
_RELATIVE = r"(?![a-z][a-z0-9+.-]*:|#)(?:\./)?"  # what a link to a file begins with: no address, no place in the page


def absolute_links(text: str, url: str) -> str:
    """Markdown whose relative links lead into a repository: those of pictures to their bytes, all others to its pages.

    Args:
        text: what is between lines of three backticks is code, and stays.
        url: of the repository.

    Raises:
        ValueError: if the address does not begin with https://.
    """
    if not url.startswith("https://"):
        raise ValueError(f"the address of the repository must begin with https://, but is {url!r}")
    parts = re.split(r"^(```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    base = url.rstrip("/")
    for place in range(0, len(parts), 2):
        pictures = re.sub(rf"(!\[[^\]]*\]\(){_RELATIVE}", rf"\g<1>{base}/raw/{BRANCH}/", parts[place])
        parts[place] = re.sub(rf"(\]\(){_RELATIVE}", rf"\g<1>{base}/blob/{BRANCH}/", pictures)
    return "".join(parts)


if __name__ == "__main__":
    from setuptools import setup

    if address := os.environ.get("KDPROBE_URL"):
        readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
        setup(long_description=absolute_links(readme, address), project_urls={"Source": address})
    else:
        setup()
