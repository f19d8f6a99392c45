// Host side of the router, of the moves of tokens and of sums of squares.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/kernel.hpp"
#include "operators/memory_bound/routing.cuh"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace predictor {
namespace {

using kernels::bf16;

constexpr std::int64_t most_experts = 512;
constexpr std::int64_t most_summed = std::int64_t{1} << 22; // elements, for an exact sum

std::vector<Operand> router_operands(Extent extent, int) {
  if (extent.cols > most_experts) {
    throw Unsupported(
        text("router_top_k: cols (", extent.cols, ") must be at most ", most_experts));
  }
  return {tensor("logits", extent.elements(), Role::input, DataType::fp32),
          tensor("probabilities", extent.elements(), Role::output, DataType::fp32),
          tensor("chosen", extent.elements(), Role::output, DataType::byte)};
}

template <int per_lane>
void launch_router_of(const Buffers& buffers, Extent extent, cudaStream_t stream) {
  constexpr int rows_a_block = kernels::routing_threads / kernels::warp_threads;
  kernels::router_kernel<per_lane>
      <<<static_cast<unsigned>(ceil_div(extent.rows, rows_a_block)), kernels::routing_threads, 0,
         stream>>>(extent.rows, static_cast<int>(extent.cols), buffers.get<const float>(0),
                   buffers.get<float>(1), buffers.get<unsigned char>(2));
  CUDA_CHECK(cudaGetLastError());
}

void launch_router(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  if (extent.cols <= 32) {
    launch_router_of<1>(buffers, extent, stream);
  } else if (extent.cols <= 128) {
    launch_router_of<4>(buffers, extent, stream);
  } else {
    launch_router_of<16>(buffers, extent, stream);
  }
}

std::vector<Expected> router_reference(const Inspector& inspector, Extent extent) {
  Expected probabilities(1);
  Expected chosen(2);
  const std::int64_t top = std::min<std::int64_t>(kernels::router_top_k, extent.cols);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return x[a] > x[b]; });
    double sum = 0.0;
    for (const double value : x) {
      sum += std::exp(value - x[order[0]]);
    }
    for (std::size_t i = 0; i < order.size(); ++i) {
      const bool kept = static_cast<std::int64_t>(i) < top;
      const std::int64_t at = row * extent.cols + static_cast<std::int64_t>(order[i]);
      probabilities.add(at, kept ? std::exp(x[order[i]] - x[order[0]]) / sum : 0.0);
      chosen.add(at, kept ? 1.0 : 0.0);
    }
  }
  return {probabilities, chosen};
}

// Far apart for neighbours, and without a common factor with the rows.
std::int64_t stride_of(std::int64_t rows) {
  std::int64_t stride = std::max<std::int64_t>(1, rows * 5 / 13);
  while (std::gcd(stride, rows) != 1) {
    ++stride;
  }
  return stride;
}

template <int copies>
void require_tokens(Extent extent) {
  if (extent.rows % copies != 0 || extent.rows / copies > std::numeric_limits<int>::max() ||
      extent.cols > std::numeric_limits<int>::max() / 2) {
    throw Unsupported(text("permute: rows (", extent.rows, ") must be a multiple of ", copies,
                           ", tokens and cols (", extent.cols, ") below 2^30"));
  }
}

template <int copies>
std::vector<Operand> permute_operands(Extent extent, int) {
  require_tokens<copies>(extent);
  return {tensor("x", extent.elements() / copies, Role::input),
          tensor("y", extent.elements(), Role::output)};
}

template <int copies>
void launch_permute(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const auto kernel = extent.cols % kernels::pack == 0 ? &kernels::permute_kernel<true, copies>
                                                       : &kernels::permute_kernel<false, copies>;
  kernel<<<static_cast<unsigned>(extent.rows / copies), kernels::routing_threads, 0, stream>>>(
      extent.rows, static_cast<int>(extent.cols), stride_of(extent.rows),
      buffers.get<const bf16>(0), buffers.get<bf16>(1));
  CUDA_CHECK(cudaGetLastError());
}

template <int copies>
std::vector<Expected> permute_reference(const Inspector& inspector, Extent extent) {
  Expected y(1);
  const std::int64_t stride = stride_of(extent.rows);
  for (const std::int64_t token : sampled_rows(extent.rows / copies)) {
    const auto x = inspector.read(0, token * extent.cols, extent.cols);
    for (int k = 0; k < copies; ++k) {
      const std::int64_t row = kernels::permuted_row(token * copies + k, stride, extent.rows);
      for (std::size_t c = 0; c < x.size(); ++c) {
        y.add(row * extent.cols + static_cast<std::int64_t>(c), x[c]);
      }
    }
  }
  return {y};
}

