// SPDX-License-Identifier: MIT
// cp.async: a copy may happen at any time between its request and the end of the wait for it. Here it happens at the end, the
// destination is NaN until then, and a source that changes on the way is an error.
#pragma once
#include "emu_builtins.h"

namespace simt {
namespace emu {

void request_copy(void* dst, const void* src, bool pred, Place where);
void commit_copies();
void wait_for_copies(std::size_t keep, Place where);

}  // namespace emu

inline void cp_async16(void* shared_dst, const void* global_src, bool pred, emu::Place where = emu::Place::current()) {
  emu::request_copy(shared_dst, global_src, pred, where);
}
inline void cp_commit() { emu::commit_copies(); }
template <int N> void cp_wait(emu::Place where = emu::Place::current()) { emu::wait_for_copies(N, where); }

}  // namespace simt
