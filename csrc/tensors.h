// SPDX-License-Identifier: MIT
// Tensors of another library in place of NumPy arrays, read through the table of functions that DLPack 1.2 has for it
// (github.com/dmlc/dlpack): their memory as it is, without an array around it.
#pragma once
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace fusedrnn {

namespace py = pybind11;

template <class Range> std::string shape_text(const Range& shape) {
  std::string text = "(";
  for (const auto n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + (std::size(shape) == 1 ? ",)" : ")");
}

// As dlpack.h has them, up to what is used here
namespace dlpack {

struct Tensor {
  void* data;
  struct { std::int32_t type, id; } device;  // type 1: the host's memory
  std::int32_t ndim;
  struct {
    std::uint8_t code, bits;
    std::uint16_t lanes;
  } dtype;  // code 0: int, 1: unsigned, 2: float
  std::int64_t *shape, *strides;  // strides in elements
  std::uint64_t byte_offset;
};

struct ExchangeTable {
  struct { std::uint32_t major, minor; } version;
  const void *previous, *allocate, *from_object, *to_object;
  int (*tensor_from_object)(void* object, Tensor* out);  // owned by the object; -1: a Python error is set
};

}  // namespace dlpack

// The type whose objects are tensors, its table, the one subclass that says no more, and the type's method is_neg; null until
// accept_tensors().
struct TensorType {
  PyTypeObject *type = nullptr, *parameter = nullptr;
  const dlpack::ExchangeTable* table = nullptr;
  PyObject* is_neg = nullptr;
};
inline TensorType tensor_type;

inline void accept_tensors(const py::type& type, const py::type& parameter) {
  const py::capsule capsule = type.attr("__dlpack_c_exchange_api__");
  const auto* table = static_cast<const dlpack::ExchangeTable*>(capsule.get_pointer());
  if (table->version.major != 1 || !table->tensor_from_object)
    throw std::invalid_argument("type: expected the exchange table of DLPack 1");
  const auto owned = [](py::handle object) { return reinterpret_cast<PyTypeObject*>(object.inc_ref().ptr()); };
  tensor_type = {owned(type), owned(parameter), table, py::object(type.attr("is_neg")).release().ptr()};
}

inline bool is_tensor(py::handle object) { return tensor_type.type && PyObject_TypeCheck(object.ptr(), tensor_type.type); }

// Its shape and strides live as long as the object, if no one changes it.
inline dlpack::Tensor read_tensor(py::handle object) {
  dlpack::Tensor tensor;
  if (tensor_type.table->tensor_from_object(object.ptr(), &tensor)) throw py::error_already_set();
  return tensor;
}

template <class T> constexpr std::uint8_t kDtypeCode = std::is_floating_point_v<T> ? 2 : std::is_signed_v<T> ? 0 : 1;
template <class T> bool is_of(const dlpack::Tensor& tensor) {
  return tensor.dtype.code == kDtypeCode<T> && tensor.dtype.bits == 8 * sizeof(T) && tensor.dtype.lanes == 1;
}

// A tensor of T in the host's memory, with the shape that is wanted; axes of size 1 before it do not count.
template <class T> dlpack::Tensor tensor_of(py::handle object, const std::string& name, const long* first, const long* last) {
  dlpack::Tensor tensor = read_tensor(object);
  if (!is_of<T>(tensor) || tensor.device.type != 1)
    throw py::type_error(name + ": expected a tensor of " + std::to_string(8 * sizeof(T)) + " bits on the CPU, got another");
  const auto got = [&] { return shape_text(std::vector<long>(tensor.shape, tensor.shape + tensor.ndim)); };
  while (last - first > tensor.ndim && *first == 1) first++;
  for (; tensor.ndim > last - first && *tensor.shape == 1; tensor.ndim--) tensor.shape++, tensor.strides++;
  if (!std::equal(first, last, tensor.shape, tensor.shape + tensor.ndim))
    throw std::invalid_argument(name + ": expected shape " + shape_text(std::vector<long>(first, last)) + ", got " + got());
  if (!tensor.data && std::find(first, last, 0) == last)
    throw std::invalid_argument(name + ": expected memory, got a freed tensor");
  tensor.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(T)) throw std::invalid_argument(name + ": expected aligned data");
  return tensor;
}

// Whether a tensor is stored with the other sign, as the imaginary parts of conjugate numbers: its memory does not say so.
inline bool is_negated(py::handle tensor) {
  PyObject* const self = tensor.ptr();
  const auto answer = py::reinterpret_steal<py::object>(PyObject_Vectorcall(tensor_type.is_neg, &self, 1, nullptr));
  if (!answer) throw py::error_already_set();
  return answer.ptr() == Py_True;
}

// The shapes of tensors, of no other subclass, in the host's memory, all float32 or all float64, aligned, with the strides of
// new ones and their own sign. None if one is another.
inline py::object plain_shapes(const py::tuple& objects) {
  std::uint8_t bits = 0;
  py::tuple shapes(objects.size());
  for (std::size_t at = 0; at < objects.size(); at++) {
    const py::handle object = objects[at];
    if (Py_TYPE(object.ptr()) != tensor_type.type && Py_TYPE(object.ptr()) != tensor_type.parameter) return py::none();
    dlpack::Tensor tensor;
    if (tensor_type.table->tensor_from_object(object.ptr(), &tensor)) {
      PyErr_Clear();
      return py::none();
    }
    if (tensor.device.type != 1 || !(is_of<float>(tensor) || is_of<double>(tensor)) || (bits && tensor.dtype.bits != bits))
      return py::none();
    bits = tensor.dtype.bits;
    if (is_negated(object)) return py::none();
    if (!tensor.data) return py::none();  // empty, or zeros that PyTorch does not store
    if ((reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset) % (bits / 8)) return py::none();
    py::tuple shape(tensor.ndim);
    std::int64_t expected = 1;
    for (int i = tensor.ndim; i-- > 0; expected *= tensor.shape[i]) {
      if (tensor.strides[i] != expected) return py::none();
      shape[i] = py::int_(tensor.shape[i]);
    }
    shapes[at] = std::move(shape);
  }
  return shapes;
}

inline bool is_contiguous(const dlpack::Tensor& tensor) {
  std::int64_t expected = 1;
  for (int i = tensor.ndim; i-- > 0; expected *= tensor.shape[i])
    if (tensor.shape[i] != 1 && tensor.strides[i] != expected) return false;
  return true;
}

}  // namespace fusedrnn
