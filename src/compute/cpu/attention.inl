// Attention of one key/value head. Included by each table's file inside its unnamed namespace, after rows.inl.
//
// Scores and sums are products of 32 elements as bfloat16 matrix units make them: even and odd elements in a chain of
// fused multiply-adds each, from zero, both added at the end. Keys lie as [dim / 2][32 positions][2] and values as
// [position / 2][dim][2], so both are the same loop: 16 pairs of (row of lanes, 2 broadcast elements).
//
// A batch of queries goes through the blocks together. Tiles of queries, as many as there are registers for, make the scores
// of a block; then all scores become probabilities, so that independent exponentials run side by side; then tiles of queries
// add the values. bfloat16 is widened as it is loaded, which costs nothing beside the multiply-adds; a block of another type
// is turned into float32 once.

#include "compute/cpu/kv_tiles.inl"

// out[query][16 * lanes] of: a, 32 floats per query, times b, 16 rows of 16 * lanes pairs of T (bfloat16, or expanded). What
// stands `ahead` elements further is prefetched: the same place in the next block, for tiles are too small for the hardware
// to see a stream.
template <int queries, int lanes, typename T>
inline void multiply_32(const float* a, int64_t a_stride, const T* b, int64_t b_stride, int64_t ahead,
                        V out[queries][lanes]) {
  V even[queries][lanes], odd[queries][lanes];
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) even[q][v] = odd[q][v] = splat(0.0f);
  for (int64_t i = 0; i < 16; ++i, b += b_stride) {
    V row[lanes];
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) {
      row[v] = load_even(b + 32 * v);
      if (sizeof(T) == 2 && ahead != 0) __builtin_prefetch(b + ahead + 32 * v);
    }
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q) {
      const V x = splat(a[q * a_stride + 2 * i]);
#pragma GCC unroll 8
      for (int v = 0; v < lanes; ++v) even[q][v] = fma(x, row[v], even[q][v]);
    }
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) row[v] = load_odd(b + 32 * v);
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q) {
      const V x = splat(a[q * a_stride + 2 * i + 1]);
#pragma GCC unroll 8
      for (int v = 0; v < lanes; ++v) odd[q][v] = fma(x, row[v], odd[q][v]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
    for (int v = 0; v < lanes; ++v) out[q][v] = add(even[q][v], odd[q][v]);
}

struct Range {
  int64_t first, end;
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

inline Range visible_positions(const AttentionTask& task, int64_t row) {
  const int64_t position = task.first_position + row;
  const int64_t reach = task.window > 0 ? task.window : task.positions;
  return {larger(0, position - reach + 1),
          task.causal ? position + 1 : smaller(task.positions, position + reach)};
}

// Queries of a task, `count` from its query `first` on (query = row * group + head), and where they stand in their batch. Their
// positions' ends never fall.
struct Queries {
  const AttentionTask* task;
  int64_t first, count, place;
};

struct QueryBatch {
  int64_t count;
  float* q;                                  // [count][key_width], rounded to bfloat16
  float* sum;                                // [count][value_width]
  float* scores;                             // [count][32] of a block, then the probabilities
  alignas(64) float m[kQueryBatchMax];       // running maximum of the scores,
  alignas(64) float l[kQueryBatchMax];       // sum of exponentials,
  alignas(64) float before[kQueryBatchMax];  // m before this block, then the correction exp(before - m)
  Range visible[kQueryBatchMax];             // the positions that it sees
};

// A block as the queries [first, end) of a batch see it.
struct Block {
  int64_t position;    // of its first key
  int64_t first, end;  // the queries that see some of it
  bool full;           // all of these see all of it
};

// T: uint16_t for bfloat16 as it is in the cache.
template <typename T>
struct Tiles {
  const T *keys, *values;
  int64_t ahead;  // elements to the next block, if that is to be prefetched
};

// A tile is a function of its own: inlined into the loop over tiles, g++ 12 spills its sums (AVX2: a sixth slower).
template <int queries, typename T>
[[gnu::noinline]] void score_tile(const AttentionTask& task, const QueryBatch& batch, int64_t first,
                                  int64_t positions, const T* keys, int64_t ahead) {
  const int64_t width = task.key_width;
  for (int half = 0; half < 2 && half * 16 < positions; half += kAttentionLanes)
    for (int64_t d = 0; d < width; d += 32) {
      V part[queries][kAttentionLanes];
      multiply_32<queries, kAttentionLanes, T>(batch.q + first * width + d, width, keys + d * 32 + half * 32,
                                               64, ahead, part);
#pragma GCC unroll 8
      for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
        for (int v = 0; v < kAttentionLanes; ++v) {
          float* score = batch.scores + (first + q) * 32 + (half + v) * 16;
          const V sum = add(d == 0 ? splat(0.0f) : load(score), part[q][v]);
          store(score, d + 32 < width ? sum : multiply(sum, splat(task.scale)));
        }
    }
}

template <int queries, typename T>
[[gnu::noinline]] void value_tile(const AttentionTask& task, const QueryBatch& batch, int64_t first,
                                  const T* values, int64_t ahead) {
  const int64_t width = task.value_width;
  for (int64_t d = 0; d < width; d += 16 * kAttentionLanes) {
    V part[queries][kAttentionLanes];
    multiply_32<queries, kAttentionLanes, T>(batch.scores + first * 32, 32, values + 2 * d, 2 * width, ahead,
                                             part);
#pragma GCC unroll 8
    for (int q = 0; q < queries; ++q)
#pragma GCC unroll 8
      for (int v = 0; v < kAttentionLanes; ++v) {
        float* sum = batch.sum + (first + q) * width + d + 16 * v;
        store(sum, add(multiply(load(sum), splat(batch.before[first + q])), part[q][v]));
      }
  }
}

// f(first query, their number as a constant) over tiles of at most `most` queries, none much smaller than the others.
template <int size>
struct TileSize {
  static constexpr int value = size;
};
template <int most, typename F>
inline void for_tiles(int64_t first, int64_t end, F f) {
  const auto tile = [&]<int size>(TileSize<size> number) {
    if constexpr (size <= most) f(first, number);
  };
  while (first < end) {
    const int64_t left = end - first;
    const int64_t size = left <= most || left >= 2 * most ? smaller(left, most) : (left + 1) / 2;
    switch (size) {
      case 1: tile(TileSize<1>()); break;
      case 2: tile(TileSize<2>()); break;
      case 3: tile(TileSize<3>()); break;
      case 4: tile(TileSize<4>()); break;
      case 5: tile(TileSize<5>()); break;
      default: tile(TileSize<6>()); break;
    }
    first += size;
  }
}

inline void cap_scores(const AttentionTask& task, float* scores, int64_t n) {
  if (task.softcap > 0) softcap_values(scores, task.softcap, n);
}

// The lanes from `first` on, the others zero.
inline V keep_from(V v, int64_t first) {
  if (first <= 0) return v;
  alignas(64) float lanes[16];
  store(lanes, v);
  for (int64_t i = 0; i < 16 && i < first; ++i) lanes[i] = 0;
  return load(lanes);
}

// The query's positions in the block.
inline Range in_block(const QueryBatch& batch, const Block& block, int64_t query) {
  return {larger(batch.visible[query].first - block.position, 0),
          smaller(batch.visible[query].end - block.position, 32)};
}

// New maxima, and the corrections that they make.
inline void raise_maxima(QueryBatch& batch, const Block& block) {
  for (int64_t q = block.first; q < block.end; ++q) {
    float* scores = batch.scores + q * 32;
    if (!block.full) {
      const Range range = in_block(batch, block, q);
      for (int64_t j = 0; j < range.first; ++j) scores[j] = -__builtin_inff();
      for (int64_t j = range.end; j < 32; ++j) scores[j] = -__builtin_inff();
    }
    const float largest = tree_maximum(maximum(load(scores), load(scores + 16)));
    batch.before[q] = batch.m[q];
    batch.m[q] = largest > batch.m[q] ? largest : batch.m[q];
  }
  for (int64_t q = block.first / 16 * 16; q < block.end; q += 16)
    store(batch.before + q, exponential(subtract(load(batch.before + q), load(batch.m + q))));
}

// Scores to probabilities; positions that a query does not see have probability zero.
template <int queries>
inline void softmax_queries(QueryBatch& batch, const Block& block, int64_t first) {
  float* scores = batch.scores + first * 32;
  V p[2 * queries];
#pragma GCC unroll 8
  for (int i = 0; i < 2 * queries; ++i) p[i] = subtract(load(scores + 16 * i), splat(batch.m[first + i / 2]));
  exponentials(p);
  float sums = 0;
#pragma GCC unroll 8
  for (int q = 0; q < queries; ++q) {
    V &low = p[2 * q], &high = p[2 * q + 1];
    if (!block.full) {
      const Range range = in_block(batch, block, first + q);
      low = keep_from(keep_first(low, range.end), range.first);
      high = keep_from(keep_first(high, range.end - 16), range.first - 16);
    }
    const float sum = tree_sum(add(low, high));
    batch.l[first + q] = batch.l[first + q] * batch.before[first + q] + sum;
    sums += sum;
  }
  const bool numbers = sums == sums;  // no NaN among them
#pragma GCC unroll 8
  for (int i = 0; i < 2 * queries; ++i)
    store(scores + 16 * i, numbers ? round_number_bf16(p[i]) : round_bf16(p[i]));
}

// How scores and sums are made: of vectors here, and of whatever has the same functions elsewhere.
struct VectorProducts {
  // Once a batch, behind begin_queries().
  void begin(const AttentionTask&, const QueryBatch&) {}

  // scores = scale * queries times keys.
  template <typename T>
  void score(const AttentionTask& task, const QueryBatch& batch, const Block& block, const Tiles<T>& tiles) {
    for_tiles<kQueryTile>(block.first, block.end, [&](int64_t first, auto size) {
      const int64_t end = batch.visible[first + size.value - 1].end - block.position;
      score_tile<size.value>(task, batch, first, end, tiles.keys, ahead(block, first, tiles.ahead));
    });
  }

  // sum = correction * sum + probabilities times values.
  template <typename T>
  void add_values(const AttentionTask& task, const QueryBatch& batch, const Block& block,
                  const Tiles<T>& tiles) {
    for_tiles<kQueryTile>(block.first, block.end, [&](int64_t first, auto size) {
      value_tile<size.value>(task, batch, first, tiles.values, ahead(block, first, tiles.ahead));
    });
  }

  // Only the first tile reads the block from memory, the others find it in the cache.
  static int64_t ahead(const Block& block, int64_t first, int64_t elements) {
    return first == block.first ? elements : 0;
  }
};

template <typename Products, typename T>
void attend_block(const AttentionTask& task, QueryBatch& batch, const Block& block, const Tiles<T>& tiles,
                  Products& products) {
  products.score(task, batch, block, tiles);
  cap_scores(task, batch.scores + block.first * 32, (block.end - block.first) * 32);
  raise_maxima(batch, block);
  for_tiles<kSoftmaxTile>(block.first, block.end, [&](int64_t first, auto size) {
    softmax_queries<size.value>(batch, block, first);
  });
  products.add_values(task, batch, block, tiles);
}

// A batch of so many queries in the task's working memory.
inline void begin_batch(const AttentionTask& task, QueryBatch& batch, int64_t count) {
  batch.count = count;
  batch.q = task.work, batch.sum = batch.q + count * task.key_width;
  batch.scores = batch.sum + count * task.value_width;
  for (int64_t i = 0; i < count * task.value_width; i += 16) store(batch.sum + i, splat(0.0f));
}

// Rounds the queries and starts their sums.
inline void begin_queries(const Queries& queries, QueryBatch& batch) {
  const AttentionTask& task = *queries.task;
  const int64_t key_width = task.key_width;
  for (int64_t i = 0; i < queries.count; ++i) {
    const int64_t row = (queries.first + i) / task.group, head = (queries.first + i) % task.group;
    const int64_t q = queries.place + i;
    const float* source = task.q + row * task.q_stride + head * task.key_dim;
    for (int64_t d = 0; d < key_width; d += 16)
      store(batch.q + q * key_width + d, round_bf16(load_some(source + d, task.key_dim - d)));
    batch.m[q] = task.sinks ? task.sinks[head] : -__builtin_inff();
    batch.l[q] = task.sinks ? 1.0f : 0.0f;
    batch.visible[q] = visible_positions(task, row);
  }
}

inline void end_queries(const Queries& queries, const QueryBatch& batch) {
  const AttentionTask& task = *queries.task;
  for (int64_t i = 0; i < queries.count; ++i) {
    const int64_t row = (queries.first + i) / task.group, head = (queries.first + i) % task.group;
    const int64_t q = queries.place + i;
    float* out = task.out + row * task.out_stride + head * task.value_dim;
    for (int64_t d = 0; d < task.value_dim; d += 16)
      store_some(out + d, divide(load(batch.sum + q * task.value_width + d), splat(batch.l[q])),
                 task.value_dim - d);
  }
}

// Takes the batch's queries [first, last) through the task's blocks from `position` to `end`.
template <typename Products>
void attend_blocks(const AttentionTask& task, QueryBatch& batch, Products& products, int64_t first,
                   int64_t last, int64_t position, int64_t end) {
  float* const keys = task.work + kQueryBatchFloats;
  float* const values = keys + kExpandedTileFloats;
  for (Block block = {position, first, first, false}; block.position < end; block.position += 32) {
    while (batch.visible[block.first].end <= block.position) ++block.first;
    while (block.end < last && batch.visible[block.end].first < block.position + 32) ++block.end;
    block.full = batch.visible[block.first].end >= block.position + 32 &&
                 batch.visible[block.end - 1].first <= block.position;
    const int32_t* number = task.block_table + block.position / 32;
    const uint8_t* tile = task.tiles + *number * task.block_bytes;
    const bool more = block.position + 32 < end;
    const int64_t ahead = more ? (number[1] - number[0]) * task.block_bytes : 0;
    if (task.kv_type != KvType::bf16) {
      expand_block(task, tile, ahead, keys, values);
      attend_block(task, batch, block, Tiles<float>{keys, values, 0}, products);
    } else {
      attend_block(task, batch, block,
                   Tiles<uint16_t>{reinterpret_cast<const uint16_t*>(tile),
                                   reinterpret_cast<const uint16_t*>(tile + task.key_bytes), ahead / 2},
                   products);
    }
  }
}

template <typename Products>
void attend_queries(const AttentionTask& task, int64_t first, int64_t count) {
  QueryBatch batch;
  begin_batch(task, batch, count);
  const Queries queries = {&task, first, count, 0};
  begin_queries(queries, batch);
  Products products;
  products.begin(task, batch);
  attend_blocks(task, batch, products, 0, count, batch.visible[0].first / 32 * 32,
                batch.visible[count - 1].end);
  end_queries(queries, batch);
}

// All queries of the task and its siblings: first through the blocks that they share, then each task's through its own.
template <typename Products>
void attend_siblings(const AttentionTask& task, int64_t count) {
  QueryBatch batch;
  begin_batch(task, batch, count);
  const AttentionTask* const last = &task + task.siblings;
  int64_t place = 0;
  for (const AttentionTask* one = &task; one <= last; place += one->rows * one->group, ++one)
    begin_queries({one, 0, one->rows * one->group, place}, batch);
  Products products;
  products.begin(task, batch);
  attend_blocks(task, batch, products, 0, count, 0, task.shared_positions);
  place = 0;
  for (const AttentionTask* one = &task; one <= last; ++one) {
    const int64_t end = place + one->rows * one->group;
    attend_blocks(*one, batch, products, place, end, task.shared_positions, batch.visible[end - 1].end);
    end_queries({one, 0, end - place, place}, batch);
    place = end;
  }
}

inline int64_t queries_of(const AttentionTask& task) {
  int64_t rows = 0;
  for (const AttentionTask* one = &task; one <= &task + task.siblings; ++one) rows += one->rows;
  return rows * task.group;
}

template <typename Products>
void attend_batches(const AttentionTask& task) {
  const int64_t queries = queries_of(task);
  const int64_t room = kQueryBatchFloats / (task.key_width + task.value_width + 32);
  const int64_t most = smaller(room, kQueryBatchMax) / kQueryTile * kQueryTile;
  if (task.siblings > 0)
    return attend_siblings<Products>(task, queries);  // the caller sees to it that they fit
  for (int64_t first = 0; first < queries; first += most)
    attend_queries<Products>(task, first, smaller(most, queries - first));
}

void attend(const AttentionTask& task) { attend_batches<VectorProducts>(task); }

#include "compute/cpu/attention_float.inl"
