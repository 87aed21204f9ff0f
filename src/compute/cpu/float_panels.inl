// Products in float32 arithmetic: 16 lanes over the columns, multiply then add, then the tree. Included by each table's
// file inside its unnamed namespace. A tile of weight rows and activation rows shares its loads.

template <int weights, int rows>
inline void float_tile(const PanelTask& task, int64_t w_row, int64_t x_row) {  // w_row over all panels
  const int64_t columns = task.blocks * kColumnBlock;
  const float* w = reinterpret_cast<const float*>(task.panel) + w_row * columns;
  const float* x = reinterpret_cast<const float*>(task.x + x_row * task.x_stride);
  const int64_t x_stride = task.x_stride / static_cast<int64_t>(sizeof(float));
  V sum[rows][weights];
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < weights; ++n) sum[m][n] = splat(0.0f);
  for (int64_t k = 0; k < columns; k += 16) {
    V wv[weights];
#pragma GCC unroll 8
    for (int n = 0; n < weights; ++n) wv[n] = load(w + n * columns + k);
#pragma GCC unroll 8
    for (int m = 0; m < rows; ++m) {
      const V xv = load(x + m * x_stride + k);
#pragma GCC unroll 8
      for (int n = 0; n < weights; ++n) sum[m][n] = add(sum[m][n], multiply(wv[n], xv));
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < rows; ++m)
#pragma GCC unroll 8
    for (int n = 0; n < weights; ++n) {
      float* out = task.out + (x_row + m) * task.out_stride + w_row + n;
      const float y = tree_sum(sum[m][n]);
      *out = task.add ? *out + y : y;
    }
}

void float_panels(const PanelTask& task) {
  for (int64_t w = 0; w < kPanelRows * task.panels; w += kFloatTile) {
    int64_t x = 0;
    for (; task.rows - x >= kFloatTile; x += kFloatTile) float_tile<kFloatTile, kFloatTile>(task, w, x);
    for (; x < task.rows; ++x) float_tile<kFloatTile, 1>(task, w, x);
  }
}
