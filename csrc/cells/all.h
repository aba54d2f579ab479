// SPDX-License-Identifier: MIT
// The one list of cells; their names are those of Python. A new cell is a header beside this one and a line here.
#pragma once
#include "gru.h"
#include "lstm.h"
#include "norm.h"
#include "rnn.h"

namespace fusedrnn::FUSEDRNN_ISA {

template <class F> constexpr void for_each_cell(F&& f) {
  f.template operator()<Rnn<Tanh>>();
  f.template operator()<Rnn<Relu>>();
  f.template operator()<Lstm<false, false>>();
  f.template operator()<Lstm<true, false>>();
  f.template operator()<Lstm<false, true>>();
  f.template operator()<Lstm<true, true>>();
  f.template operator()<Gru<true>>();
  f.template operator()<Gru<false>>();
  f.template operator()<LstmNorm<false, false>>();
  f.template operator()<LstmNorm<true, false>>();
  f.template operator()<LstmNorm<false, true>>();
  f.template operator()<LstmNorm<true, true>>();
  f.template operator()<GruNorm<true>>();
  f.template operator()<GruNorm<false>>();
}

}  // namespace fusedrnn::FUSEDRNN_ISA
