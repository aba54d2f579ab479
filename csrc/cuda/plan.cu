// SPDX-License-Identifier: MIT
// The rule by which the time loop is one persistent launch or a launch for each step, and the sizes there may be.
#include <climits>
#include <cstring>

#include "host.h"
#include "product.h"
#include "tile.h"

namespace fusedrnn::cuda {
namespace {

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

template <class Real> int shared_bytes(const Layer& l, const CellKernels<Real>& cell, bool backward, bool resident) {
  const int rows = backward ? kUnits : cell.info.gates * kUnits, K = padded(l.H) * (backward ? cell.info.gates : 1);
  return int(TileMemory<Real>::bytes(backward ? 1 : cell.first(), resident) + (resident ? panel_bytes<Real>(rows, K) : 0));
}

// Blocks of this kernel that the device runs at once.
template <class Kernel> int resident_blocks(Kernel kernel, int shared) {
  int blocks = 0;
  check(simt::ask_shared(kernel), "cudaFuncSetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, kThreads, shared),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return blocks * attribute(cudaDevAttrMultiProcessorCount);
}

// Persistent if each block's share of weight_hh fits its shared memory beside the tiles, and all blocks that own units run
// at once; as many blocks share the batch rows as then still fit.
template <class Real> Plan plan_of(const Layer& l, Pass pass) {
  const CellKernels<Real>& cell = kernels_of<Real>(l);
  const bool backward = pass == Pass::backward;
  const int tiles = (l.N + kRows - 1) / kRows, units = padded(l.H) / kUnits, owners = units * l.D;
  const int resident = shared_bytes(l, cell, backward, true);
  if (attribute(cudaDevAttrCooperativeLaunch) && resident <= attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) {
    const int blocks = backward ? resident_blocks(cell.backward, resident) : resident_blocks(cell.forward, resident);
    if (owners <= blocks) return {true, units, tiles < blocks / owners ? tiles : blocks / owners, resident};
  }
  return {false, units, tiles < 65535 ? tiles : 65535, shared_bytes(l, cell, backward, false)};
}

// Rows, phases and what walks over them are int, and stay so in the step that ends a loop; a grid's second size has 16 bits.
void check_sizes(const Layer& l, int gates) {
  constexpr long kMostRows = INT_MAX / 2, kMostColumns = 65535L * kSide;
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

Plan plan(const Layer& layer, Pass pass) {
  return by_type(layer.type, [&]<class Real>() { return plan_of<Real>(layer, pass); });
}

}  // namespace fusedrnn::cuda
