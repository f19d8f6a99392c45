// What a memory-bound kernel consists of on the host's side, and the tables of all of them.
#pragma once

#include "cuda/workload.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace predictor {

struct Extent {
  std::int64_t rows = 0;
  std::int64_t cols = 0;

  [[nodiscard]] std::int64_t elements() const { return rows * cols; }
};

struct MemoryBoundKernel {
  // Raises Unsupported for extents that the kernel cannot index.
  std::vector<Operand> (*operands)(Extent extent, int sm_count);
  void (*launch)(const Buffers& buffers, Extent extent, int sm_count, cudaStream_t stream);
  // In double, on sampled rows.
  std::vector<Expected> (*reference)(const Inspector& inspector, Extent extent);
};

[[nodiscard]] inline Operand tensor(const char* name, std::int64_t elements, Role role,
                                    DataType type = DataType::bf16) {
  return {.name = name, .type = type, .elements = elements, .role = role};
}

// One number, zero before every round, that launches add to or raise.
[[nodiscard]] inline Operand running_total(const char* name) {
  return {.name = name,
          .type = DataType::fp32,
          .elements = 1,
          .role = Role::state,
          .fill = Fill::constant(0.0)};
}

// Raises Unsupported where a kernel's index arithmetic, 32 bits wide, would not do.
void require_indexable(const char* kernel, Extent extent);

using KernelTable = std::map<std::string, MemoryBoundKernel, std::less<>>;

[[nodiscard]] const KernelTable& map_kernels();
[[nodiscard]] const KernelTable& norm_kernels();
[[nodiscard]] const KernelTable& loss_kernels();
[[nodiscard]] const KernelTable& embedding_kernels();
[[nodiscard]] const KernelTable& dropout_kernels();
[[nodiscard]] const KernelTable& transpose_kernels();
[[nodiscard]] const KernelTable& softmax_kernels();
[[nodiscard]] const KernelTable& routing_kernels();

// A handful of rows from first to last.
[[nodiscard]] std::vector<std::int64_t> sampled_rows(std::int64_t rows);

[[nodiscard]] constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

} // namespace predictor
