#include "cli/terminal/table.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kGap = 2;        // between two columns
constexpr int64_t kNarrowest = 6;  // that a column is made

std::string padded(const Cell& cell, int64_t width, Align align, bool is_last, const Screen& screen) {
  const std::string text = cut(cell.text, width);
  const std::string space(static_cast<size_t>(std::max<int64_t>(0, width - text_width(text))), ' ');
  const std::string shown = styled(text, cell.style, screen);
  if (align == Align::right) return space + shown;
  return is_last ? shown : shown + space;
}

}  // namespace

void Table::add(std::vector<Cell> row) {
  check(row.size() == columns_.size(), "a row has a cell for each column");
  for (Cell& cell : row) cell.text = harmless(cell.text);
  rows_.push_back(std::move(row));
}

std::vector<int64_t> Table::widths(int64_t columns_max) const {
  std::vector<int64_t> widths;
  for (const Column& column : columns_) widths.push_back(text_width(column.title));
  for (const auto& row : rows_)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], text_width(row[i].text));
  if (columns_max <= 0) return widths;
  const int64_t gaps = kGap * static_cast<int64_t>(widths.size() - 1);
  int64_t excess = std::accumulate(widths.begin(), widths.end(), gaps) - columns_max;
  for (; excess > 0; --excess) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    if (*widest <= kNarrowest) break;
    --*widest;
  }
  return widths;
}

std::string Table::text(const Screen& screen) const {
  const std::vector<int64_t> column_widths = widths(screen.columns);
  std::string result;
  const auto add_line = [&](const auto& cell_of) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      const bool is_last = i + 1 == columns_.size();
      result += padded(cell_of(i), column_widths[i], columns_[i].align, is_last, screen);
      if (!is_last) result.append(kGap, ' ');
    }
    result.erase(result.find_last_not_of(' ') + 1);
    result += '\n';
  };
  add_line([&](size_t i) { return Cell{columns_[i].title, Style::bold}; });
  for (const auto& row : rows_) add_line([&](size_t i) { return row[i]; });
  return result;
}

}  // namespace neutrino::cli
