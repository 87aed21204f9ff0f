// Attention on matrix tiles, where keys and values are bfloat16. Included after attention.inl and the tile functions, inside an
// unnamed namespace.
//
// multiply_bf16 makes the chains of multiply_32 and adds their sum to what stands in the tile, so a tile of scores goes through
// the head's dimensions 32 at a time, and a tile of sums, corrected before, takes the values' part. Keys and values lie in the
// cache as the instruction wants them; queries and probabilities become bfloat16 in place, in the first half of their floats.

// Fewer queries than a tile has rows are left to the vectors.
constexpr int64_t kTileQueriesMin = kTileRows;

// n floats that bfloat16 holds, n a multiple of 32, as bfloat16 from their own beginning on.
inline void pack_bf16(float* row, int64_t n) {
  auto* out = reinterpret_cast<uint16_t*>(row);
  for (int64_t i = 0; i < n; i += 32) {
    const I low = _mm512_srli_epi32(_mm512_castps_si512(load(row + i)), 16),
            high = _mm512_srli_epi32(_mm512_castps_si512(load(row + i + 16)), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm512_cvtepi32_epi16(low));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i + 16), _mm512_cvtepi32_epi16(high));
  }
}

// Tiles 0-2 have sixteen rows of queries, 4-6 those that are left; 3 and 7 keys or values.
class TileProducts : public VectorProducts {
 public:
  using VectorProducts::add_values;
  using VectorProducts::score;

  ~TileProducts() {
    if (tail_ >= 0) release_tiles();
  }

  void begin(const AttentionTask& task, const QueryBatch& batch) {
    if (task.kv_type != KvType::bf16) return;
    for (int64_t q = 0; q < batch.count; ++q) pack_bf16(batch.q + q * task.key_width, task.key_width);
  }

  void score(const AttentionTask& task, const QueryBatch& batch, const Block& block,
             const Tiles<uint16_t>& tiles) {
    configure((block.end - block.first) % kTileRows);
    for_rows(block, [&](int64_t first, auto tile) {
      score_rows<tile.value, tile.value + 1, tile.value + 2>(task, batch, first, tiles.keys);
    });
    for (int64_t i = block.first * 32; i < block.end * 32; i += 16)
      store(batch.scores + i, multiply(load(batch.scores + i), splat(task.scale)));
  }

  void add_values(const AttentionTask& task, const QueryBatch& batch, const Block& block,
                  const Tiles<uint16_t>& tiles) {
    for (int64_t q = block.first; q < block.end; ++q) {
      pack_bf16(batch.scores + q * 32, 32);
      float* sum = batch.sum + q * task.value_width;
      const V correction = splat(batch.before[q]);
      for (int64_t d = 0; d < task.value_width; d += 16) store(sum + d, multiply(load(sum + d), correction));
    }
    for_rows(block, [&](int64_t first, auto tile) {
      add_rows<tile.value, tile.value + 2>(task, batch, first, tiles.values);
    });
  }

 private:
  void configure(int64_t tail) {
    if (tail == tail_) return;
    tail_ = tail;
    TileConfig config;
    for (int t = 0; t < kTiles; ++t) {
      config.row_bytes[t] = kTileRowBytes;
      config.rows[t] = static_cast<uint8_t>(t < 4 || t == 7 || tail == 0 ? kTileRows : tail);
    }
    configure_tiles(config);
  }

  // f(first query, the first of its three tiles) for sixteen queries at a time and for what is left.
  template <typename F>
  static void for_rows(const Block& block, F f) {
    int64_t first = block.first;
    for (; block.end - first >= kTileRows; first += kTileRows) f(first, TileSize<0>());
    if (first < block.end) f(first, TileSize<4>());
  }

  template <int low, int high, int queries>
  static void score_rows(const AttentionTask& task, const QueryBatch& batch, int64_t first,
                         const uint16_t* keys) {
    const auto* q = reinterpret_cast<const uint16_t*>(batch.q + first * task.key_width);
    float* scores = batch.scores + first * 32;
    zero_tile<low>(), zero_tile<high>();
    for (int64_t d = 0; d < task.key_width; d += 32, keys += 32 * 32) {
      load_tile<queries>(q + d, task.key_width * 4);
      load_tile<3>(keys, 128);
      multiply_bf16<low, queries, 3>();
      load_tile<7>(keys + 32, 128);
      multiply_bf16<high, queries, 7>();
    }
    store_tile<low>(scores, 128), store_tile<high>(scores + 16, 128);
  }

  template <int sums, int probabilities>
  static void add_rows(const AttentionTask& task, const QueryBatch& batch, int64_t first,
                       const uint16_t* values) {
    const int64_t stride = task.value_width * 4;  // bytes, of a row of sums and of a pair of positions
    float* sum = batch.sum + first * task.value_width;
    load_tile<probabilities>(batch.scores + first * 32, 128);
    for (int64_t d = 0; d < task.value_width; d += 16, sum += 16, values += 32) {
      load_tile<sums>(sum, stride);
      load_tile<3>(values, stride);
      multiply_bf16<sums, probabilities, 3>();
      store_tile<sums>(sum, stride);
    }
  }

  int64_t tail_ = -1;  // as configured; -1: not
};

void attend_on_tiles(const AttentionTask& task) {
  queries_of(task) < kTileQueriesMin ? attend(task) : attend_batches<TileProducts>(task);
}
