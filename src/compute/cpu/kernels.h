// One table of kernels per instruction set: plain function pointers over plain data.
//
// A kernel file is compiled with its own -m flags, so it may include nothing that leaves shared code behind (a
// std::vector instantiated there could be the copy that the linker keeps for the whole program). This header is what such
// a file and the rest of the backend have in common.
//
// Layouts, the same for every table:
//
// A panel is 16 rows of a weight matrix, cut into blocks of 32 columns (the last one padded with zeros):
//   nibble block, 320 bytes: uint8 q[4][16 rows][4] (byte i of group j: column 4j+i low, column 16+4j+i high), then
//                            int16 {e, f}[16 rows]; W = e (q - 8) + f
//   five block,   384 bytes: q as there, uint8 bits[16 rows][4] (bit j of byte i: the fifth bit of column 4j+i, bit 4+j: of
//                            column 16+4j+i), int16 {e, f}[16 rows]; W = e (q - 16) + f
//   six block,    424 bytes, eight in a run of 256 columns: first of each block q as there and uint8 bits[2][16 rows][4] (bits
//                            2j and 2j+1 of byte i: the upper two bits of column 4j+i, in the second half of column
//                            16+4j+i), then of each block int8 s[16 rows][2] for the halves of its columns, then float
//                            e[16 rows]; W = e s (q - 32)
//   code block,   320 bytes: q as there, then float e[16 rows]; W = e codebook[q]
//   byte block,   576 bytes: uint8 q[8][16 rows][4] (column 4j+i, plus 128), then float e[16 rows]; W = e (q - 128)
//   word block,  1024 bytes: int16 W[16][16 rows][2] (column 2j+i)
//   float block, 2048 bytes: the panel is row-major, float w[16 rows][padded columns]
//
// An integer activation row: ActivationHeader, then one XBlock per 32 columns, then int16 x[padded columns], then of each block
// float sum of the squares of x. A float row: float x[padded columns]. Padding is zero. Where the table asks for planes, they
// follow at planes_offset(): the upper bytes of 64 columns' x, then their lower bytes, and so on.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "compute/constants.h"
#include "compute/function.h"
#include "compute/kv_type.h"
#include "compute/state_task.h"

