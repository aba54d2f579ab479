// SPDX-License-Identifier: MIT
// Arrays in device memory, C-contiguous, as Python holds them: owned, or a view of somebody else's.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "simt/runtime.h"

namespace fusedrnn::cuda {

namespace py = pybind11;

enum class Dtype { float32, bfloat16, int32, int64, uint8 };

const char* name_of(Dtype dtype);
Dtype dtype_of(const std::string& name);  // throws for a name there is none of
std::size_t size_of(Dtype dtype);

// Where work is enqueued. One of somebody else's is kept alive by its owner, any object; one of our own dies with this.
class Stream {
 public:
  Stream(std::uintptr_t handle, py::object owner) : handle_(reinterpret_cast<cudaStream_t>(handle)), owner_(std::move(owner)) {}
  static std::unique_ptr<Stream> create(int device);
  ~Stream();

  cudaStream_t handle() const { return handle_; }
  void synchronize() const;

 private:
  cudaStream_t handle_;
  py::object owner_;
  bool own_ = false;
};

cudaStream_t handle_of(const py::object& stream);  // of a Stream; that of None is the default stream
// What is enqueued on `waiter` from now on waits for what is enqueued on `other` so far.
void wait(cudaStream_t waiter, cudaStream_t other);

struct Buffer {
  using Shape = std::vector<long>;

  // Not initialised. With a stream (a Stream, or None) it is memory of that stream's, which costs no synchronisation: for
  // what lives as long as a call or its tape. Without one it is memory for all streams.
  Buffer(Shape shape, Dtype dtype, int device, py::object stream);
  // Of memory that `owner` keeps alive.
  Buffer(void* data, Shape shape, Dtype dtype, int device, py::object owner, py::object stream);
  Buffer(const Buffer&) = delete;
  ~Buffer();

  long count() const;
  std::size_t bytes() const { return std::size_t(count()) * size_of(dtype); }

  char* data = nullptr;
  Shape shape;
  Dtype dtype;
  int device;
  py::object owner;      // None: the memory is our own
  py::object stream;     // a Stream: the last whose work writes here; None: nothing is under way
  bool of_stream = false;  // allocated on `stream`, which stays what it is
  bool readonly = false;  // as its owner says
  bool shared = false;   // work of other streams may read it
};

// Work of another stream than its own may read this memory until it is freed.
void share(Buffer& buffer);

// Throws unless `data` is memory of a device, and returns which; `name` is the argument's.
int device_of(const void* data, const std::string& name);

// Copies of a NumPy array with as many bytes. With a stream they are made there, and waited for; with None after all that
// is under way on the device.
void upload(Buffer& to, const py::array& from, const py::object& stream);
py::array download(const Buffer& from);
void zero(Buffer& buffer, const py::object& stream);
// Rows first to first + count of the first axis, without a copy.
std::unique_ptr<Buffer> rows(py::object buffer, long first, long count);

void bind_buffer(py::module_& m);
void bind_exchange(py::class_<Buffer>& buffer);
void bind_calls(py::module_& m);
#ifdef FUSEDRNN_EMULATE
void bind_emulator(py::module_& m);
#endif

}  // namespace fusedrnn::cuda
