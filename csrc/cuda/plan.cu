// SPDX-License-Identifier: MIT
// The rule by which the time loop is one persistent launch or a launch for each step, and the sizes there may be.
#include <algorithm>
#include <climits>
#include <cstring>
#include <map>
#include <mutex>
#include <tuple>

#include "host.h"
#include "product.h"
#include "tile.h"

namespace fusedrnn::cuda {
namespace {

constexpr int kMostBlocks = 65535;  // in the second and third size of a grid

template <class Real> int shared_bytes(const Layer& l, const CellKernels<Real>& cell, bool backward, bool resident) {
  const int rows = backward ? kUnits : cell.info.gates * kUnits, K = padded(l.H) * (backward ? cell.info.gates : 1);
  return int(TileMemory<Real>::bytes(backward ? 1 : cell.first(), resident) + (resident ? panel_bytes<Real>(rows, K) : 0));
}

// Blocks of this kernel that the current device runs at once, waiting for each other; 0 if it cannot.
template <class Kernel> int ask_blocks(Kernel kernel, int shared, int device) {
  const auto attribute = [=](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
    return value;
  };
  if (!attribute(cudaDevAttrCooperativeLaunch) || shared > attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) return 0;
  int blocks = 0;
  check(simt::ask_shared(kernel), "cudaFuncSetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, shared),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return blocks * attribute(cudaDevAttrMultiProcessorCount);
}

// What the driver said, by device, kernel and shared memory: it is asked once. Calls come from any thread of the host.
struct Known {
  std::mutex mutex;
  std::map<std::tuple<int, const void*, int>, int> blocks;
} known;

template <class Kernel> int blocks_at_once(Kernel kernel, int shared) {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard lock(known.mutex);
  const std::tuple key(device, reinterpret_cast<const void*>(kernel), shared);
  const auto found = known.blocks.find(key);
  return found != known.blocks.end() ? found->second : known.blocks[key] = ask_blocks(kernel, shared, device);
}

// Persistent if each block's share of weight_hh fits its shared memory beside the tiles, and all blocks that own units run
// at once; as many blocks share the batch rows as then still fit.
template <class Real> Plan plan_of(const Layer& l, Pass pass) {
  const CellKernels<Real>& cell = kernels_of<Real>(l);
  const bool backward = pass == Pass::backward;
  const int tiles = (l.N + kRows - 1) / kRows, units = padded(l.H) / kUnits, owners = units * l.D;
  const int resident = shared_bytes(l, cell, backward, true);
  const int blocks = backward ? blocks_at_once(cell.backward, resident) : blocks_at_once(cell.forward, resident);
  const bool persistent = owners <= blocks;
  return {.persistent = persistent,
          .unit_blocks = units,
          .row_blocks = std::min(tiles, persistent ? blocks / owners : kMostBlocks),
          .shared_bytes = persistent ? resident : shared_bytes(l, cell, backward, false)};
}

// Rows, phases and what walks over them are int, and stay so in the step that ends a loop; so are grids.
void check_sizes(const Layer& l, int gates) {
  constexpr long kMostRows = INT_MAX / 2, kMostColumns = long(kMostBlocks) * kSide;
  if (long(l.T) * l.N <= kMostRows && l.I <= kMostColumns && gates * (l.H + 15L) <= kMostColumns) return;
  std::string got;
  for (const int size : {l.T, l.N, l.I, l.H}) got += std::to_string(size) + ", ";
  throw std::invalid_argument("x, weights: expected T*N of at most " + std::to_string(kMostRows) +
                              ", I and G*(H + 15) of at most " + std::to_string(kMostColumns) + ", got T, N, I, H, G = (" +
                              got + std::to_string(gates) + ")");
}

}  // namespace

template <class Real> const CellKernels<Real>& kernels_of(const Layer& layer) {
  const Kernels<Real>& all = kernels<Real>();
  for (int i = 0; i < all.count; i++)
    if (!std::strcmp(all.cells[i].info.name, layer.cell)) {
      check_sizes(layer, all.cells[i].info.gates);
      return all.cells[i];
    }
  throw std::invalid_argument(std::string("cell: expected one that the device has, got ") + layer.cell);
}
template const CellKernels<float>& kernels_of(const Layer&);
template const CellKernels<simt::bf16>& kernels_of(const Layer&);

const CellInfo* cell_info(int i) { return i < kernels<float>().count ? &kernels<float>().cells[i].info : nullptr; }

void forget_devices() {
  const std::lock_guard lock(known.mutex);
  known.blocks.clear();
}

Plan plan(const Layer& layer, Pass pass) {
  return by_type(layer.type, [&]<class Real>() { return plan_of<Real>(layer, pass); });
}

}  // namespace fusedrnn::cuda
