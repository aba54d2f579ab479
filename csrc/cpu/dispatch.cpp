// SPDX-License-Identifier: MIT
#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

namespace fusedrnn {

// Defined by kernels.cpp, once per instruction set.
namespace baseline { extern const Isa isa; }
#if defined(FUSEDRNN_HAS_avx2)
namespace avx2 { extern const Isa isa; }
#endif
#if defined(FUSEDRNN_HAS_avx512)
namespace avx512 { extern const Isa isa; }
#endif

std::vector<const Isa*> available_isas() {
  std::vector<const Isa*> isas{&baseline::isa};
#if defined(FUSEDRNN_HAS_avx2)
  // Intel Haswell (2013), AMD Excavator and Zen (2015, 2017) and later
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) isas.push_back(&avx2::isa);
#endif
#if defined(FUSEDRNN_HAS_avx512)
  // Intel Skylake-X (2017), AMD Zen 4 (2022) and later servers
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    isas.push_back(&avx512::isa);
#endif
  return isas;
}

namespace {

const Isa* find_isa(const std::string& name) {
  std::string names;
  for (const Isa* isa : available_isas()) {
    if (name == isa->name) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  if (name == "avx2" || name == "avx512") throw std::runtime_error("isa: this processor has no " + name + ", only " + names);
  throw std::invalid_argument("isa: expected one of " + names + ", got '" + name + "'");
}

std::atomic<const Isa*> chosen{nullptr};

}  // namespace

const Isa& current_isa() {
  const Isa* isa = chosen.load(std::memory_order_acquire);
  if (!isa) {
    const char* name = std::getenv("FUSEDRNN_ISA");
    isa = name && *name ? find_isa(name) : available_isas().back();
    chosen.store(isa, std::memory_order_release);
  }
  return *isa;
}

void set_isa(const std::string& name) { chosen.store(find_isa(name), std::memory_order_release); }

}  // namespace fusedrnn
