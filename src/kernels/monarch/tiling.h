// Which token lies where in which tile. Tile order: frame group, row cut, column cut.
#pragma once

#include <cstdint>

#include "kernels/monarch/monarch.h"

namespace mrt {

/// Tiles in `frames` frames.
int64_t TileCount(const MonarchShape& shape, int64_t frames);

/// Query tile `a` sees the key tiles [0, VisibleKeyTiles(shape, a)).
int64_t VisibleKeyTiles(const MonarchShape& shape, int64_t a);

/// Where row `row` of tile `tile` begins; its b2 columns follow one another in the grid.
struct TileRow {
  int64_t frame = 0;
  int64_t token = 0;  // of the first column, within the frame
};
TileRow FindTileRow(const MonarchShape& shape, int64_t tile, int64_t row);

}  // namespace mrt
