// SPDX-License-Identifier: MIT
// What forward keeps for backward: in memory of its own, or in the caller's, which may be copied and come back.
#pragma once
#include <algorithm>
#include <climits>
#include <cstring>

#include "layer_args.h"

namespace fusedrnn {

// What forward keeps for backward; opaque to Python. It remembers its kernels: its layout is that of their vectors.
struct Tape {
  Buffer buffer;
  const void* values = nullptr;  // in the buffer, or in memory of the caller's
  std::size_t bytes = 0;         // of the values
  const Isa* isa = nullptr;      // null: nothing on it
  int cell = 0;
  bool is_double = false, reverse = false, tokens = false;
  Sizes size{};
  OwnForm form;
};

inline Tape& read_tape(py::handle object) {
  Tape* tape = constructed<Tape>(object);
  if (!tape) throw py::type_error("tape: expected a Tape");
  return *tape;
}

// Filled once: a backward call of another thread may be reading it.
inline Tape& empty_tape(py::handle object) {
  Tape& tape = read_tape(object);
  if (tape.isa) throw std::invalid_argument("tape: expected a new one, got one that is filled");
  return tape;
}

inline const Tape& filled_tape(py::handle object) {
  const Tape& tape = read_tape(object);
  if (!tape.isa) throw std::invalid_argument("tape: expected one that forward has filled");
  return tape;
}

// A tape in memory of the caller's, uint8 (bytes,): this, first_row (count,) and the values. It may be copied.
struct Record {
  std::int64_t isa, cell, is_double, reverse;
  Sizes size;
  std::int64_t count;
};
inline std::size_t record_bytes(std::size_t count) { return (sizeof(Record) + 8 * count + 127) / 128 * 128; }

// Memory from the pool of tapes, to which it returns with the array
inline py::array_t<std::uint8_t> buffer(long bytes) {
  if (bytes < 1) throw std::invalid_argument("bytes: expected at least 1, got " + std::to_string(bytes));
  auto* const owner = new Buffer(bytes);
  const py::capsule capsule(owner, [](void* pointer) { delete static_cast<Buffer*>(pointer); });
  return py::array_t<std::uint8_t>(bytes, static_cast<std::uint8_t*>(owner->data()), capsule);
}

inline bool is_memory(py::handle object) { return holds<std::uint8_t>(object); }
template <class T> T* memory_of(py::handle object, std::size_t& bytes) {
  const Shape shape = shape_of(object, "tape: expected memory");
  bytes = shape.ndim == 1 ? shape.sizes[0] : 0;
  T* const memory = pointer<T>(object, "tape", {long(bytes)});
  if (reinterpret_cast<std::uintptr_t>(memory) % sizeof(double)) throw std::invalid_argument("tape: expected aligned memory");
  return memory;
}

// Where the values go.
inline void* write_record(py::handle memory, const Tape& tape) {
  std::size_t bytes;
  auto* to = memory_of<std::uint8_t>(memory, bytes);
  const std::vector<long>& rows = tape.form.first_row;
  const std::size_t before = record_bytes(rows.size());
  if (bytes < before + tape.bytes)
    throw std::invalid_argument("tape: expected " + std::to_string(before + tape.bytes) + " bytes, got " +
                                std::to_string(bytes));
  const std::vector<const Isa*> isas = available_isas();
  const long isa = std::find(isas.begin(), isas.end(), tape.isa) - isas.begin();
  const Record record{isa, tape.cell, tape.is_double, tape.reverse, tape.size, std::int64_t(rows.size())};
  std::memcpy(to, &record, sizeof record);
  std::copy(rows.begin(), rows.end(), reinterpret_cast<long*>(to + sizeof record));
  return to + before;
}

inline Tape read_record(py::handle memory) {
  std::size_t bytes;
  const auto* from = memory_of<const std::uint8_t>(memory, bytes);
  const std::vector<const Isa*> isas = available_isas();
  Record r{};
  if (bytes >= sizeof r) std::memcpy(&r, from, sizeof r);
  const Sizes& z = r.size;
  const long most = std::min({z.T, z.N, z.I, z.H, z.P}) < 1 ? LONG_MAX : std::max({z.T, z.N, z.I, z.H, z.P});
  Tape tape;
  if (most <= INT_MAX && r.isa >= 0 && r.isa < long(isas.size()) && r.cell >= 0 && r.cell < isas[r.isa]->float32.cell_count &&
      r.count >= 0 && r.count <= INT_MAX && record_bytes(r.count) <= bytes) {
    const auto* rows = reinterpret_cast<const long*>(from + sizeof r);
    const std::size_t before = record_bytes(r.count);
    const bool is_double = r.is_double != 0, reverse = r.reverse != 0;
    tape = {{}, from + before, bytes - before, isas[r.isa], int(r.cell), is_double, reverse, false, z, {}};
    tape.form.first_row.assign(rows, rows + r.count);
    if (r.count && !are_first_rows(tape.form.first_row)) tape.isa = nullptr;
  }
  if (!tape.isa) throw std::invalid_argument("tape: expected memory that forward has filled");
  return tape;
}

}  // namespace fusedrnn
