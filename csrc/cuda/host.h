// SPDX-License-Identifier: MIT
// What both passes do on the host: buffers cut out of the caller's memory, errors, the launches of the time loop.
#pragma once
#include "check.h"
#include "kernels.h"

namespace fusedrnn::cuda {

// Cuts buffers out of one piece of memory; out of null, only counts bytes.
class Arena {
 public:
  explicit Arena(const void* memory) : memory_(static_cast<char*>(const_cast<void*>(memory))) {}
  template <class T> T* take(long n) {
    char* at = memory_ ? memory_ + used_ : nullptr;
    used_ += (n * sizeof(T) + 255) / 256 * 256;  // as aligned as cudaMalloc's
    return reinterpret_cast<T*>(at);
  }
  std::size_t used() const { return used_; }

 private:
  char* memory_;
  std::size_t used_ = 0;
};

// One direction's states and what backward needs; shapes in params.h.
template <class Real> struct States {
  Real* h;
  float* c;
  Real* u;
  float* saved;

  States(Arena& arena, const Layer& l, const CellKernels<Real>& cell, bool training) {
    const long steps = training ? l.T : 1, row = padded(l.H);
    h = arena.take<Real>((steps + 1) * l.N * row);
    c = cell.info.states > 1 ? arena.take<float>((steps + 1) * l.N * row) : nullptr;
    u = cell.late ? arena.take<Real>(steps * l.N * row) : nullptr;
    saved = training || cell.late ? arena.take<float>(steps * l.N * cell.saved * l.H) : nullptr;
  }
};

inline LoopSizes loop_sizes(const Layer& l) {
  return {.T = l.T, .N = l.N, .H = l.H, .Hp = padded(l.H), .y_row = long(l.D) * l.H};
}
inline bool reversed(const Layer& l, int direction) { return l.D == 2 ? direction == 1 : l.reverse; }
inline long panels_size(const Layer& l, int gates) { return long(gates) * padded(l.H) * padded(l.H); }

std::size_t forward_bytes(const Layer& layer, bool training);  // of the workspace

template <class F> auto by_type(Type type, F&& f) {
  return type == Type::float32 ? f.template operator()<float>() : f.template operator()<simt::bf16>();
}

template <class Kernel, class Params>
void run_loop(Kernel kernel, const Params& params, const Plan& plan, int directions, int phases, cudaStream_t stream) {
  const dim3 grid(plan.unit_blocks, directions, plan.row_blocks);
  const int each = plan.persistent ? phases : 1;
  check(simt::ask_shared(kernel), "cudaFuncSetAttribute");
  for (int first = 0; first < phases; first += each)
    check(simt::launch(kernel, grid, dim3(kThreads), plan.shared_bytes, stream, plan.persistent, params, first, first + each),
          plan.persistent ? "cudaLaunchKernel(time loop)" : "cudaLaunchKernel(time step)");
}

}  // namespace fusedrnn::cuda
