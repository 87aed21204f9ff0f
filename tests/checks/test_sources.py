"""The sources are formatted, carry no debug marker, and the lock files name no registry."""
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def tracked(*patterns):
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).exists()]


def test_the_sources_are_formatted():
    formatter = pathlib.Path(sys.executable).parent / "clang-format"
    sources = tracked("src/*.h", "src/*.cpp", "src/*.inl")
    result = subprocess.run([formatter, "--dry-run", "-Werror", *sources], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[:4000]


def test_no_debug_marker_is_left():
    marker = "DO NOT " + "COMMIT"  # split, so that this file does not hold it
    held = [str(path) for path in tracked("*") if path.is_file() and marker in path.read_text(encoding="utf-8", errors="replace")]
    assert not held


@pytest.mark.parametrize("name", ["tests/e2e/package-lock.json"])
def test_lock_files_name_no_registry(name):
    assert not re.search(r"https?://", (ROOT / name).read_text(encoding="utf-8"))


def test_no_source_file_is_too_long():
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in tracked("src/*.h", "src/*.cpp", "src/*.inl")}
    assert not {name: count for name, count in lines.items() if count > 700}


def computes_a_tensor_size(text):
    return re.search(r"checked_mul\([^;]*\.block_bytes\b(?!\()|\*\s*\w+\.block_bytes\b(?!\()", text) is not None


def test_the_size_of_a_tensor_is_computed_in_one_place():
    """T-GGUF-03: a second copy of the formula is the one that misses the overflow check."""
    sources = [path for path in tracked("src/*.h", "src/*.cpp") if not path.name.endswith("_test.cpp") and path.parent.name != "testing"]
    places = [str(path.relative_to(ROOT)) for path in sources if computes_a_tensor_size(path.read_text(encoding="utf-8"))]
    assert places == ["src/compute/dtype.cpp"]
    assert computes_a_tensor_size("rows * (columns / 32) * info.block_bytes")
