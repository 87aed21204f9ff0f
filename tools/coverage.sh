#!/usr/bin/env bash
# tools/coverage.sh: line coverage of the weight-file reader by its own tests (gcov), per file and in all.
# Builds with --coverage in build/coverage. Exits with 1 below 90 %.
set -euo pipefail
cd "$(dirname "$0")/.."
reader="reader.cpp reader.h gguf.cpp gguf_keys.cpp gguf_metadata.cpp gguf_metadata.h gguf_vocabulary.cpp formats.cpp weight_file.cpp"

cmake -S . -B build/coverage -G Ninja -DCMAKE_CXX_FLAGS="-O0 -g --coverage" -DCMAKE_C_FLAGS="-O0 -g --coverage" >/dev/null
cmake --build build/coverage --target weights_test
find build/coverage -name '*.gcda' -delete
build/coverage/tests/weights_test --gtest_brief=1 --gtest_filter='Gguf*:Formats*'

cd build/coverage
find src/weights -name '*.gcda' -print0 | xargs -0 gcov --json-format --stdout --relative-only --source-prefix "$OLDPWD" 2>/dev/null |
  python3 -c '
import json, sys
names, lines = sys.argv[1].split(), {}
for report in map(json.loads, sys.stdin):
    for file in report["files"]:
        name = file["file"].rsplit("/", 1)[-1]
        if "src/weights/" + name in file["file"] and name in names:
            for line in file["lines"]:
                key = (name, line["line_number"])
                lines[key] = lines.get(key, 0) + line["count"]
total = covered = 0
for name in names:
    counts = [count for (file, _), count in lines.items() if file == name]
    hit = sum(count > 0 for count in counts)
    total, covered = total + len(counts), covered + hit
    missed = sorted(number for (file, number), count in lines.items() if file == name and count == 0)
    print(f"{name:24} {hit:4} of {len(counts):4} lines" + (f", not {missed}" if missed else ""))
print(f"reader                   {covered:4} of {total:4} lines: {100 * covered / total:.1f} %")
sys.exit(covered < 0.9 * total)
' "$reader"
