"""What the compiled kernels of a room do: its C++ without comments, and how it is compiled.

All instruction sets count, whichever this CPU runs.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

_TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|\s+|[^\s/\"']+|.", re.DOTALL)
_INCLUDE = re.compile(r'#\s*include\s*"([^"]+)"')
_COMMAND = re.compile(r"(\w+)\s*\(([^()]*)\)")
_SHARED = ("module.cpp", "threads.cpp")  # of all rooms
_KERNELS = Path("src/leandnn/kernels")


def digests(root: Path, room: str) -> dict[str, str]:
    """SHA-256 of what each file of kernels/<room>/cpu, of those that it includes, and the build do, by name.

    - root: of the repository. Empty for a room without C++, and where the sources are not there (an installed wheel).
    """
    kernels = (root / _KERNELS).resolve()
    own = sorted(path for path in (kernels / room / "cpu").glob("*") if path.is_file())
    if not own:
        return {}
    todo, texts = [*own, *(kernels / name for name in _SHARED)], {}
    while todo:
        path = todo.pop().resolve()
        if path in texts or not path.is_file():
            continue
        texts[path] = plain(path.read_text(encoding="utf-8"))
        included = [(path.parent / name).resolve() for name in _INCLUDE.findall(texts[path])]
        # module.cpp includes the bindings of every room.
        todo += [p for p in included if path.name not in _SHARED or p.parent == kernels]
    found = {path.relative_to(kernels).as_posix(): text for path, text in texts.items()}
    found["CMakeLists.txt"] = build(root, room)
    with (root / "pyproject.toml").open("rb") as stream:
        found["pyproject.toml"] = repr(
            sorted(tomllib.load(stream)["tool"]["scikit-build"].get("cmake", {}).items())
        )
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in found.items()}


def plain(text: str) -> str:
    """C++ without comments, white space that means nothing as one blank; the lines of directives stay lines."""
    lines = []
    for line in _without_comments(text).splitlines():
        words = line.split()
        if words:
            lines.append((" ".join(words), words[0].startswith("#")))
    parts: list[str] = []
    for line, directive in lines:
        parts.append(f"\n{line}\n" if directive else f"{line} ")
    return "".join(parts)


def _without_comments(text: str) -> str:
    return "".join(" " if part.startswith(("//", "/*")) else part for part in _TOKEN.findall(text))


def build(root: Path, room: str) -> str:
    """The commands of CMakeLists.txt that make a room: without comments, and without the files of other rooms."""
    text = re.sub(r"#[^\n]*", "", (root / "CMakeLists.txt").read_text(encoding="utf-8"))
    rooms = {path.name for path in (root / _KERNELS).iterdir() if (path / "cpu").is_dir()} - {room}
    kept = []
    for name, words in _COMMAND.findall(text):
        arguments = words.split()
        own = [a for a in arguments if not any(f"/{other}/" in a or a == other for other in rooms)]
        files = [a for a in arguments if a.endswith((".cpp", ".inc"))]
        if files and not [a for a in own if a in files]:
            continue  # of other rooms alone
        kept.append(f"{name}({' '.join(own)})")
    return "\n".join(kept)
