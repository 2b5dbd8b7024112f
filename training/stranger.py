"""Asks a process of its own, in which kakehashi cannot be imported, to load model folders and use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def ask_stranger(request: dict[str, Any]) -> dict[str, Any]:
    """Runs `load_without_kakehashi.py` in a fresh process.

    Args:
        request: What to load and ask, as that file describes.

    Raises:
        RuntimeError: If a folder does not load; the message ends with what the process said.
    """
    program = Path(__file__).with_name("load_without_kakehashi.py")
    with tempfile.TemporaryDirectory() as folder:
        request_file = Path(folder) / "request.json"
        request_file.write_text(json.dumps(request), encoding="utf-8")
        # Transformers copies a folder's code before it runs it: not into the user's cache, which would keep it.
        # What loads has to come from the folder: not from the Hub either.
        environment = {**os.environ, "HF_MODULES_CACHE": str(Path(folder) / "modules"), "HF_HUB_OFFLINE": "1"}
        finished = subprocess.run(
            # The answer holds Japanese, and a pipe on Windows would have none of it.
            [sys.executable, "-I", "-X", "utf8", str(program), str(request_file)],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=environment,
        )
    if finished.returncode:
        raise RuntimeError(f"a folder did not load without kakehashi: {finished.stderr[-2000:]}")
    return json.loads(finished.stdout)
