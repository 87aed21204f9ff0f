// The tile instructions, for a CPU with AMX-INT8. Included by a kernel file inside its unnamed namespace.
//
// They are written as assembly because the intrinsics of g++ 12 take a tile's number as a literal only (it becomes part of the
// instruction's text) and do not tell the compiler that a load or store touches memory. What is volatile keeps its order.

inline void configure_tiles(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }

// Back to the initial state, in which a context switch has no tiles to save and a core may sleep deeply.
inline void release_tiles() { asm volatile("tilerelease" ::: "memory"); }

template <int tile>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}

// A row of the tile every `stride` bytes.
template <int tile>
inline void load_tile(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(tile) : "memory");
}
template <int tile>
inline void store_tile(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(tile) : "memory");
}

// c[m][n] += sum over i of a[m][i] * b[i / 4][4 n + i % 4], in int32; the letters say whether the bytes of a and of b are
// signed.
template <int c, int a, int b>
inline void multiply_ss() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
template <int c, int a, int b>
inline void multiply_su() {
  asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
template <int c, int a, int b>
inline void multiply_us() {
  asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
template <int c, int a, int b>
inline void multiply_uu() {
  asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}

// c[m][n] += even + odd in float32: the sums of a[m][2 i] * b[i][2 n] and of a[m][2 i + 1] * b[i][2 n + 1] over the pairs i of
// bfloat16, each a chain of fused multiply-adds from zero. Rounds to nearest; denormals count as zero.
template <int c, int a, int b>
inline void multiply_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(c), "i"(a), "i"(b));
}
