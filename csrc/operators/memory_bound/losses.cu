// Host side of cross entropy.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/kernel.hpp"
#include "operators/memory_bound/losses.cuh"

#include <algorithm>
#include <cmath>
#include <limits>

namespace predictor {
namespace {

using kernels::bf16;

void require_indexable(Extent extent) {
  const std::int64_t limit = std::numeric_limits<int>::max();
  if (extent.rows > limit || extent.cols > limit) {
    throw Unsupported(text("cross_entropy: rows (", extent.rows, ") and cols (", extent.cols,
                           ") must stay below 2^31"));
  }
}

std::vector<Operand> inputs(Extent extent) {
  require_indexable(extent);
  return {{.name = "logits", .elements = extent.elements()},
          {.name = "labels",
           .type = DataType::int64,
           .elements = extent.rows,
           .role = Role::prepared,
           .fill = Fill::index(extent.cols)}};
}

std::vector<Operand> forward_operands(Extent extent, int) {
  std::vector<Operand> all = inputs(extent);
  for (const char* name : {"loss", "logsumexp"}) {
    all.push_back(
        {.name = name, .type = DataType::fp32, .elements = extent.rows, .role = Role::output});
  }
  return all;
}

void launch_forward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::cross_entropy_kernel<<<static_cast<unsigned>(extent.rows), kernels::loss_threads, 0,
                                  stream>>>(
      static_cast<int>(extent.cols), buffers.get<const bf16>(0), buffers.get<const std::int64_t>(1),
      buffers.get<float>(2), buffers.get<float>(3));
  CUDA_CHECK(cudaGetLastError());
}

double logsumexp(const std::vector<double>& x) {
  const double highest = *std::max_element(x.begin(), x.end());
  double sum = 0.0;
  for (const double value : x) {
    sum += std::exp(value - highest);
  }
  return highest + std::log(sum);
}

std::vector<Expected> forward_reference(const Inspector& inspector, Extent extent) {
  Expected loss(2);
  Expected lse(3);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    const auto label = static_cast<std::size_t>(inspector.read(1, row, 1)[0]);
    lse.add(row, logsumexp(x));
    loss.add(row, lse.values.back() - x[label]);
  }
  return {loss, lse};
}

// The logsumexp of the forward pass stands in as what normal logits give: log(cols) + 1/2.
std::vector<Operand> backward_operands(Extent extent, int) {
  std::vector<Operand> all = inputs(extent);
  all.push_back({.name = "logsumexp",
                 .type = DataType::fp32,
                 .elements = extent.rows,
                 .role = Role::prepared,
                 .fill = Fill::constant(std::log(static_cast<double>(extent.cols)) + 0.5)});
  all.push_back({.name = "gradient", .elements = extent.elements(), .role = Role::output});
  return all;
}

void launch_backward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::cross_entropy_backward_kernel<<<static_cast<unsigned>(extent.rows),
                                           kernels::loss_threads, 0, stream>>>(
      static_cast<int>(extent.cols), 1.0f / static_cast<float>(extent.rows),
      buffers.get<const bf16>(0), buffers.get<const std::int64_t>(1), buffers.get<const float>(2),
      buffers.get<bf16>(3));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> backward_reference(const Inspector& inspector, Extent extent) {
  Expected gradient(3);
  const double scale = 1.0 / static_cast<double>(extent.rows);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    const auto label = static_cast<std::int64_t>(inspector.read(1, row, 1)[0]);
    const double lse = inspector.read(2, row, 1)[0];
    for (std::int64_t c = 0; c < extent.cols; ++c) {
      const double probability = std::exp(x[static_cast<std::size_t>(c)] - lse);
      gradient.add(row * extent.cols + c, (probability - (c == label ? 1.0 : 0.0)) * scale);
    }
  }
  return {gradient};
}

} // namespace

const KernelTable& loss_kernels() {
  static const KernelTable table{
      {"cross_entropy", {&forward_operands, &launch_forward, &forward_reference}},
      {"cross_entropy_backward", {&backward_operands, &launch_backward, &backward_reference}},
  };
  return table;
}

} // namespace predictor
