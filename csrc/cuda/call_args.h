// SPDX-License-Identifier: MIT
// From Python's arguments to those of args.h: cells, sizes, weights, states, memory.
#pragma once
#include <array>
#include <climits>

#include "args.h"
#include "arrays.h"
#include "buffer.h"

namespace fusedrnn::cuda {

constexpr int kWeights = 5;
constexpr const char* kWeightNames[2][kWeights] = {{"weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch"},
                                                   {"dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh", "dweight_ch"}};

template <class Pointer> auto fields(Weights<Pointer>& w) {
  return std::array<Pointer*, kWeights>{&w.weight_ih, &w.weight_hh, &w.bias_ih, &w.bias_hh, &w.weight_ch};
}

inline Buffer& buffer_of(py::handle object, const std::string& name) {
  if (!py::isinstance<Buffer>(object))
    throw py::type_error(name + ": expected a Buffer, got " + Py_TYPE(object.ptr())->tp_name);
  return py::cast<Buffer&>(object);
}

// Any tuple
inline py::tuple items(py::handle object, const std::string& name) {
  if (!py::isinstance<py::tuple>(object))
    throw py::type_error(name + ": expected a tuple, got " + Py_TYPE(object.ptr())->tp_name);
  return py::reinterpret_borrow<py::tuple>(object);
}

inline py::tuple items(py::handle object, const std::string& name, std::size_t count) {
  const py::tuple tuple = items(object, name);
  if (tuple.size() != count)
    throw std::invalid_argument(name + ": expected " + std::to_string(count) + " of them, got " + std::to_string(tuple.size()));
  return tuple;
}

inline cudaStream_t stream_of(py::handle stream) {
  if (!py::isinstance<Stream>(stream))
    throw py::type_error(std::string("stream: expected a Stream, got ") + Py_TYPE(stream.ptr())->tp_name);
  return py::cast<Stream&>(stream).handle();
}

inline int size(long n, const char* name) {
  if (n < 1 || n > INT_MAX)
    throw std::invalid_argument(std::string(name) + ": expected 1 to 2147483647, got " + std::to_string(n));
  return int(n);
}

inline const CellInfo& cell_of(const std::string& name) {
  std::string names;
  for (int i = 0; const CellInfo* cell = cell_info(i); i++) {
    if (name == cell->name) return *cell;
    names += (i ? ", " : "") + std::string(cell->name);
  }
  throw std::invalid_argument("cell: expected one of " + names + ", got '" + name + "'");
}

inline Type type_of(const std::string& dtype) {
  if (dtype == "float32") return Type::float32;
  if (dtype == "bfloat16") return Type::bfloat16;
  throw py::type_error("dtype: expected float32 or bfloat16, got " + dtype);
}

inline Pass pass_of(const std::string& name) {
  if (name == "inference") return Pass::inference;
  if (name == "training") return Pass::training;
  if (name == "backward") return Pass::backward;
  throw std::invalid_argument("pass: expected one of inference, training, backward, got '" + name + "'");
}

// Buffers in, checked pointers out: all on one device, and what is written apart from all else.
class Arrays {
 public:
  Arrays(const Buffer& x, Dtype dtype) : device_(x.device), dtype_(dtype) {}

  const void* reads(py::handle object, const char* name, const Buffer::Shape& shape) {
    return take(object, name, shape, dtype_, false);
  }
  void* writes(py::handle object, const char* name, const Buffer::Shape& shape) {
    return take(object, name, shape, dtype_, true);
  }
  const std::int32_t* lengths(py::handle object, long N) {
    return static_cast<const std::int32_t*>(object.is_none() ? nullptr : take(object, "lengths", {N}, Dtype::int32, false));
  }
  // Bytes that no shape describes
  void* memory(py::handle object, const char* name, std::size_t bytes, bool writes) {
    if (!bytes) return nullptr;
    Buffer& buffer = buffer_of(object, name);
    const bool aligned = reinterpret_cast<std::uintptr_t>(buffer.data) % 16 == 0;
    if (buffer.dtype != Dtype::uint8 || buffer.bytes() < bytes || !aligned)
      throw std::invalid_argument(std::string(name) + ": expected aligned memory of " + std::to_string(bytes) + " bytes, got " +
                                  std::to_string(buffer.bytes()));
    return add(buffer, name, writes);
  }
  // After all were taken: what is written is apart from all else, and the call follows what is under way on other streams.
  void settle(const py::object& stream) {
    regions_.check();
    const cudaStream_t ours = stream_of(stream);
    for (const auto& [buffer, writes] : used_) {
      if (!buffer->stream.is_none() && handle_of(buffer->stream) != ours) {
        wait(ours, handle_of(buffer->stream));
        share(*buffer);
      }
      if (writes && !buffer->of_stream) buffer->stream = stream;
    }
  }