namespace neutrino::compute::cpu {

constexpr int64_t kPanelRows = 16;
constexpr int64_t kColumnBlock = 32;
constexpr int64_t kNibbleBlockBytes = 320, kFiveBlockBytes = 384, kSixBlockBytes = 424, kCodeBlockBytes = 320,
                  kByteBlockBytes = 576, kWordBlockBytes = 1024, kFloatBlockBytes = 2048;

// A run of six blocks: how many, the bytes of one's q and bits, where the runs' s and e stand.
constexpr int64_t kSixBlocks = 8, kSixBits = 384, kSixScalesAt = kSixBlocks * kSixBits,
                  kSixFactorsAt = kSixScalesAt + kSixBlocks * 32;
static_assert(kSixFactorsAt + 64 == kSixBlocks * kSixBlockBytes);

struct alignas(64) ActivationHeader {
  float scale;
  float norm_16;  // at least the largest Euclidean norm of x over 16 columns
};

// x = 128 h + l, and the sums that cancel the weights' zero point and carry f, ready to broadcast.
struct XBlock {
  int8_t h[32], l[32];
  int32_t minus_8h, high_h;  // -8 * sum(h); sum(h) in the upper half
  int32_t minus_8l, high_l;
  int16_t minus_16h[2], minus_16l[2];  // -16 * sum over each half of the columns
};

// Sums of the squares of each half of a block's x.
struct HalfSquares {
  float first, second;
};

// Of an activation row, for each 64 columns: their upper bytes, their lower bytes.
constexpr int64_t kPlanePairBytes = 128;

// Bytes of an activation row of `blocks` blocks without its planes: whole cache lines.
constexpr int64_t planes_offset(int64_t blocks) {
  const auto block_bytes =
      static_cast<int64_t>(sizeof(XBlock) + kColumnBlock * sizeof(int16_t) + sizeof(float));
  return (static_cast<int64_t>(sizeof(ActivationHeader)) + blocks * block_bytes + 63) / 64 * 64;
}

// out[m][16 i + r] (+)= sum over columns of x[m] * W[r], for the 16 rows r of each panel i.
struct PanelTask {
  const uint8_t* panel;  // the first one; the others follow
  int64_t panels;
  int64_t panel_bytes;
  const float* scales;     // (16 * panels)
  const int8_t* codebook;  // (16), of code blocks
  int64_t blocks;          // of 32 columns
  const uint8_t* x;        // activation rows
  int64_t x_stride;        // bytes
  int64_t rows;            // of x, at most Kernels::product_rows
  float* out;              // 16 * panels floats a row
  int64_t out_stride;      // floats
  bool add;
  uint8_t* work;  // Kernels::product_work_bytes
};

// Queries of one key/value head: `group` heads side by side in each of `rows` rows, the rows at consecutive positions.
//
// `siblings` more tasks may stand behind it, of which q, out, rows, first_position, positions and block_table are their own. All
// of them lie behind the first `shared_positions` (a multiple of 32), whose blocks they have in common and which are read once
// for all. Only in integer arithmetic, causal and without a window.
struct AttentionTask {
  const float* q;  // head h of row r at q[r * q_stride + h * key_dim]
  int64_t q_stride;
  float* out;  // head h of row r at out[r * out_stride + h * value_dim]
  int64_t out_stride;
  int64_t rows, group;
  int64_t first_position;
  int64_t positions;  // of the sequence, which a query sees up to the end if not `causal`
  int64_t window;     // 0: none; else only keys less than this far away
  bool causal;
  const uint8_t* tiles;  // of this head in block 0
  KvType kv_type;        // float32 arithmetic: any
  int64_t key_bytes;     // of a K tile; the V tile stands behind it
  int64_t block_bytes;
  const int32_t* block_table;
  int64_t key_dim, key_width;  // width: with the tile's padding
  int64_t value_dim, value_width;
  float scale;
  float softcap;       // 0: none
  const float* sinks;  // (group): where the softmax's maximum starts, its sum being 1; or null
  float* work;         // kAttentionWorkFloats; for float32 arithmetic one float a position
  int64_t siblings = 0, shared_positions = 0;
};

// Queries that the integer kernels take through the blocks together, at most; the floats that they keep of these (24 of the widest:
// q, sum, scores), and of a block's tiles as float32.
constexpr int64_t kQueryBatchMax = 96;
constexpr int64_t kQueryBatchFloats = 24 * (2 * kHeadDimMax + 32);
constexpr int64_t kExpandedTileFloats = kHeadDimMax * 32;
constexpr int64_t kAttentionWorkFloats = kQueryBatchFloats + 2 * kExpandedTileFloats;

struct RopeTask {
  float* head;          // (head_dim), rotated in place
  const float* cosine;  // (pairs)
  const float* sine;
  int64_t pairs;
  bool adjacent;
};

// out[r][16 p + lane] (+)= scale(r) * sum over i of w(16 p + lane, i) x[r][i]: panels of an adapter (compute/host_adapter.h).
struct LowRankTask {
  const void* weights;  // the first panel; the others follow
  int64_t inner;        // a multiple of 4
  int64_t panels;
  const uint8_t* x;       // int16; in float32 arithmetic float
  const uint8_t* scales;  // of the first row, x_stride from one to the next; not in float32 arithmetic
  int64_t x_stride;       // bytes
  int64_t rows;
  float* out;
  int64_t out_stride;  // floats
  bool add;
};

struct Kernels {
  const char* name;
  void (*nibble_panels)(const PanelTask&);
  void (*five_panels)(const PanelTask&);
  void (*six_panels)(const PanelTask&);
  void (*code_panels)(const PanelTask&);
  void (*byte_panels)(const PanelTask&);
  void (*word_panels)(const PanelTask&);
  void (*float_panels)(const PanelTask&);
  void (*rms_norm)(const float* x, const float* weight, float eps, int64_t n, float* out);
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                     float* out);                         // bias may be null, out may be x
  void (*apply)(Function function, float* x, int64_t n);  // in place
  void (*gate)(Function function, const float* gate, const float* up, int64_t n,
               float* out);  // f(gate) * up; out may be gate
  void (*softcap)(float* x, float cap, int64_t n);
  void (*quantize)(const float* x, int64_t n, uint8_t* row);  // one activation row
  void (*decay_state)(const StateTask& task, float decay, const float* k, float* y);
  void (*update_state)(const StateTask& task, const float* k, const float* u, const float* q, float* y);
  void (*scan_state)(const StateTask& task, const ScanInput& input, float* y);
  void (*rotate)(const RopeTask&);
  void (*round_bf16)(const float* x, int64_t n, uint16_t* out);
  void (*attend)(const AttentionTask&);
  void (*attend_float)(const AttentionTask&);
  void (*low_rank)(const LowRankTask&);
  void (*low_rank_float)(const LowRankTask&);
  float (*round_words)(const float* x, int64_t n, int16_t* out);  // quantize_row() of arithmetic.h

  bool planes;                 // whether quantize() writes them behind an activation row
  int64_t product_work_bytes;  // that each thread has for integer products; aligned to 64 bytes
  // Of a PanelTask, at most: activation rows that stay in the L2 cache while panels pass by. A multiple of cpu_backend.cpp's kRowTiles.
  int64_t product_rows = 96;
  int64_t attention_heads_min = 2;  // of an attention item, if not all query heads of a key/value head
};

// What a table of matrix tiles puts in the place of kAvx512Kernels' (select.h: with_tiles()).
struct TileKernels {
  const char* name;
  void (*quantize)(const float* x, int64_t n, uint8_t* row);
  void (*nibble_panels)(const PanelTask&);
  void (*five_panels)(const PanelTask&);
  void (*word_panels)(const PanelTask&);
  void (*attend)(const AttentionTask&);
  int64_t product_work_bytes;
};

extern const Kernels kGenericKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const TileKernels kAmxTiles;

}  // namespace neutrino::compute::cpu
