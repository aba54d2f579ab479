// SPDX-License-Identifier: MIT
// replay PROBLEMS RESULTS: runs layers on the emulated device, each as inference, in training and backward. Both files are
// written and read by replay_runs.py. What fails is printed, with what the emulator says of it; then the exit status is 1.
// replay: prints the cells that the device has, and the numbers of their gates, states and peepholes.
#include <cstdio>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/args.h"
#include "simt/emu_config.h"

namespace {

using namespace fusedrnn::cuda;

// A sanitizer has memory at low addresses, and two small integers side by side may look like one of them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorName(error));
}

struct Header {
  char cell[32];
  std::int32_t bfloat16, T, N, I, H, D, reverse, multiprocessors, plan_only;
  std::uint64_t seed, shared_optin, shared_per_sm;
};

// Device memory of exactly so many bytes, NaN when new.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes) { check(cudaMalloc(&data_, bytes)); }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* data_ = nullptr;
};

// The files: an array is its number of bytes, -1 for none, and for input these bytes.
class Problem {
 public:
  Problem(std::ifstream& file, const Header& header) : file_(file), D_(header.D) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    layer = {.cell = header.cell,
             .type = header.bfloat16 ? Type::bfloat16 : Type::float32,
             .T = header.T,
             .N = header.N,
             .I = header.I,
             .H = header.H,
             .D = header.D,
             .reverse = header.reverse != 0,
             .lengths = nullptr,
             .weights = {},
             .x = nullptr,
             .stream = stream_};
  }
  ~Problem() { cudaStreamDestroy(stream_); }

  void write_plans(std::ofstream& results) {
    for (const Pass pass : {Pass::inference, Pass::training, Pass::backward}) {
      const Plan p = plan(layer, pass);
      const std::int32_t numbers[] = {p.persistent, p.unit_blocks, p.row_blocks, p.shared_bytes};
      results.write(reinterpret_cast<const char*>(numbers), sizeof numbers);
      const std::uint64_t bytes = workspace_bytes(layer, pass);
      results.write(reinterpret_cast<const char*>(&bytes), sizeof bytes);
    }
    const std::uint64_t bytes = tape_bytes(layer);
    results.write(reinterpret_cast<const char*>(&bytes), sizeof bytes);
  }
  void run(std::ofstream& results) {
    read_inputs();
    const Outputs wanted = outputs();
    forward_pass(results, wanted, nullptr);
    const Memory tape(tape_bytes(layer));
    forward_pass(results, wanted, tape.data());
    backward_pass(results, wanted, tape.data());
  }

 private:
  using Sizes = std::vector<std::int64_t>;
  struct Outputs { Sizes forward, backward; };

  std::int64_t number() {
    std::int64_t n = 0;
    file_.read(reinterpret_cast<char*>(&n), sizeof n);
    if (!file_) throw std::runtime_error("the file of problems ends early");
    return n;
  }
  const void* input() {
    const std::int64_t bytes = number();
    if (bytes < 0) return nullptr;
    std::vector<char> host(static_cast<std::size_t>(bytes));
    file_.read(host.data(), bytes);
    inputs_.push_back(std::make_unique<Memory>(host.size()));
    check(cudaMemcpy(inputs_.back()->data(), host.data(), host.size(), cudaMemcpyHostToDevice));
    return inputs_.back()->data();
  }
  void read_inputs() {
    layer.lengths = static_cast<const std::int32_t*>(input());
    for (int d = 0; d < D_; d++) {
      Weights<const void*>& w = layer.weights[d];
      for (const void** p : {&w.weight_ih, &w.weight_hh, &w.bias_ih, &w.bias_hh, &w.weight_ch}) *p = input();
    }
    layer.x = input();
    for (const void*& p : state_0_) p = input();
    dy_ = input();
    for (const void*& p : dstate_n_) p = input();
  }
  Outputs outputs() {
    Outputs wanted{Sizes(1 + kMaxStates), Sizes(1 + 5 * D_ + kMaxStates)};
    for (std::int64_t& bytes : wanted.forward) bytes = number();
    for (std::int64_t& bytes : wanted.backward) bytes = number();
    return wanted;
  }

  // Calls run with an array for each size, and writes what it left there.
  template <class Run> void with_outputs(std::ofstream& results, const Sizes& sizes, Run run) {
    std::vector<std::unique_ptr<Memory>> memory;
    std::vector<void*> pointers;
    for (const std::int64_t bytes : sizes) {
      if (bytes >= 0) memory.push_back(std::make_unique<Memory>(bytes));
      pointers.push_back(bytes >= 0 ? memory.back()->data() : nullptr);
    }
    run(pointers.data());
    for (const auto& array : memory) {
      std::vector<char> host(array->bytes());
      check(cudaMemcpyAsync(host.data(), array->data(), host.size(), cudaMemcpyDeviceToHost, stream_));
      check(cudaStreamSynchronize(stream_));
      results.write(host.data(), static_cast<std::streamsize>(host.size()));
    }
  }
  void forward_pass(std::ofstream& results, const Outputs& wanted, void* tape) {
    const Memory workspace(workspace_bytes(layer, tape ? Pass::training : Pass::inference));
    with_outputs(results, wanted.forward, [&](void** out) {
      forward({.layer = layer,
               .state_0 = {state_0_[0], state_0_[1]},
               .y = out[0],
               .state_n = {out[1], out[2]},
               .tape = tape,
               .workspace = workspace.data()});
    });
  }
  void backward_pass(std::ofstream& results, const Outputs& wanted, const void* tape) {
    const Memory workspace(workspace_bytes(layer, Pass::backward));
    with_outputs(results, wanted.backward, [&](void** out) {
      BackwardArgs args{.layer = layer,
                        .tape = tape,
                        .dy = dy_,
                        .dstate_n = {dstate_n_[0], dstate_n_[1]},
                        .dx = *out++,
                        .dweights = {},
                        .dstate_0 = {},
                        .workspace = workspace.data()};
      for (int d = 0; d < D_; d++, out += 5) args.dweights[d] = {out[0], out[1], out[2], out[3], out[4]};
      for (void*& p : args.dstate_0) p = *out++;
      backward(args);
    });
  }

  std::ifstream& file_;
  int D_;
  Layer layer;
  cudaStream_t stream_ = nullptr;
  std::vector<std::unique_ptr<Memory>> inputs_;
  const void *state_0_[kMaxStates] = {}, *dy_ = nullptr, *dstate_n_[kMaxStates] = {};
};

void replay(const char* problems, const char* results) {
  std::ifstream in(problems, std::ios::binary);
  std::ofstream out(results, std::ios::binary);
  Header header;
  while (in.read(reinterpret_cast<char*>(&header), sizeof header)) {
    simt::emu::Config config;
    config.seed = header.seed;
    config.multiprocessors = header.multiprocessors;
    config.shared_optin = header.shared_optin;
    config.shared_per_sm = header.shared_per_sm;
    config.check_ldg = true;
    config.check_arguments = !kSanitized;
    simt::emu::configure(config);
    forget_devices();
    Problem problem(in, header);
    problem.write_plans(out);
    if (!header.plan_only) problem.run(out);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 3) replay(argv[1], argv[2]);
    else
      for (int i = 0; const CellInfo* cell = cell_info(i); i++)
        std::printf("%s %d %d %d\n", cell->name, cell->gates, cell->states, cell->peepholes);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s %s\n", error.what(), simt::emu::last_error().c_str());
    return 1;
  }
}
