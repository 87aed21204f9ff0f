// Products on matrix tiles. Included, after the tile functions, by the file of each table inside its unnamed namespace; needs
// AVX-512 (F, BW, DQ, VL).
//
// Weights and activations are cut into planes of bytes: an activation is 256 xh + xl, a weight 256 H + L (xh and H signed, xl
// and L not). A panel is unpacked into its planes once for many rows. One tile instruction multiplies 16 rows by 64 columns of
// one plane with 64 columns by 16 weight rows of another, and the products of planes add up over the columns in tiles of
// int32, which are put together once.
//
// What an int32 holds: a product of two planes is at most 255 * 255, and a segment has 4096 columns: 65025 * 4096 < 2^28.

using V = __m512;
using I = __m512i;

constexpr int64_t kPair = 2;  // blocks of 32 columns, a tile's row of bytes
constexpr int64_t kSegmentPairs = 64;
constexpr int64_t kRowsMax = 96;  // of activations, that pass over one unpacked panel
constexpr int64_t kPlanes = 2;    // of weights
constexpr int64_t kPlanesBytes = kPlanes * kTileBytes * kSegmentPairs;
constexpr int64_t kWorkBytes = kPlanesBytes + kRowsMax * kPanelRows * static_cast<int64_t>(sizeof(double));

// From how many rows on unpacking a panel saves more than it costs, by an estimate that no measurement has confirmed yet
// (docs/performance.md). Below, the AVX-512 kernels run.
constexpr int64_t kTileRowsMin = 6;

inline I load(const void* p) { return _mm512_loadu_si512(p); }
inline void store(void* p, I v) { _mm512_storeu_si512(p, v); }

// ---- panels into planes: eight rows of 64 bytes a plane and block, row g holding columns 4 g ... 4 g + 3 of all 16 rows

constexpr __mmask64 kOddBytes = 0xAAAAAAAAAAAAAAAA;

// Bytes of 16-bit lanes: `even` holds those of columns 0 and 2 of four, `odd` those of columns 1 and 3.
inline I low_bytes(I even, I odd) {
  return _mm512_mask_blend_epi8(kOddBytes, even, _mm512_slli_epi16(odd, 8));
}
inline I high_bytes(I even, I odd) {
  return _mm512_mask_blend_epi8(kOddBytes, _mm512_srli_epi16(even, 8), odd);
}

// The lower or the upper half of each 32-bit lane, in both halves.
inline I twice_low(I v) { return _mm512_mask_blend_epi16(0xAAAAAAAA, v, _mm512_slli_epi32(v, 16)); }
inline I twice_high(I v) { return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(v, 16), v); }

// Asks for what the next panel holds at this place: its memory arrives while this panel's tiles are multiplied.
template <int64_t bytes>
inline void prefetch_next(const uint8_t* block, int64_t panel_bytes) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < bytes; i += 64)
    _mm_prefetch(reinterpret_cast<const char*>(block + panel_bytes + i), _MM_HINT_T1);
}

// Each kind: its block, and how a block becomes eight rows of each plane. A pair of blocks is a tile of H and a tile of L.

// A row of both planes: W = e q + f of four columns, 16 bits each. W fits int16, so it is computed modulo 2^16.
inline void put_weights(I even, I odd, I e, I f, uint8_t* out) {
  const I w_even = _mm512_add_epi16(_mm512_mullo_epi16(even, e), f),
          w_odd = _mm512_add_epi16(_mm512_mullo_epi16(odd, e), f);
  store(out, high_bytes(w_even, w_odd));
  store(out + kTileBytes, low_bytes(w_even, w_odd));
}

struct Nibbles {
  static constexpr int64_t block_bytes = kNibbleBlockBytes;

