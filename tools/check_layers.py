#!/usr/bin/env python3
"""Keeps the layer table of ARCHITECTURE.md true.

An include points down the table or stays in its own folder; so do the USES of a folder's CMakeLists.txt. Prints each
violation as `file:line: ...` and exits with 1 if there is one.
"""
import pathlib
import re
import sys

# folder: what it may include besides itself. cli and main.cpp may include everything.
MAY_INCLUDE = {
    "base": "",
    "compute": "base",
    "tokenizer": "base",
    "text": "base",
    "net": "base",
    "store": "base",
    "weights": "compute tokenizer net base",
    "chat": "tokenizer net text base",
    "models": "weights compute base",
    "guard": "chat net base",
    "synth": "chat base",
    "sandbox": "chat net base",
    "cloud": "chat net store base",
    "engine": "models weights chat tokenizer text compute base",
    "tune": "models weights chat tokenizer compute base",
    "server": "engine models weights guard chat tokenizer text net base",
}
ANYTHING = {"cli", "main.cpp"}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"/]+)/[^"]+"', re.MULTILINE)
USES = re.compile(r"\bUSES\s+([^)]*?)(?:\bLIBS\b|\))", re.DOTALL)


def allowed(folder):
    return {folder, *MAY_INCLUDE.get(folder, "").split()}


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_includes(path, folder, folders):
    text = path.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        target = match.group(1)
        if target in folders and target not in allowed(folder):
            yield f"{path}:{line_of(text, match.start())}: {folder}/ must not include {target}/"


def check_uses(path, folder):
    text = path.read_text(encoding="utf-8")
    for match in USES.finditer(text):
        for target in match.group(1).split():
            if target not in allowed(folder):
                yield f"{path}:{line_of(text, match.start())}: {folder} must not use {target}"


def check_tree(source):
    folders = {entry.name for entry in source.iterdir() if entry.is_dir()}
    for folder in sorted(folders - set(MAY_INCLUDE) - ANYTHING):
        yield f"{source / folder}: not in the layer table of tools/check_layers.py"
    for path in sorted(source.rglob("*")):
        folder = path.relative_to(source).parts[0]
        if folder in ANYTHING or folder not in folders:
            continue
        if path.suffix in {".h", ".cpp", ".inl"}:
            yield from check_includes(path, folder, folders)
        elif path.name == "CMakeLists.txt":
            yield from check_uses(path, folder)


def main():
    default = pathlib.Path(__file__).resolve().parent.parent / "src"
    violations = list(check_tree(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default))
    print("\n".join(violations), end="\n" if violations else "")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
