"""Where a run happens and with which versions."""

import os
import platform
import subprocess
from typing import Any

from kdprobe.provenance import provenance


def environment() -> dict[str, Any]:
    """Where a run happens and with which versions."""
    facts = {"platform": platform.platform(), "processors": os.cpu_count(), "git": git_state()}
    return provenance(**facts)


def git_state() -> str | None:
    """Commit of the working folder, with `-dirty` where files are changed; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
