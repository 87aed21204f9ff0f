// A table for people: columns as wide as what is in them, and on a terminal no wider than it is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/terminal/screen.h"

namespace neutrino::cli {

struct Cell {
  std::string text;
  Style style = Style::plain;
};

enum class Align : uint8_t { left, right };

struct Column {
  std::string title;
  Align align = Align::left;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<Cell> row);  // one cell a column
  bool empty() const { return rows_.empty(); }

  // Title line and rows, each with its line end. Where it is too wide for the screen, the widest columns give way until it fits.
  std::string text(const Screen& screen) const;

 private:
  std::vector<int64_t> widths(int64_t columns_max) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace neutrino::cli