  static void unpack(const uint8_t* block, uint8_t* out) {
    const I nibble = _mm512_set1_epi16(15), ef = load(block + 256);
    const I e = twice_low(ef), f = _mm512_sub_epi16(twice_high(ef), _mm512_slli_epi16(e, 3));
#pragma GCC unroll 4
    for (int64_t j = 0; j < 4; ++j) {
      const I q = load(block + 64 * j);
      put_weights(_mm512_and_si512(q, nibble), _mm512_and_si512(_mm512_srli_epi16(q, 8), nibble), e, f,
                  out + j * kTileRowBytes);
      put_weights(_mm512_and_si512(_mm512_srli_epi16(q, 4), nibble), _mm512_srli_epi16(q, 12), e, f,
                  out + (4 + j) * kTileRowBytes);
    }
  }
};

struct Fives {
  static constexpr int64_t block_bytes = kFiveBlockBytes;

  static void unpack(const uint8_t* block, uint8_t* out) {
    const I nibbles = _mm512_set1_epi8(15), sixteens = _mm512_set1_epi8(16);
    const I bits = load(block + 256), ef = load(block + 320);
    const I e = twice_low(ef), f = _mm512_sub_epi16(twice_high(ef), _mm512_slli_epi16(e, 4));
#pragma GCC unroll 8
    for (int row = 0; row < 8; ++row) {
      const I pairs = load(block + 64 * (row % 4));
      const I low = _mm512_and_si512(row < 4 ? pairs : _mm512_srli_epi16(pairs, 4), nibbles);
      const __mmask64 fifth = _mm512_test_epi8_mask(bits, _mm512_set1_epi8(static_cast<char>(1 << row)));
      const I q = _mm512_or_si512(low, _mm512_maskz_mov_epi8(fifth, sixteens));
      put_weights(_mm512_and_si512(q, _mm512_set1_epi16(255)), _mm512_srli_epi16(q, 8), e, f,
                  out + row * kTileRowBytes);
    }
  }
};

struct Words {
  static constexpr int64_t block_bytes = kWordBlockBytes;

  static void unpack(const uint8_t* block, uint8_t* out) {
    const auto pairs = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));  // low bytes, high bytes
#pragma GCC unroll 8
    for (int64_t row = 0; row < 8; ++row) {
      const I first = _mm512_shuffle_epi8(load(block + 128 * row), pairs),
              second = _mm512_shuffle_epi8(load(block + 128 * row + 64), pairs);
      store(out + row * kTileRowBytes,
            _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(first, 16), second));
      store(out + kTileBytes + row * kTileRowBytes,
            _mm512_mask_blend_epi16(0xAAAAAAAA, first, _mm512_slli_epi32(second, 16)));
    }
  }
};

// `blocks` blocks of a panel; a pair's missing second block becomes zeros.
template <typename Kind>
inline void unpack_segment(const PanelTask& task, const uint8_t* block, int64_t blocks, uint8_t* out) {
  constexpr int64_t kPairBytes = kPlanes * kTileBytes;
  for (int64_t b = 0; b < blocks; ++b, block += Kind::block_bytes) {
    prefetch_next<Kind::block_bytes>(block, task.panel_bytes);
    Kind::unpack(block, out + b / 2 * kPairBytes + b % 2 * (kTileBytes / 2));
  }
  if (blocks % kPair == 0) return;
  for (int64_t p = 0; p < kPlanes; ++p)
    __builtin_memset(out + blocks / 2 * kPairBytes + p * kTileBytes + kTileBytes / 2, 0, kTileBytes / 2);
}

// ---- planes times planes

// Tiles 0-3 are sums, 4 and 5 xh and xl, 6 and 7 planes of weights. The sums of a segment are stored at `sums`, most
// significant first.

inline void configure(int64_t rows) {
  TileConfig config;
  for (int t = 0; t < kTiles; ++t) {
    config.row_bytes[t] = kTileRowBytes;
    config.rows[t] = static_cast<uint8_t>(t < 6 ? rows : kTileRows);
  }
  configure_tiles(config);
}

inline void store_sums(int32_t* sums) {
  store_tile<0>(sums, kTileRowBytes), store_tile<1>(sums + 256, kTileRowBytes);
  store_tile<2>(sums + 512, kTileRowBytes), store_tile<3>(sums + 768, kTileRowBytes);
}

