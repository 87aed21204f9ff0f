#!/usr/bin/env bash
# tools/fuzz_gguf.sh [SECONDS]: libFuzzer on the GGUF reader under ASan + UBSan, from a corpus of small models.
# Needs clang >= 15 with its runtime (Debian: clang-16 libclang-rt-16-dev). The corpus stays in build/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

for version in 21 20 19 18 17 16 15; do
  if command -v "clang++-$version" >/dev/null; then compiler=clang++-$version && break; fi
done
if [[ -z ${compiler:-} ]]; then
  echo "fuzz_gguf: clang++ 15 or newer must be installed (apt install clang-16 libclang-rt-16-dev)" >&2
  exit 1
fi

cmake -S . -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS="-O1 -g -w" \
  -DNEUTRINO_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
cmake --build build/fuzz --target fuzz_gguf gguf_seeds
mkdir -p build/fuzz/corpus build/fuzz/crashes
build/fuzz/gguf_seeds build/fuzz/corpus
build/fuzz/fuzz_gguf build/fuzz/corpus -artifact_prefix=build/fuzz/crashes/ -max_total_time="$seconds" -max_len=65536 \
  -rss_limit_mb=512 -timeout=1 -print_final_stats=1
