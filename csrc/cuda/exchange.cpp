// SPDX-License-Identifier: MIT
// Arrays of other libraries as Buffers and the other way, without a copy: DLPack and the CUDA array interface (version 3).
#include "arrays.h"
#include "buffer.h"
#include "check.h"
#include "dlpack.h"

namespace fusedrnn::cuda {
namespace {

// In both protocols 1 is the default stream and 2 that of the thread (CUDA's own handles for them); 0 is ambiguous.
constexpr std::intptr_t kDefaultStream = 1;

std::intptr_t number_of(cudaStream_t stream) { return stream ? reinterpret_cast<std::intptr_t>(stream) : kDefaultStream; }
cudaStream_t stream_of(std::intptr_t number, const std::string& expected = "stream: expected") {
  if (number < 1) throw std::invalid_argument(expected + " None or a number >= 1, got " + std::to_string(number));
  return number == kDefaultStream ? nullptr : reinterpret_cast<cudaStream_t>(number);
}

std::string type_of(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

[[noreturn]] void refuse_dtype(const std::string& name, const std::string& dtype) {
  throw py::type_error(name + ": expected dtype float32, bfloat16, int32 or int64, got " + dtype);
}

Dtype read_dtype(dlpack::DataType type, const std::string& name) {
  const auto is = [&](int code, int bits) { return type.code == code && type.bits == bits && type.lanes == 1; };
  if (is(dlpack::kFloat, 32)) return Dtype::float32;
  if (is(dlpack::kBfloat, 16)) return Dtype::bfloat16;
  if (is(dlpack::kInt, 32)) return Dtype::int32;
  if (is(dlpack::kInt, 64)) return Dtype::int64;
  if (is(dlpack::kUInt, 8)) return Dtype::uint8;
  static const char* const kinds[] = {"int", "uint", "float", "handle", "bfloat", "complex", "bool"};
  refuse_dtype(name, (type.code < std::size(kinds) ? kinds[type.code] : "code ") + std::to_string(type.bits));
}

dlpack::DataType write_dtype(Dtype dtype) {
  const bool integer = dtype == Dtype::int32 || dtype == Dtype::int64;
  const auto code = integer                   ? dlpack::kInt
                    : dtype == Dtype::uint8   ? dlpack::kUInt
                    : dtype == Dtype::float32 ? dlpack::kFloat
                                              : dlpack::kBfloat;
  return {.code = code, .bits = std::uint8_t(8 * size_of(dtype)), .lanes = 1};
}

// strides: in units of `unit` bytes an element
template <class Strides>
void check_contiguous(const Buffer::Shape& shape, const Strides& strides, long unit, const std::string& name) {
  for (long i = long(shape.size()) - 1; i >= 0; unit *= shape[i--])
    if (shape[i] > 1 && strides[i] != unit) throw std::invalid_argument(name + ": expected C-contiguous, got strided data");
}

void check_sizes(const Buffer::Shape& shape, const std::string& name) {
  for (const long n : shape)
    if (n < 1) throw std::invalid_argument(name + ": expected sizes >= 1, got shape " + shape_text(shape));
}

py::object hand_over(const py::object& object, const std::string& name, cudaStream_t stream) try {
  return object.attr("__dlpack__")(py::arg("stream") = number_of(stream));
} catch (py::error_already_set& error) {
  if (!error.matches(PyExc_BufferError)) throw;
  throw py::type_error(name + ": expected an array that its library hands over, got " +
                       py::cast<std::string>(py::str(error.value())));
}

std::pair<int, py::object> device_pair(const py::object& object, const std::string& name) try {
  return py::cast<std::pair<int, py::object>>(object.attr("__dlpack_device__")());
} catch (const py::cast_error&) {
  throw py::type_error(name + ": expected a valid __dlpack_device__, got another one from " + type_of(object));
}

int device_number(const py::object& id, const std::string& name) {
  int count = 0;
  check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  for (int device = 0; device < count; device++)
    if (py::int_(device).equal(id)) return device;
  throw py::type_error(name + ": expected memory of cuda:0 to cuda:" + std::to_string(count - 1) + ", got that of " +
                       py::cast<std::string>(py::str(id)));
}

std::unique_ptr<Buffer> view_dlpack(const py::object& object, const std::string& name, cudaStream_t stream) {
  const auto [type, id] = device_pair(object, name);
  if (type != dlpack::kCUDA && type != dlpack::kCUDAManaged)
    throw py::type_error(name + ": expected an array on a CUDA device, got " + type_of(object) +
                         (type == dlpack::kCPU ? " on the host" : " on another kind of device"));
  const OnDevice current(device_number(id, name));  // PyTorch hands over what is on the current one
  const py::object capsule = hand_over(object, name, stream);
  if (!PyCapsule_IsValid(capsule.ptr(), dlpack::kName))
    throw std::invalid_argument(name + ": expected a DLPack capsule that nobody has taken, got " + type_of(capsule));
  auto* managed = static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kName));
  PyCapsule_SetName(capsule.ptr(), dlpack::kUsedName);
  py::capsule owner(managed, [](void* tensor) {
    auto* mine = static_cast<dlpack::ManagedTensor*>(tensor);
    if (mine->deleter) mine->deleter(mine);
  });
  const dlpack::Tensor& tensor = managed->tensor;
  const Dtype dtype = read_dtype(tensor.dtype, name);
  Buffer::Shape shape(tensor.shape, tensor.shape + tensor.ndim);
  check_sizes(shape, name);
  if (tensor.strides) check_contiguous(shape, tensor.strides, 1, name);
  char* data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  const int device = device_of(data, name);
  return std::make_unique<Buffer>(data, std::move(shape), dtype, device, std::move(owner), py::none());
}

std::unique_ptr<Buffer> view_interface(const py::object& object, const std::string& name, cudaStream_t stream) try {
  const py::object found = object.attr("__cuda_array_interface__");
  if (!py::isinstance<py::dict>(found)) throw py::cast_error();
  const auto interface = py::reinterpret_borrow<py::dict>(found);
  const auto get = [&](const char* key) { return interface.contains(key) ? py::object(interface[key]) : py::none(); };
  const auto need = [&](const char* key) {
    if (interface.contains(key)) return get(key);
    throw py::type_error(name + ": expected a __cuda_array_interface__ with " + key + ", got one without from " +
                         type_of(object));
  };
  const auto typestr = py::cast<std::string>(need("typestr"));
  if (typestr != "<f4" && typestr != "<i4" && typestr != "<i8") refuse_dtype(name, typestr);
  const Dtype dtype = typestr == "<f4" ? Dtype::float32 : typestr == "<i4" ? Dtype::int32 : Dtype::int64;
  if (!get("mask").is_none()) throw py::type_error(name + ": expected an array without a mask");
  auto shape = py::cast<Buffer::Shape>(need("shape"));
  check_sizes(shape, name);
  if (const py::object strides = get("strides"); !strides.is_none()) {
    const auto steps = py::cast<std::vector<long>>(strides);
    if (steps.size() != shape.size()) throw py::type_error(name + ": expected as many strides as sizes");
    check_contiguous(shape, steps, long(size_of(dtype)), name);
  }
  const auto [address, readonly] = py::cast<std::pair<std::uintptr_t, bool>>(need("data"));
  void* data = reinterpret_cast<void*>(address);
  const int device = device_of(data, name);
  const OnDevice current(device);
  if (const py::object theirs = get("stream"); !theirs.is_none())
    wait(stream, stream_of(py::cast<std::intptr_t>(theirs), name + ": expected a stream,"));
  auto buffer = std::make_unique<Buffer>(data, std::move(shape), dtype, device, object, py::none());
  buffer->readonly = readonly;
  return buffer;
} catch (const py::cast_error&) {
  throw py::type_error(name + ": expected a valid __cuda_array_interface__, got another one from " + type_of(object));
}

std::unique_ptr<Buffer> view(const py::object& object, const std::string& name, const py::object& stream) {
  std::unique_ptr<Buffer> buffer;
  if (py::hasattr(object, "__dlpack__") && py::hasattr(object, "__dlpack_device__"))
    buffer = view_dlpack(object, name, handle_of(stream));
  else if (py::hasattr(object, "__cuda_array_interface__")) buffer = view_interface(object, name, handle_of(stream));
  else throw py::type_error(name + ": expected an array on a CUDA device, got " + type_of(object));
  if (reinterpret_cast<std::uintptr_t>(buffer->data) % size_of(buffer->dtype))
    throw std::invalid_argument(name + ": expected aligned memory, got unaligned");
  return buffer;
}

struct Exported {
  dlpack::ManagedTensor managed;
  py::object buffer;
  std::vector<std::int64_t> shape;
};

void release(dlpack::ManagedTensor* managed) {
  if (!Py_IsInitialized()) return;
  const py::gil_scoped_acquire acquire;
  delete static_cast<Exported*>(managed->context);
}

py::object to_dlpack(py::object self, py::object stream, const py::object&, py::object device, py::object copy) {
  auto& buffer = py::cast<Buffer&>(self);
  const auto own = py::make_tuple(dlpack::kCUDA, buffer.device);
  if (!device.is_none() && !own.equal(device)) throw py::buffer_error("dl_device: expected the array's own, got another one");
  if (!copy.is_none() && py::cast<bool>(copy)) throw py::buffer_error("copy: expected None or False, got True");
  if (!stream.is_none() && !PyLong_Check(stream.ptr()))
    throw py::type_error("stream: expected None or a number, got " + type_of(stream));
  const std::intptr_t number = stream.is_none() ? kDefaultStream : PyLong_AsSsize_t(stream.ptr());
  if (PyErr_Occurred()) {
    PyErr_Clear();
    throw std::invalid_argument("stream: expected None or a number >= 1, got one beyond 64 bits");
  }
  const OnDevice current(buffer.device);
  if (number != -1) {
    if (!buffer.stream.is_none()) wait(stream_of(number), handle_of(buffer.stream));
    if (stream_of(number) != handle_of(buffer.stream)) share(buffer);
  } else share(buffer);
  auto* exported = new Exported{.managed = {}, .buffer = self, .shape = {buffer.shape.begin(), buffer.shape.end()}};
  exported->managed = {.tensor = {.data = buffer.data,
                                  .device = {.type = dlpack::kCUDA, .id = buffer.device},
                                  .ndim = std::int32_t(buffer.shape.size()),
                                  .dtype = write_dtype(buffer.dtype),
                                  .shape = exported->shape.data(),
                                  .strides = nullptr,
                                  .byte_offset = 0},
                       .context = exported,
                       .deleter = &release};
  return py::reinterpret_steal<py::object>(PyCapsule_New(&exported->managed, dlpack::kName, [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, dlpack::kName)) return;  // taken
    release(static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule, dlpack::kName)));
  }));
}

