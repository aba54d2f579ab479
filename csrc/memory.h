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
  explicit Buffer(std::size_t bytes);  // throws std::bad_alloc
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer();

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace fusedrnn
