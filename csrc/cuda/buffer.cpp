// SPDX-License-Identifier: MIT
// Memory and streams of the device, and copies from and to NumPy.
#include "buffer.h"

#include <map>
#include <mutex>
#include <optional>

#include "arrays.h"
#include "check.h"
#include "gil.h"

namespace fusedrnn::cuda {
namespace {

constexpr struct {
  Dtype dtype;
  const char* name;
  std::size_t size;
} kDtypes[] = {{Dtype::float32, "float32", 4},
               {Dtype::bfloat16, "bfloat16", 2},
               {Dtype::int32, "int32", 4},
               {Dtype::int64, "int64", 8},
               {Dtype::uint8, "uint8", 1}};

// What NumPy holds: bfloat16 as its bits.
py::dtype numpy_dtype(Dtype dtype) {
  switch (dtype) {
    case Dtype::float32:
      return py::dtype::of<float>();
    case Dtype::bfloat16:
      return py::dtype::of<std::uint16_t>();
    case Dtype::int32:
      return py::dtype::of<std::int32_t>();
    case Dtype::int64:
      return py::dtype::of<std::int64_t>();
    default:
      return py::dtype::of<std::uint8_t>();
  }
}

// Memory of streams. What is freed stays here for the next call, where the device's own pool would give it back to the system
// at every synchronisation; CUDA takes it for other allocations of the process that would fail.
cudaMemPool_t pool_of(int device) {
  static std::mutex mutex;
  static std::map<int, cudaMemPool_t> pools;
  const std::lock_guard lock(mutex);
  if (const auto found = pools.find(device); found != pools.end()) return found->second;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool;
  check(cudaMemPoolCreate(&pool, &properties), "cudaMemPoolCreate");
  std::uint64_t everything = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &everything), "cudaMemPoolSetAttribute");
  return pools[device] = pool;
}

void check_shape(const Buffer::Shape& shape, std::size_t item) {
  std::size_t bytes = item;
  for (const long n : shape)
    if (n < 1 || __builtin_mul_overflow(bytes, std::size_t(n), &bytes) || bytes >= std::size_t(1) << 62)
      throw std::invalid_argument("shape: expected sizes >= 1 of less than 2**62 bytes, got " + shape_text(shape));
}

}  // namespace

const char* name_of(Dtype dtype) { return kDtypes[int(dtype)].name; }
std::size_t size_of(Dtype dtype) { return kDtypes[int(dtype)].size; }
Dtype dtype_of(const std::string& name) {
  for (const auto& entry : kDtypes)
    if (name == entry.name) return entry.dtype;
  throw std::invalid_argument("dtype: expected float32, bfloat16, int32, int64 or uint8, got '" + name + "'");
}

