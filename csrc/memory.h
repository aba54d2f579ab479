// SPDX-License-Identifier: MIT
// Tapes and workspaces: aligned memory that is kept and reused. Fresh pages cost more than the arithmetic of small problems
// (about 0.4 ms a megabyte on first touch).
#pragma once
#include <cstddef>
#include <utility>

namespace fusedrnn {

// Not initialised. Returns to the pool when it dies; the pool keeps no more than twice what was once in
// use at the same time (the workspaces of forward and backward differ in size, and take turns), and forgets old peaks.
class Buffer {
 public:
  Buffer() = default;
  // reused: from the pool, and back to it; else fresh, of just this size, for what stays. Throws std::bad_alloc.
  explicit Buffer(std::size_t bytes, bool reused = true);
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(reused_, other.reused_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  bool reused_ = true;
};

}  // namespace fusedrnn
