// SPDX-License-Identifier: MIT
// Adam's step, in one pass over a parameter, its gradient and its moments. Each operation is rounded by itself, in the order
// of torch.optim.Adam's: the same bits on every instruction set, and as NumPy's operations one after the other give.
#pragma once
#include "../args.h"
#include "team.h"
#include "vec.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class Real> void adam(const AdamArgs<Real>& a, Team& team, int me) {
  constexpr int W = kWidth<Real>;
  for (long i = 0; i < a.count; i++) {
    const auto& [n, p, g, m, s] = a.parameters[i];
    const long blocks = (n + W - 1) / W, end = blocks * (me + 1) / team.size() * W;
    for (long k = blocks * me / team.size() * W; k < end; k += W) {
      const long lanes = n - k;
      const Vec<Real> value = load(p + k, lanes);
      Vec<Real> grad = load(g + k, lanes);
      if (a.weight_decay != 0) grad += value * a.weight_decay;
      const Vec<Real> mean = load(m + k, lanes), change = grad - mean;
      // as torch.lerp: near the end that weighs more
      const Vec<Real> first = a.m_rate < Real(0.5) ? mean + change * a.m_rate : grad - change * a.m_decay;
      const Vec<Real> second = load(s + k, lanes) * a.s_decay + grad * a.s_rate * grad;
      store(m + k, first, lanes);
      store(s + k, second, lanes);
      store(p + k, value * a.kept - first * a.rate / (square_root(second) / a.s_unbiased + a.eps), lanes);
    }
    team.wait(me);  // the next may be a part of this one
  }
}

}  // namespace fusedrnn::FUSEDRNN_ISA
