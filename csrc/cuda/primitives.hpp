// The device's own small kernels: fills, sampled reads and the gate. Plain types, for host code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>

namespace predictor {

enum class DataType { bf16, fp16, fp32, e4m3, e5m2, int64, byte };

[[nodiscard]] constexpr std::size_t size_of(DataType type) {
  switch (type) {
  case DataType::bf16:
  case DataType::fp16:
    return 2;
  case DataType::fp32:
    return 4;
  case DataType::int64:
    return 8;
  case DataType::e4m3:
  case DataType::e5m2:
  case DataType::byte:
    return 1;
  }
  return 0;
}

// What a buffer holds before it is used. `index` is an integer in [0, high).
struct Fill {
  enum class Kind { none, normal, uniform, constant, index };
  Kind kind = Kind::none;
  double low = 0.0;  // of uniform; the value of constant
  double high = 1.0; // of uniform and index; the standard deviation of normal

  [[nodiscard]] static Fill normal(double deviation = 1.0) {
    return {Kind::normal, 0.0, deviation};
  }
  [[nodiscard]] static Fill uniform(double low, double high) { return {Kind::uniform, low, high}; }
  [[nodiscard]] static Fill constant(double value) { return {Kind::constant, value, value}; }
  [[nodiscard]] static Fill index(std::int64_t count) {
    return {Kind::index, 0.0, static_cast<double>(count)};
  }
};

// Element i becomes a function of `seed` and i alone.
void fill(void* data, DataType type, std::int64_t count, const Fill& how, std::uint64_t seed,
          cudaStream_t stream);

// Lines of `width` elements that begin `stride` elements apart.
struct Lines {
  std::int64_t start, count, stride, width;
};

// out[i * width + j] = data[start + i * stride + j] in double.
void read_lines(const void* data, DataType type, const Lines& lines, double* out,
                cudaStream_t stream);

// out[i] = data[indices[i]] in double.
void read_indexed(const void* data, DataType type, const std::int64_t* indices, std::int64_t count,
                  double* out, cudaStream_t stream);

// In host memory that the device maps.
struct GateFlags {
  std::uint32_t opened = 0;  // ticket of the last gate that the host opened
  std::uint32_t expired = 0; // ticket of the last gate that gave up
};

// Holds the stream until `flags->opened` reaches `ticket`, or for `timeout_seconds`.
void launch_gate(GateFlags* flags, std::uint32_t ticket, double timeout_seconds,
                 cudaStream_t stream);

} // namespace predictor
