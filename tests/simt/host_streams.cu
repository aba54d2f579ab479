// SPDX-License-Identifier: MIT
// What is done when, and in which order.
#include "check.h"

namespace {

// Nothing happens before somebody waits.
std::string work_waits() {
  Array a(32);
  std::vector<float> x(32, 5), y(32, 0);
  cudaStream_t stream;
  EXPECT(cudaStreamCreate(&stream) == cudaSuccess);
  EXPECT(cudaMemcpyAsync(a.p, x.data(), kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  EXPECT(start(a.p, stream) == cudaSuccess);
  EXPECT(cudaMemcpyAsync(y.data(), a.p, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
  EXPECT(y == std::vector<float>(32, 0));
  x.assign(32, 7);  // too early: the copy has not been waited for
  EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
  EXPECT(y == std::vector<float>(32, 8));
  EXPECT(cudaStreamDestroy(stream) == cudaSuccess);
  EXPECT(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  return {};
}
CHECK(work_waits);

// Two streams are in order only by an event.
std::string events() {
  Array a(32);
  std::vector<float> x(32, 5), y(32, 0), z(32, 0);
  cudaStream_t one, two;
  cudaEvent_t copied, end;
  EXPECT(cudaStreamCreate(&one) == cudaSuccess && cudaStreamCreateWithFlags(&two, cudaStreamNonBlocking) == cudaSuccess);
  EXPECT(cudaEventCreate(&copied) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess);
  float time;
  EXPECT(cudaEventElapsedTime(&time, copied, end) == cudaErrorInvalidResourceHandle);
  EXPECT(cudaStreamWaitEvent(two, copied) == cudaSuccess);  // not recorded yet: no wait
  EXPECT(cudaMemcpyAsync(a.p, x.data(), kBytes, cudaMemcpyHostToDevice, one) == cudaSuccess);
  EXPECT(cudaEventRecord(copied, one) == cudaSuccess);
  EXPECT(cudaMemcpyAsync(y.data(), a.p, kBytes, cudaMemcpyDeviceToHost, two) == cudaSuccess);
  EXPECT(cudaStreamSynchronize(two) == cudaSuccess);
  EXPECT(y[0] != y[0]);
  EXPECT(cudaEventElapsedTime(&time, copied, copied) == cudaErrorNotReady);
  EXPECT(cudaStreamWaitEvent(two, copied) == cudaSuccess);
  EXPECT(cudaMemcpyAsync(z.data(), a.p, kBytes, cudaMemcpyDeviceToHost, two) == cudaSuccess);
  EXPECT(cudaEventRecord(end, two) == cudaSuccess);
  EXPECT(cudaEventSynchronize(end) == cudaSuccess);
  EXPECT(z == x);
  EXPECT(cudaEventElapsedTime(&time, copied, end) == cudaSuccess && time >= 0);
  EXPECT(cudaEventDestroy(copied) == cudaSuccess && cudaEventDestroy(end) == cudaSuccess);
  EXPECT(cudaEventRecord(end, two) == cudaErrorInvalidResourceHandle);
  EXPECT(cudaStreamDestroy(one) == cudaSuccess && cudaStreamDestroy(two) == cudaSuccess);
  return {};
}
CHECK(events);

// The default stream and a blocking one wait for each other, it and a non-blocking one do not.
std::string default_stream() {
  std::vector<float> x(32, 5), y(32, 0);
  for (const unsigned flags : {cudaStreamDefault, cudaStreamNonBlocking}) {
    Array a(32);
    cudaStream_t stream;
    EXPECT(cudaStreamCreateWithFlags(&stream, flags) == cudaSuccess);
    EXPECT(cudaMemcpyAsync(a.p, x.data(), kBytes, cudaMemcpyHostToDevice, stream) == cudaSuccess);
    EXPECT(cudaMemcpy(y.data(), a.p, kBytes, cudaMemcpyDeviceToHost) == cudaSuccess);
    EXPECT((y == x) == (flags == cudaStreamDefault));
    EXPECT(cudaDeviceSynchronize() == cudaSuccess);
    EXPECT(cudaMemsetAsync(a.p, 0, kBytes) == cudaSuccess);
    EXPECT(cudaMemcpyAsync(y.data(), a.p, kBytes, cudaMemcpyDeviceToHost, stream) == cudaSuccess);
    EXPECT(cudaStreamSynchronize(stream) == cudaSuccess);
    EXPECT((y == x) == (flags == cudaStreamNonBlocking));
    EXPECT(cudaStreamDestroy(stream) == cudaSuccess);
  }
  return {};
}
CHECK(default_stream);

}  // namespace
