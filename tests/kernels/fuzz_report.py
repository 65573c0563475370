"""Results of fuzz_huffman as one file, with the machine and the commit; tools/fuzz runs this.

Arguments: --reference, to write reference/<machine>/fuzz-huffman.json and not build/fuzz/fuzz-huffman.json; results.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from leandnn import paths
from leandnn.files import write_json
from leandnn.machine import card

SOURCES = ("src/leandnn/huffman", "src/leandnn/kernels", "tests/kernels")


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=paths.ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def main() -> None:
    results = [Path(name) for name in sys.argv[1:] if name != "--reference"]
    folder = paths.REFERENCE / card.name() if "--reference" in sys.argv else results[0].parent
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *SOURCES)
    target = folder / "fuzz-huffman.json"
    write_json(
        target,
        {
            "machine": card.read(),
            "commit": git("rev-parse", "HEAD") + (" and changes" if changed else ""),
            "runs": [json.loads(path.read_text()) for path in results],
        },
    )
    print(f"fuzz: written to {paths.relative(target)}")


if __name__ == "__main__":
    main()
