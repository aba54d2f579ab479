// SPDX-License-Identifier: MIT
#include "memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace fusedrnn {
namespace {

constexpr std::size_t kPage = 4096, kHugePage = std::size_t(2) << 20;
constexpr std::size_t kMostFree = 2048;  // buffers: the tapes of a cell's steps
constexpr std::size_t kForget = 64;    // calls after which most of an old peak is forgotten

struct Block {
  void* data;
  std::size_t bytes;
};

struct Pool {
  std::mutex mutex;
  std::vector<Block> free;  // the longest unused first
  std::size_t free_bytes = 0, used_bytes = 0, peak_bytes = 0;

  // The smallest that fits, unless it is far too large; of those the last used, still in the cache.
  Block take(std::size_t bytes) {
    const std::lock_guard lock(mutex);
    auto best = free.end();
    for (auto it = free.end(); it != free.begin() && (best == free.end() || best->bytes != bytes);)
      if (--it; it->bytes >= bytes && it->bytes <= 2 * bytes + kPage && (best == free.end() || it->bytes < best->bytes))
        best = it;
    Block block{nullptr, bytes};
    if (best != free.end()) {
      block = *best;
      remove(best);
    } else {
      make_room(bytes);
    }
    used_bytes += block.bytes;
    peak_bytes = std::max(peak_bytes - peak_bytes / kForget, used_bytes);
    return block;
  }

  // A new block also serves what the largest free one below its size did: tapes that grow from one to the next
  // (the stretches of a ragged batch, backward) take the memory of the last.
  void make_room(std::size_t bytes) {
    auto largest = free.end();
    for (auto it = free.begin(); it != free.end(); ++it)
      if (it->bytes < bytes && 2 * it->bytes + kPage >= bytes && (largest == free.end() || it->bytes > largest->bytes))
        largest = it;
    if (largest == free.end()) return;
    std::free(largest->data);
    remove(largest);
  }

  void remove(std::vector<Block>::iterator block) {
    free_bytes -= block->bytes;
    free.erase(block);
  }

  void give_back(Block block) {
    const std::lock_guard lock(mutex);
    used_bytes -= block.bytes;
    if (block.data) {
      free.push_back(block);
      free_bytes += block.bytes;
    }
    while (!free.empty() && (free.size() > kMostFree || free_bytes + used_bytes > 2 * peak_bytes)) {
      std::free(free.front().data);
      remove(free.begin());
    }
  }
};

Pool& pool() {
  static Pool* const instance = new Pool;  // outlives every tape, also those freed at exit
  return *instance;
}

// A child whose parent forked while another thread held the mutex would wait for it forever.
[[maybe_unused]] const int at_fork =
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });

}  // namespace

Buffer::Buffer(std::size_t bytes, bool reused) : bytes_((bytes + kPage - 1) / kPage * kPage), reused_(reused) {
  if (reused) {
    const Block block = pool().take(bytes_);
    data_ = block.data;
    bytes_ = block.bytes;
  }
  if (data_) return;
  const bool huge = bytes_ >= kHugePage;
  if (posix_memalign(&data_, huge ? kHugePage : kPage, bytes_)) {
    data_ = nullptr;
    if (reused) pool().give_back({nullptr, bytes_});
    throw std::bad_alloc();
  }
  if (huge) madvise(data_, bytes_ / kHugePage * kHugePage, MADV_HUGEPAGE);  // the rest would be rounded up to one more
}

Buffer::~Buffer() {
  if (!data_) return;
  if (reused_) pool().give_back({data_, bytes_});
  else std::free(data_);
}

}  // namespace fusedrnn
