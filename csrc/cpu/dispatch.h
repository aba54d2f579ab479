// SPDX-License-Identifier: MIT
// One table of kernels for each instruction set and type; below it nothing branches on either.
#pragma once
#include <string>
#include <vector>

#include "../args.h"
#include "team.h"

namespace fusedrnn {

template <class Real> struct CellKernels {
  const char* name;
  int gates, states, peepholes;
  bool layer_norm;
  long (*tape_size)(const Sizes&, long rows, const Noise&);
  long (*panels_size)(const PackArgs<Real>&);
  void (*pack)(const PackArgs<Real>&);
  long (*forward_size)(const ForwardArgs<Real>&);
  long (*backward_size)(const BackwardArgs<Real>&);
  void (*forward)(const ForwardArgs<Real>&, Team&, int me);
  void (*backward)(const BackwardArgs<Real>&, Team&, int me);
  void (*one_step)(const BackwardArgs<Real>&, Real* to);
};

template <class Real> struct Kernels {
  int width;  // lanes of a vector
  int cell_count;
  const CellKernels<Real>* cells;  // (cell_count,)
  void (*dropout)(const DropoutArgs<Real>&, Team&, int me);
  long (*linear_forward_size)(const LinearArgs<Real>&);
  long (*linear_backward_size)(const LinearArgs<Real>&);
  void (*linear_forward)(const LinearArgs<Real>&, Team&, int me);
  void (*linear_backward)(const LinearArgs<Real>&, Team&, int me);
  void (*softmax_cross_entropy)(const LossArgs<Real>&, Team&, int me);
  void (*adam)(const AdamArgs<Real>&, Team&, int me);
  void (*exp)(const Real* x, Real* out, long n);
  void (*tanh)(const Real* x, Real* out, long n);
  void (*sigmoid)(const Real* x, Real* out, long n);
};

struct Isa {
  const char* name;
  Kernels<float> float32;
  Kernels<double> float64;

  template <class Real> const Kernels<Real>& kernels() const {
    if constexpr (sizeof(Real) == sizeof(float)) return float32;
    else return float64;
  }
};

// Those this processor has, the best last.
std::vector<const Isa*> available_isas();
// The one in use: the best, or FUSEDRNN_ISA, or what set_isa() said. Throws std::invalid_argument for an unknown name,
// std::runtime_error for one that this processor lacks.
const Isa& current_isa();
void set_isa(const std::string& name);

}  // namespace fusedrnn