// xh H, xh L, xl H, xl L: four chains of sums, so that none waits for itself.
inline void multiply_planes(const uint8_t* x, int64_t x_stride, const uint8_t* w, int64_t pairs,
                            int32_t* sums) {
  zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  for (int64_t k = 0; k < pairs; ++k, x += kPlanePairBytes, w += kPlanes * kTileBytes) {
    load_tile<4>(x, x_stride), load_tile<6>(w, kTileRowBytes);
    multiply_ss<0, 4, 6>();
    load_tile<7>(w + kTileBytes, kTileRowBytes);
    multiply_su<1, 4, 7>();
    load_tile<5>(x + kTileRowBytes, x_stride);
    multiply_us<2, 5, 6>();
    multiply_uu<3, 5, 7>();
  }
  store_sums(sums);
}

// ---- sums put together, 16 weight rows of one activation row: exact in float64, since |S| < 2^53

struct Sum {
  __m512d low, high;
};

inline Sum to_double(I v) {
  return {_mm512_cvtepi32_pd(_mm512_castsi512_si256(v)), _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(v, 1))};
}
inline Sum add(const Sum& a, const Sum& b) {
  return {_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
}
inline Sum multiply_add(const Sum& a, double factor, const Sum& b) {
  const __m512d f = _mm512_set1_pd(factor);
  return {_mm512_fmadd_pd(a.low, f, b.low), _mm512_fmadd_pd(a.high, f, b.high)};
}

// S = 256 T + xl L with T = 256 xh H + (xh L + xl H), and T fits int32: |S| is below 2^38 for nibbles and fives (16256 sum|W| with
// 127 sum|W| < 2^31) and below 2^31 a run of 128 columns for words, 2^36 a segment; xl L is below 2^28.
inline Sum join_planes(const int32_t* sums) {
  const I middle = _mm512_add_epi32(load(sums + 256), load(sums + 512));
  const I t = _mm512_add_epi32(_mm512_slli_epi32(load(sums), 8), middle);
  return multiply_add(to_double(t), 256, to_double(load(sums + 768)));
}

inline const uint8_t* x_row(const PanelTask& task, int64_t row) { return task.x + row * task.x_stride; }

// out = float(S) * (D * s), as in every table.
inline void finish(const PanelTask& task, int64_t row, int64_t panel, const Sum& sum) {
  const V s =
      _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(sum.low)), _mm512_cvtpd_ps(sum.high), 1);
  const V scale = _mm512_set1_ps(reinterpret_cast<const ActivationHeader*>(x_row(task, row))->scale);
  V y = _mm512_mul_ps(s, _mm512_mul_ps(_mm512_loadu_ps(task.scales + panel * kPanelRows), scale));
  float* out = task.out + row * task.out_stride + panel * kPanelRows;
  if (task.add) y = _mm512_add_ps(_mm512_loadu_ps(out), y);
  _mm512_storeu_ps(out, y);
}

// ---- a panel times all rows

// One segment of one panel: columns from block `first_block` on.
struct Segment {
  int64_t panel, first_block, pairs;
  bool first, last;
};

// Rows [row, end) of the tile that starts at activation row `tile_row`. Between segments the sums stand in the work memory.
inline void finish_tile(const PanelTask& task, const Segment& segment, const int32_t* sums, int64_t tile_row,
                        int64_t row, int64_t end) {
  auto* totals = reinterpret_cast<double*>(task.work + kPlanesBytes);
  for (; row < end; ++row) {
    const int32_t* lanes = sums + (row - tile_row) * kPanelRows;
    Sum sum = join_planes(lanes);
    double* total = totals + row * kPanelRows;
    if (!segment.first) sum = add(sum, {_mm512_loadu_pd(total), _mm512_loadu_pd(total + 8)});
    if (segment.last)
      finish(task, row, segment.panel, sum);
    else
      _mm512_storeu_pd(total, sum.low), _mm512_storeu_pd(total + 8, sum.high);
  }
}

