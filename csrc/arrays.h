// SPDX-License-Identifier: MIT
// NumPy arrays, or tensors, in, checked pointers out. Nothing is cast or copied: an array that does not fit is refused. The
// Python side has checked already, with better words; these checks keep a direct call on _core from harm.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "tensors.h"

namespace fusedrnn {

template <class T> const char* type_name() {
  if constexpr (std::is_same_v<T, float>) return "float32";
  else if constexpr (std::is_same_v<T, double>) return "float64";
  else if constexpr (std::is_same_v<T, bool>) return "bool";
  else return "int64";
}

// An array of T, any shape and strides.
template <class T> py::array array_of(py::handle object, const std::string& name) {
  if (!py::isinstance<py::array>(object))
    throw py::type_error(name + ": expected numpy.ndarray, got " + Py_TYPE(object.ptr())->tp_name);
  auto array = py::reinterpret_borrow<py::array>(object);
  const bool plain = Py_TYPE(object.ptr()) == reinterpret_cast<PyTypeObject*>(py::detail::npy_api::get().PyArray_Type_);
  if (!plain && py::hasattr(object, "mask"))
    throw py::type_error(name + ": expected an array without a mask, got " + Py_TYPE(object.ptr())->tp_name);
  if (!py::isinstance<py::array_t<T>>(object))
    throw py::type_error(name + ": expected " + type_name<T>() + ", got " + py::cast<std::string>(py::str(array.dtype())));
  return array;
}

inline void check_shape(const py::array& array, const std::string& name, std::initializer_list<long> shape) {
  const auto *first = array.shape(), *last = first + array.ndim();
  if (!std::equal(shape.begin(), shape.end(), first, last))
    throw std::invalid_argument(name + ": expected shape " + shape_text(shape) + ", got " +
                                shape_text(std::vector<long>(first, last)));
}

inline void check_layout(const py::array& array, const std::string& name, bool writes) {
  if (!(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_)) throw std::invalid_argument(name + ": expected aligned data");
  if (writes && !array.writeable()) throw std::invalid_argument(name + ": expected a writable array, got a read-only one");
}

// Const T for inputs, T for outputs.
template <class T> T* pointer(py::handle object, const std::string& name, std::initializer_list<long> shape) {
  using Value = std::remove_const_t<T>;
  if (is_tensor(object)) {
    const dlpack::Tensor tensor = tensor_of<Value>(object, name, shape.begin(), shape.end());
    if (!is_contiguous(tensor)) throw std::invalid_argument(name + ": expected a contiguous tensor, got a strided one");
    return static_cast<T*>(tensor.data);
  }
  const py::array array = array_of<Value>(object, name);
  check_shape(array, name, shape);
  check_layout(array, name, !std::is_const_v<T>);
  if (!(array.flags() & py::array::c_style))
    throw std::invalid_argument(name + ": expected C-contiguous, got strided data; use np.ascontiguousarray");
  if constexpr (std::is_const_v<T>) return static_cast<T*>(array.data());
  else return static_cast<T*>(const_cast<void*>(array.data()));
}
template <class T> T* optional_pointer(py::handle object, const std::string& name, std::initializer_list<long> shape) {
  return object.is_none() ? nullptr : pointer<T>(object, name, shape);
}

// (T, N, H) whose T*N rows are contiguous and evenly apart, e.g. one direction's half of (T, N, 2*H).
template <class T> struct Rows {
  T* data;
  long row;  // values from one row to the next
};
template <class T> Rows<T> row_pointer(py::handle object, const std::string& name, std::initializer_list<long> shape) {
  using Value = std::remove_const_t<T>;
  const long *const sizes = shape.begin(), width = sizes[2];
  long item = 1, strides[3] = {sizes[1] * width, width, 1};
  void* data;
  if (is_tensor(object)) {
    const dlpack::Tensor tensor = tensor_of<Value>(object, name, shape.begin(), shape.end());
    std::copy(tensor.strides, tensor.strides + tensor.ndim, strides + 3 - tensor.ndim);
    data = tensor.data;
  } else {
    const py::array array = array_of<Value>(object, name);
    check_shape(array, name, shape);
    check_layout(array, name, !std::is_const_v<T>);
    item = sizeof(T);
    std::copy(array.strides(), array.strides() + 3, strides);
    data = const_cast<void*>(array.data());
  }
  const long row = sizes[1] > 1 ? strides[1] : sizes[0] > 1 ? strides[0] : width * item;
  const bool even = sizes[1] == 1 || sizes[0] == 1 || strides[0] == sizes[1] * row;
  if ((width > 1 && strides[2] != item) || row % item || row < width * item || !even)
    throw std::invalid_argument(name + ": expected contiguous rows evenly apart");
  return {static_cast<T*>(data), row / item};
}

// The sizes of an array or a tensor, whatever it holds; they live as long as it does.
struct Shape {
  int ndim;
  const long* sizes;
};
inline Shape shape_of(py::handle object, const std::string& wanted) {
  static_assert(sizeof(long) == sizeof(std::int64_t) && sizeof(long) == sizeof(py::ssize_t));
  if (is_tensor(object)) {
    const dlpack::Tensor tensor = read_tensor(object);
    return {tensor.ndim, reinterpret_cast<const long*>(tensor.shape)};
  }
  if (!py::isinstance<py::array>(object)) throw py::type_error(wanted);
  const auto array = py::reinterpret_borrow<py::array>(object);
  return {int(array.ndim()), reinterpret_cast<const long*>(array.shape())};
}

template <class T> bool holds(py::handle object) {
  return is_tensor(object) ? is_of<T>(read_tensor(object)) : py::isinstance<py::array_t<T>>(object);
}

// The memory of one call. What it writes must overlap neither what it reads nor what else it writes: kernels run in an
// order of their own, and tokens, once checked, must stay what they are.
class Regions {
 public:
  template <class T> void reads(const T* p, long n) { add(p, n, nullptr); }
  template <class T> void writes(const T* p, long n, const char* name) { add(p, n, name); }
  void check() const {
    for (const Region& a : std::span(regions_, count_))
      for (const Region& b : std::span(regions_, count_))
        if (a.name && &a != &b && a.first < b.last && b.first < a.last)
          throw std::invalid_argument(std::string(a.name) + ": expected memory of its own, got memory shared with " +
                                      (b.name ? b.name : "an input"));
  }

 private:
  struct Region {
    const char *first, *last, *name;  // name: null for what is only read
  };
  template <class T> void add(const T* p, long n, const char* name) {
    if (!p) return;
    if (count_ == kMost) throw std::logic_error("more arrays than Regions has room for");
    regions_[count_++] = {reinterpret_cast<const char*>(p), reinterpret_cast<const char*>(p + n), name};
  }
  // Two directions on a device have some 40. An array, for a single step must not allocate.
  static constexpr std::size_t kMost = 64;
  std::size_t count_ = 0;
  Region regions_[kMost];
};

}  // namespace fusedrnn