std::unique_ptr<Stream> Stream::create(int device) {
  const OnDevice current(device);
  auto stream = std::make_unique<Stream>(0, py::none());
  check(cudaStreamCreateWithFlags(&stream->handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  stream->own_ = true;
  return stream;
}

Stream::~Stream() {
  if (own_) cudaStreamDestroy(handle_);
}

void Stream::synchronize() const {
  const WithoutGil released;
  check(cudaStreamSynchronize(handle_), "cudaStreamSynchronize");
}

cudaStream_t handle_of(const py::object& stream) { return stream.is_none() ? nullptr : py::cast<Stream&>(stream).handle(); }

void wait(cudaStream_t waiter, cudaStream_t other) {
  if (waiter == other) return;
  cudaEvent_t event;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  const cudaError_t recorded = cudaEventRecord(event, other);
  const cudaError_t waits = recorded == cudaSuccess ? cudaStreamWaitEvent(waiter, event, 0) : cudaSuccess;
  cudaEventDestroy(event);  // goes once it is done
  check(recorded, "cudaEventRecord");
  check(waits, "cudaStreamWaitEvent");
}

Buffer::Buffer(Shape shape, Dtype dtype, int device, py::object stream)
    : shape(std::move(shape)), dtype(dtype), device(device), owner(py::none()), stream(std::move(stream)) {
  check_shape(this->shape, size_of(dtype));
  const OnDevice current(device);
  of_stream = !this->stream.is_none();
  const auto call = [&](const char* name) {
    return [=, this] { return name + (" of " + std::to_string(bytes()) + " bytes"); };
  };
  void* memory = nullptr;
  if (of_stream)
    check(cudaMallocFromPoolAsync(&memory, bytes(), pool_of(device), handle_of(this->stream)), call("cudaMallocFromPoolAsync"));
  else {
    const WithoutGil released;  // it may wait, as cudaFree does
    check(cudaMalloc(&memory, bytes()), call("cudaMalloc"));
  }
  data = static_cast<char*>(memory);
}

Buffer::Buffer(void* data, Shape shape, Dtype dtype, int device, py::object owner, py::object stream)
    : data(static_cast<char*>(data)), shape(std::move(shape)), dtype(dtype), device(device), owner(std::move(owner)),
      stream(std::move(stream)) {
  check_shape(this->shape, size_of(dtype));
}

// What fails here has no one to be told: a device in error, or a process that ends. Only what waits for the device lets go of
// the GIL: with threads that compute, each return to it takes milliseconds, and a call frees and allocates often.
Buffer::~Buffer() {
  if (!owner.is_none() || !data) return;
  const cudaStream_t handle = of_stream ? handle_of(stream) : nullptr;
  std::optional<WithoutGil> released;
  if (shared || !of_stream) released.emplace();
  int before = device;
  cudaGetDevice(&before);
  if (before != device) cudaSetDevice(device);
  if (of_stream && shared) cudaDeviceSynchronize();
  if (of_stream) cudaFreeAsync(data, handle);
  else cudaFree(data);
  if (before != device) cudaSetDevice(before);
  cudaGetLastError();
}

long Buffer::count() const {
  long product = 1;
  for (const long n : shape) product *= n;
  return product;
}

void share(Buffer& buffer) {
  for (Buffer* b = &buffer;; b = &py::cast<Buffer&>(b->owner)) {
    b->shared = true;
    if (!py::isinstance<Buffer>(b->owner)) return;
  }
}

int device_of(const void* data, const std::string& name) {
  cudaPointerAttributes attributes{};
  check(cudaPointerGetAttributes(&attributes, data), "cudaPointerGetAttributes");
  if (attributes.type != cudaMemoryTypeDevice && attributes.type != cudaMemoryTypeManaged)
    throw std::invalid_argument(name + ": expected memory of a CUDA device, got memory of the host");
  return attributes.device;
}

void upload(Buffer& to, const py::array& from, const py::object& stream) {
  if (!from.dtype().is(numpy_dtype(to.dtype)) && !from.dtype().equal(numpy_dtype(to.dtype)))
    throw py::type_error("array: expected dtype " + py::cast<std::string>(py::str(numpy_dtype(to.dtype))) + ", got " +
                         py::cast<std::string>(py::str(from.dtype())));
  const Buffer::Shape shape(from.shape(), from.shape() + from.ndim());
  if (shape != to.shape)
    throw std::invalid_argument("array: expected shape " + shape_text(to.shape) + ", got " + shape_text(shape));
  if (!(from.flags() & py::array::c_style)) throw std::invalid_argument("array: expected C-contiguous, got strided data");
  const cudaStream_t handle = handle_of(stream);
  const void* source = from.data();
  {
    const WithoutGil released;
    const OnDevice current(to.device);
    if (stream.is_none()) check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    check(cudaMemcpyAsync(to.data, source, to.bytes(), cudaMemcpyHostToDevice, handle), "cudaMemcpyAsync to the device");
    check(cudaStreamSynchronize(handle), "cudaStreamSynchronize");
  }
  if (!to.of_stream) to.stream = py::none();
}

py::array download(const Buffer& from) {
  py::array to(numpy_dtype(from.dtype), from.shape);
  void* target = to.mutable_data();
  const WithoutGil released;
  const OnDevice current(from.device);
  check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check(cudaMemcpy(target, from.data, from.bytes(), cudaMemcpyDeviceToHost), "cudaMemcpy from the device");
  return to;
}

void zero(Buffer& buffer, const py::object& stream) {
  const OnDevice current(buffer.device);
  if (!buffer.stream.is_none()) wait(handle_of(stream), handle_of(buffer.stream));
  check(cudaMemsetAsync(buffer.data, 0, buffer.bytes(), handle_of(stream)), "cudaMemsetAsync");
  if (!buffer.of_stream) buffer.stream = stream;
}

std::unique_ptr<Buffer> rows(py::object object, long first, long count) {
  const Buffer& whole = py::cast<const Buffer&>(object);
  if (whole.shape.empty() || first < 0 || count < 1 || count > whole.shape[0] || first > whole.shape[0] - count)
    throw std::invalid_argument("rows: expected some of shape " + shape_text(whole.shape) + ", got " + std::to_string(first) +
                                " and " + std::to_string(count) + " of them");
  Buffer::Shape shape = whole.shape;
  shape[0] = count;
  char* data = whole.data + first * (whole.bytes() / whole.shape[0]);
  auto part = std::make_unique<Buffer>(data, std::move(shape), whole.dtype, whole.device, object, whole.stream);
  part->readonly = whole.readonly;
  return part;
}

void bind_buffer(py::module_& m) {
  py::class_<Stream>(m, "Stream", py::module_local())
      .def(py::init<std::uintptr_t, py::object>(), py::arg("handle"), py::arg("owner"), "A stream that its owner keeps alive.")
      .def_static("create", &Stream::create, py::arg("device"), "A new stream.")
      .def("synchronize", &Stream::synchronize)
      .def_property_readonly("handle", [](const Stream& s) { return reinterpret_cast<std::uintptr_t>(s.handle()); });

  auto buffer = py::class_<Buffer>(m, "Buffer", py::module_local());
  buffer
      .def(py::init([](Buffer::Shape shape, const std::string& dtype, int device, const py::object& stream) {
             if (!stream.is_none()) py::cast<Stream&>(stream);
             return std::make_unique<Buffer>(std::move(shape), dtype_of(dtype), device, stream);
           }),
           py::arg("shape"), py::arg("dtype"), py::arg("device") = 0, py::arg("stream") = py::none())
      .def_property_readonly("shape", [](const Buffer& b) { return py::tuple(py::cast(b.shape)); })
      .def_property_readonly("dtype", [](const Buffer& b) { return name_of(b.dtype); })
      .def_readonly("device", &Buffer::device)
      .def_readonly("stream", &Buffer::stream)
      .def_readonly("readonly", &Buffer::readonly)
      .def_property_readonly("nbytes", &Buffer::bytes)
      .def_property_readonly("pointer", [](const Buffer& b) { return reinterpret_cast<std::uintptr_t>(b.data); })
      .def("upload", &upload, py::arg("array"), py::arg("stream") = py::none())
      .def("download", &download)
      .def("zero", &zero, py::arg("stream"))
      .def("rows", &rows, py::arg("first"), py::arg("count"));
  bind_exchange(buffer);
}

}  // namespace fusedrnn::cuda