// The rows in `tiles` tiles of `tile_rows` each; the last one starts early enough to end with the rows, and leaves out what
// the one before it has done. A tile's sums are put together while the next one is multiplied.
inline void multiply_segment(const PanelTask& task, const Segment& segment, int64_t tiles,
                             int64_t tile_rows) {
  alignas(64) int32_t sums[2][4 * 256];
  const auto first_row = [&](int64_t tile) {
    return tile < tiles - 1 ? tile * tile_rows : task.rows - tile_rows;
  };
  const auto finish_one = [&](int64_t tile) {
    finish_tile(task, segment, sums[tile % 2], first_row(tile), tile * tile_rows,
                first_row(tile) + tile_rows);
  };
  const int64_t planes_at = planes_offset(task.blocks) + segment.first_block / kPair * kPlanePairBytes;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const uint8_t* x = x_row(task, first_row(tile)) + planes_at;
    multiply_planes(x, task.x_stride, task.work, segment.pairs, sums[tile % 2]);
    if (tile > 0) finish_one(tile - 1);
  }
  finish_one(tiles - 1);
}

// At most kRowsMax rows.
template <typename Kind>
void multiply_rows(const PanelTask& task) {
  const int64_t tiles = (task.rows + kTileRows - 1) / kTileRows, tile_rows = (task.rows + tiles - 1) / tiles;
  configure(tile_rows);
  for (int64_t panel = 0; panel < task.panels; ++panel)
    for (int64_t first = 0; first < task.blocks; first += kPair * kSegmentPairs) {
      const int64_t left = task.blocks - first;
      const int64_t blocks = left < kPair * kSegmentPairs ? left : kPair * kSegmentPairs;
      unpack_segment<Kind>(task, task.panel + panel * task.panel_bytes + first * Kind::block_bytes, blocks,
                           task.work);
      const Segment segment = {.panel = panel,
                               .first_block = first,
                               .pairs = (blocks + 1) / kPair,
                               .first = first == 0,
                               .last = blocks == left};
      multiply_segment(task, segment, tiles, tile_rows);
    }
  release_tiles();
}

template <typename Kind>
inline void multiply(const PanelTask& task) {
  for (int64_t row = 0; row < task.rows; row += kRowsMax) {
    PanelTask part = task;
    part.x += row * task.x_stride;
    part.out += row * task.out_stride;
    part.rows = task.rows - row < kRowsMax ? task.rows - row : kRowsMax;
    multiply_rows<Kind>(part);
  }
}

void nibble_panels(const PanelTask& task) {
  task.rows < kTileRowsMin ? kAvx512Kernels.nibble_panels(task) : multiply<Nibbles>(task);
}
void five_panels(const PanelTask& task) {
  task.rows < kTileRowsMin ? kAvx512Kernels.five_panels(task) : multiply<Fives>(task);
}
void word_panels(const PanelTask& task) {
  task.rows < kTileRowsMin ? kAvx512Kernels.word_panels(task) : multiply<Words>(task);
}

// ---- activations

// The row that all kernels know, and behind it its planes: 64 bytes of xh, then 64 of xl, for each 64 columns.
void quantize(const float* x, int64_t n, uint8_t* row) {
  kAvx512Kernels.quantize(x, n, row);
  const int64_t blocks = (n + kColumnBlock - 1) / kColumnBlock;
  const auto* words = reinterpret_cast<const int16_t*>(row + sizeof(ActivationHeader) +
                                                       static_cast<size_t>(blocks) * sizeof(XBlock));
  uint8_t* planes = row + planes_offset(blocks);
  for (int64_t b = 0; b < blocks + blocks % kPair; ++b) {
    const I v = b < blocks ? load(words + b * kColumnBlock) : _mm512_setzero_si512();
    uint8_t* out = planes + b / kPair * kPlanePairBytes + b % kPair * kColumnBlock;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi16_epi8(_mm512_srli_epi16(v, 8)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + kTileRowBytes), _mm512_cvtepi16_epi8(v));
  }
}
