// Host side of the softmax of attention scores.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/kernel.hpp"
#include "operators/memory_bound/softmax.cuh"

#include <cmath>
#include <limits>

namespace predictor {
namespace {

using kernels::bf16;

constexpr float score_scale = 0.125f; // 1/√64

template <bool causal>
void require(Extent extent) {
  if (extent.rows > std::numeric_limits<int>::max() ||
      extent.cols > std::numeric_limits<int>::max()) {
    throw Unsupported(text("softmax: rows (", extent.rows, ") and cols (", extent.cols,
                           ") must stay below 2^31"));
  }
}

template <bool causal>
std::size_t seen(Extent extent, std::int64_t row) {
  return static_cast<std::size_t>(causal ? row % extent.cols + 1 : extent.cols);
}

template <bool causal>
std::vector<Operand> forward_operands(Extent extent, int) {
  require<causal>(extent);
  return {tensor("x", extent.elements(), Role::input),
          tensor("y", extent.elements(), Role::output)};
}

template <bool causal>
void launch_forward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::softmax_kernel<causal>
      <<<static_cast<unsigned>(extent.rows), kernels::softmax_threads, 0, stream>>>(
          static_cast<int>(extent.cols), score_scale, buffers.get<const bf16>(0),
          buffers.get<bf16>(1));
  CUDA_CHECK(cudaGetLastError());
}

template <bool causal>
std::vector<Expected> forward_reference(const Inspector& inspector, Extent extent) {
  Expected y(1);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    const std::size_t count = seen<causal>(extent, row);
    double sum = 0.0;
    for (std::size_t c = 0; c < count; ++c) {
      sum += std::exp(x[c] * static_cast<double>(score_scale));
    }
    for (std::size_t c = 0; c < x.size(); ++c) {
      const double value = std::exp(x[c] * static_cast<double>(score_scale)) / sum;
      y.add(row * extent.cols + static_cast<std::int64_t>(c), c < count ? value : 0.0);
    }
  }
  return {y};
}

template <bool causal>
std::vector<Operand> backward_operands(Extent extent, int) {
  require<causal>(extent);
  return {tensor("dy", extent.elements(), Role::input), tensor("y", extent.elements(), Role::input),
          tensor("dx", extent.elements(), Role::output)};
}

template <bool causal>
void launch_backward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::softmax_backward_kernel<causal>
      <<<static_cast<unsigned>(extent.rows), kernels::softmax_threads, 0, stream>>>(
          static_cast<int>(extent.cols), score_scale, buffers.get<const bf16>(0),
          buffers.get<const bf16>(1), buffers.get<bf16>(2));
  CUDA_CHECK(cudaGetLastError());
}

template <bool causal>
std::vector<Expected> backward_reference(const Inspector& inspector, Extent extent) {
  Expected dx(2);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto dy = inspector.read(0, row * extent.cols, extent.cols);
    const auto y = inspector.read(1, row * extent.cols, extent.cols);
    const std::size_t count = seen<causal>(extent, row);
    double sum = 0.0;
    for (std::size_t c = 0; c < count; ++c) {
      sum += dy[c] * y[c];
    }
    for (std::size_t c = 0; c < dy.size(); ++c) {
      const double value = static_cast<double>(score_scale) * y[c] * (dy[c] - sum);
      dx.add(row * extent.cols + static_cast<std::int64_t>(c), c < count ? value : 0.0);
    }
  }
  return {dx};
}

} // namespace

const KernelTable& softmax_kernels() {
  static const KernelTable table{
      {"softmax", {&forward_operands<false>, &launch_forward<false>, &forward_reference<false>}},
      {"softmax_causal",
       {&forward_operands<true>, &launch_forward<true>, &forward_reference<true>}},
      {"softmax_backward",
       {&backward_operands<false>, &launch_backward<false>, &backward_reference<false>}},
      {"softmax_causal_backward",
       {&backward_operands<true>, &launch_backward<true>, &backward_reference<true>}},
  };
  return table;
}

} // namespace predictor