py::dict to_interface(py::object self) {
  auto& buffer = py::cast<Buffer&>(self);
  static const char* const typestr[] = {"<f4", nullptr, "<i4", "<i8", "|u1"};
  const char* type = typestr[int(buffer.dtype)];
  if (!type) throw py::attribute_error("__cuda_array_interface__: there is none for bfloat16; use __dlpack__");
  share(buffer);
  py::dict interface;
  interface["shape"] = py::tuple(py::cast(buffer.shape));
  interface["typestr"] = type;
  interface["data"] = py::make_tuple(reinterpret_cast<std::uintptr_t>(buffer.data), false);
  interface["strides"] = py::none();
  interface["stream"] = buffer.stream.is_none() ? py::object(py::none()) : py::int_(number_of(handle_of(buffer.stream)));
  interface["version"] = 3;
  return interface;
}

}  // namespace

void bind_exchange(py::class_<Buffer>& buffer) {
  buffer
      .def_static("view", &view, py::arg("object"), py::arg("name"), py::arg("stream"),
                  "The memory of another library's array.")
      .def("__dlpack_device__", [](const Buffer& b) { return py::make_tuple(dlpack::kCUDA, b.device); })
      .def("__dlpack__", &to_dlpack, py::kw_only(), py::arg("stream") = py::none(), py::arg("max_version") = py::none(),
           py::arg("dl_device") = py::none(), py::arg("copy") = py::none())
      .def_property_readonly("__cuda_array_interface__", &to_interface);
}

}  // namespace fusedrnn::cuda