template <int copies>
std::vector<Operand> unpermute_operands(Extent extent, int) {
  require_tokens<copies>(extent);
  return {{.name = "probabilities",
           .type = DataType::fp32,
           .elements = extent.rows,
           .role = Role::prepared,
           .fill = Fill::uniform(0.0, 1.0)},
          tensor("x", extent.elements(), Role::input),
          tensor("y", extent.elements() / copies, Role::output)};
}

template <int copies>
void launch_unpermute(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const auto kernel = extent.cols % kernels::pack == 0 ? &kernels::unpermute_kernel<true, copies>
                                                       : &kernels::unpermute_kernel<false, copies>;
  kernel<<<static_cast<unsigned>(extent.rows / copies), kernels::routing_threads, 0, stream>>>(
      extent.rows, static_cast<int>(extent.cols), stride_of(extent.rows),
      buffers.get<const float>(0), buffers.get<const bf16>(1), buffers.get<bf16>(2));
  CUDA_CHECK(cudaGetLastError());
}

template <int copies>
std::vector<Expected> unpermute_reference(const Inspector& inspector, Extent extent) {
  Expected y(2);
  const std::int64_t stride = stride_of(extent.rows);
  for (const std::int64_t token : sampled_rows(extent.rows / copies)) {
    std::vector<double> sums(static_cast<std::size_t>(extent.cols), 0.0);
    const auto weights = inspector.read(0, token * copies, copies);
    for (int k = 0; k < copies; ++k) {
      const std::int64_t row = kernels::permuted_row(token * copies + k, stride, extent.rows);
      const auto x = inspector.read(1, row * extent.cols, extent.cols);
      for (std::size_t c = 0; c < x.size(); ++c) {
        sums[c] += weights[static_cast<std::size_t>(k)] * x[c];
      }
    }
    for (std::size_t c = 0; c < sums.size(); ++c) {
      y.add(token * extent.cols + static_cast<std::int64_t>(c), sums[c]);
    }
  }
  return {y};
}

template <typename T>
std::vector<Operand> square_sum_operands(Extent extent, int) {
  return {tensor("x", extent.elements(), Role::input,
                 std::is_same_v<T, float> ? DataType::fp32 : DataType::bf16),
          running_total("sum")};
}

template <typename T>
void launch_square_sum(const Buffers& buffers, Extent extent, int sm_count, cudaStream_t stream) {
  const std::int64_t needed = ceil_div(extent.elements(), kernels::sum_threads * kernels::pack);
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(needed, 8 * sm_count));
  kernels::square_sum_kernel<T><<<blocks, kernels::sum_threads, 0, stream>>>(
      extent.elements(), buffers.get<const T>(0), buffers.get<float>(1));
  CUDA_CHECK(cudaGetLastError());
}

// Over many elements a stride of them stands for all: squares of normals scatter little.
std::vector<Expected> square_sum_reference(const Inspector& inspector, Extent extent) {
  const std::int64_t step = ceil_div(extent.elements(), most_summed);
  const auto x = inspector.read(0, 0, extent.elements() / step, step);
  double sum = 0.0;
  for (const double value : x) {
    sum += value * value;
  }
  Expected expected(1);
  expected.add(0, sum * static_cast<double>(extent.elements()) / static_cast<double>(x.size()));
  return {expected};
}

} // namespace

const KernelTable& routing_kernels() {
  static const KernelTable table{
      {"router_top_k", {&router_operands, &launch_router, &router_reference}},
      {"permute_top2", {&permute_operands<2>, &launch_permute<2>, &permute_reference<2>}},
      {"permute_top8", {&permute_operands<8>, &launch_permute<8>, &permute_reference<8>}},
      {"unpermute_top2", {&unpermute_operands<2>, &launch_unpermute<2>, &unpermute_reference<2>}},
      {"unpermute_top8", {&unpermute_operands<8>, &launch_unpermute<8>, &unpermute_reference<8>}},
      {"square_sum", {&square_sum_operands<bf16>, &launch_square_sum<bf16>, &square_sum_reference}},
      {"square_sum_fp32",
       {&square_sum_operands<float>, &launch_square_sum<float>, &square_sum_reference}},
  };
  return table;
}

} // namespace predictor
