// The functions of tiles_amx.inl in plain C++: the operations of Intel's manual, tile registers per thread. What would raise
// an exception on a CPU ends the process. Included inside an unnamed namespace.

struct EmulatedTiles {
  TileConfig config;
  uint8_t bytes[kTiles][kTileRows][kTileRowBytes];
  bool configured;
};

inline EmulatedTiles& emulated_tiles() {
  thread_local EmulatedTiles tiles = {};
  return tiles;
}

inline void require(bool condition) {
  if (!condition) __builtin_trap();
}

inline int rows_of(int tile) { return emulated_tiles().config.rows[tile]; }
inline int row_bytes_of(int tile) { return emulated_tiles().config.row_bytes[tile]; }
inline void require_used(int tile) { require(emulated_tiles().configured && rows_of(tile) > 0); }

// LDTILECFG: #GP for a configuration that is not allowed; all tiles become zero.
inline void configure_tiles(const TileConfig& config) {
  require(config.palette == 1);
  for (const uint8_t byte : config.reserved) require(byte == 0);
  for (int t = 0; t < 16; ++t) {
    require(config.row_bytes[t] <= kTileRowBytes && config.rows[t] <= kTileRows);
    require((config.row_bytes[t] == 0) == (config.rows[t] == 0));
    require(t < kTiles || config.rows[t] == 0);
  }
  EmulatedTiles& tiles = emulated_tiles();
  tiles = {};
  tiles.config = config;
  tiles.configured = true;
}

inline void release_tiles() { emulated_tiles() = {}; }

template <int tile>
inline void zero_tile() {
  require_used(tile);
  __builtin_memset(emulated_tiles().bytes[tile], 0, kTileBytes);
}

// What the shape leaves out of the register becomes zero.
template <int tile>
inline void load_tile(const void* p, int64_t stride) {
  require_used(tile);
  __builtin_memset(emulated_tiles().bytes[tile], 0, kTileBytes);
  for (int r = 0; r < rows_of(tile); ++r)
    __builtin_memcpy(emulated_tiles().bytes[tile][r], static_cast<const uint8_t*>(p) + r * stride,
                     static_cast<size_t>(row_bytes_of(tile)));
}

template <int tile>
inline void store_tile(void* p, int64_t stride) {
  require_used(tile);
  for (int r = 0; r < rows_of(tile); ++r)
    __builtin_memcpy(static_cast<uint8_t*>(p) + r * stride, emulated_tiles().bytes[tile][r],
                     static_cast<size_t>(row_bytes_of(tile)));
}

// #UD unless the three tiles differ and their shapes fit: c (m, n), a (m, k), b (k, n), k and n in groups of four bytes.
inline void require_product(int c, int a, int b) {
  require(c != a && c != b && a != b);
  require_used(c), require_used(a), require_used(b);
  require(row_bytes_of(c) % 4 == 0 && row_bytes_of(a) % 4 == 0 && row_bytes_of(b) % 4 == 0);
  require(rows_of(c) == rows_of(a) && row_bytes_of(c) == row_bytes_of(b) &&
          row_bytes_of(a) / 4 == rows_of(b));
}

// A is the type of a's bytes, B that of b's. The sums wrap around, as those of int32 lanes do.
template <typename A, typename B>
inline void multiply_tiles(int c, int a, int b) {
  require_product(c, a, b);
  auto& bytes = emulated_tiles().bytes;
  const int columns = row_bytes_of(c) / 4;
  for (int m = 0; m < rows_of(c); ++m) {
    uint32_t sums[kTileRowBytes / 4] = {};
    __builtin_memcpy(sums, bytes[c][m], kTileRowBytes);
    for (int k = 0; k < row_bytes_of(a) / 4; ++k)
      for (int n = 0; n < columns; ++n)
        for (int i = 0; i < 4; ++i)
          sums[n] += static_cast<uint32_t>(static_cast<A>(bytes[a][m][4 * k + i]) *
                                           static_cast<B>(bytes[b][k][4 * n + i]));
    __builtin_memset(bytes[c][m], 0, kTileRowBytes);
    __builtin_memcpy(bytes[c][m], sums, static_cast<size_t>(4 * columns));
  }
  for (int m = rows_of(c); m < kTileRows; ++m) __builtin_memset(bytes[c][m], 0, kTileRowBytes);
}

template <int c, int a, int b>
inline void multiply_ss() {
  multiply_tiles<int8_t, int8_t>(c, a, b);
}
template <int c, int a, int b>
inline void multiply_su() {
  multiply_tiles<int8_t, uint8_t>(c, a, b);
}
template <int c, int a, int b>
inline void multiply_us() {
  multiply_tiles<uint8_t, int8_t>(c, a, b);
}
template <int c, int a, int b>
inline void multiply_uu() {
  multiply_tiles<uint8_t, uint8_t>(c, a, b);
}

inline float bf16_value(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

// Denormals are the caller's: threads that compute flush them.
template <int c, int a, int b>
inline void multiply_bf16() {
  require_product(c, a, b);
  auto& bytes = emulated_tiles().bytes;
  const int columns = row_bytes_of(c) / 4, pairs = row_bytes_of(a) / 4;
  for (int m = 0; m < rows_of(c); ++m) {
    uint16_t x[kTileRowBytes / 2];
    float sums[kTileRowBytes / 4] = {};
    __builtin_memcpy(x, bytes[a][m], kTileRowBytes);
    __builtin_memcpy(sums, bytes[c][m], kTileRowBytes);
    for (int n = 0; n < columns; ++n) {
      float even = 0, odd = 0;
      for (int k = 0; k < pairs; ++k) {
        uint16_t y[2];
        __builtin_memcpy(y, &bytes[b][k][4 * n], 4);
        even = __builtin_fmaf(bf16_value(x[2 * k]), bf16_value(y[0]), even);
        odd = __builtin_fmaf(bf16_value(x[2 * k + 1]), bf16_value(y[1]), odd);
      }
      sums[n] += even + odd;
    }
    __builtin_memset(bytes[c][m], 0, kTileRowBytes);
    __builtin_memcpy(bytes[c][m], sums, static_cast<size_t>(4 * columns));
  }
  for (int m = rows_of(c); m < kTileRows; ++m) __builtin_memset(bytes[c][m], 0, kTileRowBytes);
}
