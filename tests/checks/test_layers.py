"""The layer table holds for the tree, and the checker notices when it does not."""
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run_checker(*arguments):
    command = [sys.executable, ROOT / "tools" / "check_layers.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_tree_keeps_its_layers():
    result = run_checker()
    assert result.returncode == 0, result.stdout


def make_tree(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_an_include_that_points_up_is_found(tmp_path):
    make_tree(tmp_path, {"base/a.cpp": '#include "base/b.h"\n#include "engine/engine.h"\n', "engine/engine.h": ""})
    result = run_checker(tmp_path)
    assert result.returncode == 1
    assert "a.cpp:2: base/ must not include engine/" in result.stdout


def test_a_use_that_points_up_is_found(tmp_path):
    make_tree(tmp_path, {"models/CMakeLists.txt": "neutrino_library(models USES base server LIBS fmt::fmt)\n", "server/a.h": ""})
    result = run_checker(tmp_path)
    assert result.returncode == 1
    assert "models must not use server" in result.stdout


def test_a_folder_outside_the_table_is_found(tmp_path):
    make_tree(tmp_path, {"misc/a.h": ""})
    assert "not in the layer table" in run_checker(tmp_path).stdout
