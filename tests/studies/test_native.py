"""What compiled kernels do, read from a small folder of C++: code and flags count, comments and other rooms do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from leandnn.studies import native

KERNELS = "src/leandnn/kernels/"
FILES = {
    "CMakeLists.txt": """
# how it is built
add_compile_options(-O3 -ffp-contract=off)
pybind11_add_module(_native src/leandnn/kernels/module.cpp src/leandnn/kernels/one/cpu/sum.cpp
  src/leandnn/kernels/two/cpu/product.cpp)
set_source_files_properties(src/leandnn/kernels/two/cpu/product.cpp PROPERTIES COMPILE_OPTIONS -mavx2)
set_source_files_properties(src/leandnn/kernels/one/cpu/sum.cpp PROPERTIES COMPILE_OPTIONS -mavx512f)
""",
    "pyproject.toml": '[tool.scikit-build]\nwheel.cmake = true\n[tool.scikit-build.cmake]\nbuild-type = "Release"\n',
    KERNELS
    + "module.cpp": '#include "one/cpu/sum.hpp"\n#include "two/cpu/product.hpp"\nint module() { return 0; }\n',
    KERNELS + "threads.cpp": "int threads() { return 1; }\n",
    KERNELS + "shared.hpp": "constexpr int WIDTH = 16;  // of a panel\n",
    KERNELS + "one/cpu/sum.hpp": '#include "../../shared.hpp"\n/* a sum */ float sum(const float *x);\n',
    KERNELS
    + "one/cpu/sum.cpp": '#include "sum.hpp"\nfloat sum(const float *x) { return x[0] + x[1]; }  // here\n',
    KERNELS + "one/cpu/said.cpp": 'const char *said() { return "// no comment"; }\n',
    KERNELS + "two/cpu/product.hpp": "float product();\n",
    KERNELS + "two/cpu/product.cpp": "float product() { return 2; }\n",
}


def digests(root: Path, name: str = "", old: str = "", new: str = "", room: str = "one") -> dict[str, str]:
    """Of a room, after an edit of one file."""
    for file, text in FILES.items():
        if file == name:
            assert old in text
            text = text.replace(old, new, 1)
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return native.digests(root, room)


def test_a_room_has_its_files_what_they_include_and_the_build(tmp_path: Path):
    assert set(digests(tmp_path)) == {
        "one/cpu/sum.hpp", "one/cpu/sum.cpp", "one/cpu/said.cpp", "shared.hpp", "module.cpp", "threads.cpp",
        "CMakeLists.txt", "pyproject.toml",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("shared.hpp", "// of a panel", "// of something else"),
        ("one/cpu/sum.hpp", "/* a sum */", "/* said\n * otherwise */"),
        ("one/cpu/sum.cpp", "{ return x[0] + x[1]; }", "{\n    return x[0] + x[1];\n}"),
        ("one/cpu/sum.cpp", "// here", ""),
        ("two/cpu/product.cpp", "return 2", "return 3"),
        ("two/cpu/product.hpp", "float product", "double product"),
        ("CMakeLists.txt", "# how it is built", "# said otherwise"),
        ("CMakeLists.txt", "-mavx2", "-mfma"),
        ("pyproject.toml", "wheel.cmake = true\n", ""),
    ],
)
def test_what_compiles_to_the_same_changes_no_digest(tmp_path: Path, name: str, old: str, new: str):
    path = name if name.endswith((".txt", ".toml")) else KERNELS + name
    assert digests(tmp_path, path, old, new) == digests(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "where"),
    [
        ("shared.hpp", "16", "8", "shared.hpp"),
        ("one/cpu/sum.cpp", "x[0] + x[1]", "x[1] + x[0]", "one/cpu/sum.cpp"),
        ("one/cpu/said.cpp", "// no comment", "// a comment", "one/cpu/said.cpp"),
        ("threads.cpp", "return 1", "return 2", "threads.cpp"),
        ("CMakeLists.txt", "-ffp-contract=off", "-ffp-contract=fast", "CMakeLists.txt"),
        ("CMakeLists.txt", "-mavx512f", "-mavx512bf16", "CMakeLists.txt"),
        ("CMakeLists.txt", "-O3", "-O3 -ffast-math", "CMakeLists.txt"),
        ("pyproject.toml", "Release", "Debug", "pyproject.toml"),
    ],
)
def test_what_may_compute_otherwise_changes_a_digest(
    tmp_path: Path, name: str, old: str, new: str, where: str
):
    path = name if name.endswith((".txt", ".toml")) else KERNELS + name
    before, after = digests(tmp_path), digests(tmp_path, path, old, new)
    assert {key for key in before if before[key] != after[key]} == {where}


def test_a_room_without_sources_is_empty(tmp_path: Path):
    assert digests(tmp_path, room="three") == {}


def test_the_rooms_of_the_repository_are_read():
    root = Path(__file__).parents[2]
    for room in ("panels", "rounding", "huffman"):
        found = native.digests(root, room)
        assert any(name.endswith(".hpp") for name in found)
        assert "CMakeLists.txt" in found
    assert "panels/cpu/scratch.hpp" in native.digests(root, "huffman"), "included there"
