// SPDX-License-Identifier: MIT
// What one call hands to the device: plain data of the host, pointers into device memory. One layer, one or both of its
// directions, time first. Everything is enqueued on `stream` and returns at once; a CUDA call that fails throws
// std::runtime_error with the call and the reason.
//
// Sizes: T time steps, N batch rows, I input size, H hidden size, D directions, G gates, Q peepholes, S states (h, and c in
// LSTM). Arrays are row-major, of one type (float32 or bfloat16) and belong to the caller; sums, gates and c are float32
// inside. Weights are PyTorch's.
#pragma once
#include <cstddef>
#include <cstdint>

#include "simt/runtime.h"

namespace fusedrnn::cuda {

constexpr int kMaxStates = 2, kMaxDirections = 2;

enum class Type { float32, bfloat16 };
enum class Pass { inference, training, backward };

// Of one direction, and as well of its gradients. Biases may be null; weight_ch (Q*H,) is, without peepholes.
template <class Pointer> struct Weights {
  Pointer weight_ih, weight_hh, bias_ih, bias_hh, weight_ch;  // (G*H, I), (G*H, H), (G*H,), (G*H,)
};

// What both passes of one layer are told.
struct Layer {
  const char* cell;                  // a name of cells(), as on the CPU
  Type type;
  int T, N, I, H, D;
  bool reverse;                      // with one direction: time runs from T-1 to 0. With two, the second does.
  const std::int32_t* lengths;       // (N,) in device memory, 0 to T, or null: from there on y is 0 and the state stays
  Weights<const void*> weights[kMaxDirections];
  const void* x;                     // (T, N, I)
  cudaStream_t stream;
};

struct ForwardArgs {
  Layer layer;
  const void* state_0[kMaxStates];   // (D, N, H); null is zeros
  void* y;                           // (T, N, D*H)
  void* state_n[kMaxStates];         // (D, N, H)
  void* tape;                        // tape_bytes() for backward; null: inference
  void* workspace;                   // workspace_bytes()
};

struct BackwardArgs {
  Layer layer;                       // as forward had it
  const void* tape;
  const void* dy;                    // (T, N, D*H)
  const void* dstate_n[kMaxStates];  // (D, N, H); null is zeros
  void* dx;                          // (T, N, I), or null
  Weights<void*> dweights[kMaxDirections];  // overwritten; weight_ih null: none are wanted
  void* dstate_0[kMaxStates];        // (D, N, H)
  void* workspace;                   // workspace_bytes()
};

// How the time loop is run; the rule stands in plan.cu.
struct Plan {
  bool persistent;  // one cooperative launch for all steps, weight_hh in shared memory; else a launch a step
  int unit_blocks, row_blocks;  // for each direction: blocks of 8 hidden units, and how many share the batch rows
  int shared_bytes;  // of a block
};

struct CellInfo {
  const char* name;
  int gates, states, peepholes;
};

const CellInfo* cell_info(int i);  // of all cells the device has; null behind the last
Plan plan(const Layer& layer, Pass pass);
void forget_devices();  // what plan() knows of them: those of the emulator change
std::size_t tape_bytes(const Layer& layer);
std::size_t workspace_bytes(const Layer& layer, Pass pass);
void forward(const ForwardArgs& args);
void backward(const BackwardArgs& args);

}  // namespace fusedrnn::cuda