 private:
  void* take(py::handle object, const char* name, const Buffer::Shape& shape, Dtype dtype, bool writes) {
    Buffer& buffer = buffer_of(object, name);
    if (buffer.dtype != dtype)
      throw py::type_error(std::string(name) + ": expected dtype " + name_of(dtype) + ", got " + name_of(buffer.dtype));
    if (shape != buffer.shape)
      throw std::invalid_argument(std::string(name) + ": expected shape " + shape_text(shape) + ", got " +
                                  shape_text(buffer.shape));
    return add(buffer, name, writes);
  }
  void* add(Buffer& buffer, const char* name, bool writes) {
    if (buffer.device != device_)
      throw std::invalid_argument(std::string(name) + ": expected memory of device " + std::to_string(device_) +
                                  ", that of x, got device " + std::to_string(buffer.device));
    if (writes && buffer.readonly)
      throw std::invalid_argument(std::string(name) + ": expected a writable array, got a read-only one");
    if (writes) regions_.writes(buffer.data, long(buffer.bytes()), name);
    else regions_.reads(buffer.data, long(buffer.bytes()));
    used_.push_back({&buffer, writes});
    return buffer.data;
  }

  int device_;
  Dtype dtype_;
  Regions regions_;
  std::vector<std::pair<Buffer*, bool>> used_;
};

struct Reads {
  Arrays& arrays;
  const void* operator()(py::handle a, const char* name, const Buffer::Shape& shape) const {
    return arrays.reads(a, name, shape);
  }
};
struct Writes {
  Arrays& arrays;
  void* operator()(py::handle a, const char* name, const Buffer::Shape& shape) const { return arrays.writes(a, name, shape); }
};

// Of one direction. `wanted`: those there must be, null in what is not; without it biases may be None.
template <class Pointer, class Take>
Weights<Pointer> read_weights(py::handle tuple, const Layer& z, const CellInfo& cell, bool gradients,
                              const Weights<const void*>* wanted, Take take) {
  const py::tuple arrays = items(tuple, gradients ? "dweights" : "weights", kWeights);
  const long rows = long(cell.gates) * z.H;
  const Buffer::Shape shapes[] = {{rows, z.I}, {rows, z.H}, {rows}, {rows}, {long(cell.peepholes) * z.H}};
  Weights<Pointer> weights{};
  Weights<const void*> pattern = wanted ? *wanted : Weights<const void*>{};
  for (int i = 0; i < kWeights; i++) {
    const char* name = kWeightNames[gradients][i];
    const bool needed = wanted ? *fields(pattern)[i] != nullptr : i < 2 || (i == 4 && cell.peepholes);
    const bool possible = wanted ? needed : i < 4 || cell.peepholes;
    if (needed && arrays[i].is_none()) throw py::type_error(std::string(name) + ": expected a Buffer, got None");
    if (!possible && !arrays[i].is_none()) throw py::type_error(std::string(name) + ": expected None, got one");
    if (!arrays[i].is_none()) *fields(weights)[i] = take(arrays[i], name, shapes[i]);
  }
  return weights;
}

// What both passes are told, from the same arguments.
inline Layer read_layer(Arrays& arrays, const std::string& cell_name, const Buffer& x, py::handle lengths, py::handle weights,
                        bool reverse, py::handle stream) {
  const CellInfo& cell = cell_of(cell_name);
  const py::tuple directions = items(weights, "weights");
  if (directions.empty() || directions.size() > kMaxDirections)
    throw std::invalid_argument("weights: expected 1 or 2 directions, got " + std::to_string(directions.size()));
  if (x.shape.size() != 3) throw std::invalid_argument("x: expected shape (T, N, I), got " + shape_text(x.shape));
  const Buffer& weight_hh = buffer_of(items(directions[0], "weights", kWeights)[1], "weight_hh");
  if (weight_hh.shape.size() != 2)
    throw std::invalid_argument("weight_hh: expected a matrix, got " + shape_text(weight_hh.shape));
  Layer layer{};
  layer.cell = cell.name;
  layer.type = type_of(name_of(x.dtype));
  layer.T = size(x.shape[0], "T"), layer.N = size(x.shape[1], "N"), layer.I = size(x.shape[2], "I");
  layer.H = size(weight_hh.shape[1], "H"), layer.D = int(directions.size());
  layer.reverse = reverse;
  layer.lengths = arrays.lengths(lengths, layer.N);
  for (int d = 0; d < layer.D; d++)
    layer.weights[d] = read_weights<const void*>(directions[d], layer, cell, false, nullptr, Reads{arrays});
  layer.x = arrays.reads(py::cast(x, py::return_value_policy::reference), "x", {layer.T, layer.N, layer.I});
  layer.stream = stream_of(stream);
  return layer;
}

template <class Pointer, class Take>
void read_states(py::handle tuple, const char* name, const Layer& z, Pointer (&out)[kMaxStates], Take take) {
  const int states = cell_of(z.cell).states;
  const py::tuple arrays = items(tuple, name, states);
  for (int i = 0; i < states; i++) out[i] = take(arrays[i], name, {z.D, z.N, z.H});
}

}  // namespace fusedrnn::cuda
