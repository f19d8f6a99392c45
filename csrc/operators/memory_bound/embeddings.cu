// Host side of the embedding. The table has a fixed number of rows: large enough that tokens seldom
// meet, small enough that its fp32 gradient fits beside everything else.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/embeddings.cuh"
#include "operators/memory_bound/kernel.hpp"

#include <limits>
#include <map>

namespace predictor {
namespace {

using kernels::bf16;

constexpr std::int64_t vocabulary = 32768;

Operand ids(std::int64_t rows) {
  return {.name = "ids",
          .type = DataType::int64,
          .elements = rows,
          .role = Role::prepared,
          .fill = Fill::index(vocabulary)};
}

void require_indexable(Extent extent) {
  const std::int64_t limit = std::numeric_limits<int>::max() / 2;
  if (extent.rows > limit || extent.cols > limit) {
    throw Unsupported(text("embedding: rows (", extent.rows, ") and cols (", extent.cols,
                           ") must stay below 2^30"));
  }
}

std::vector<Operand> forward_operands(Extent extent, int) {
  require_indexable(extent);
  return {{.name = "table", .elements = vocabulary * extent.cols, .shared = true},
          ids(extent.rows),
          {.name = "y", .elements = extent.elements(), .role = Role::output}};
}

void launch_forward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel = packed ? &kernels::embedding_kernel<true> : &kernels::embedding_kernel<false>;
  kernel<<<static_cast<unsigned>(extent.rows), kernels::embedding_threads, 0, stream>>>(
      static_cast<int>(extent.cols), buffers.get<const bf16>(0), buffers.get<const std::int64_t>(1),
      buffers.get<bf16>(2));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> forward_reference(const Inspector& inspector, Extent extent) {
  Expected expected(2);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto id = static_cast<std::int64_t>(inspector.read(1, row, 1)[0]);
    const auto looked_up = inspector.read(0, id * extent.cols, extent.cols);
    for (std::size_t c = 0; c < looked_up.size(); ++c) {
      expected.add(row * extent.cols + static_cast<std::int64_t>(c), looked_up[c]);
    }
  }
  return {expected};
}

std::vector<Operand> backward_operands(Extent extent, int) {
  require_indexable(extent);
  return {{.name = "dy", .elements = extent.elements()},
          ids(extent.rows),
          {.name = "dtable",
           .type = DataType::fp32,
           .elements = vocabulary * extent.cols,
           .role = Role::state,
           .fill = Fill::constant(0.0),
           .shared = true}};
}

void launch_backward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel = packed ? &kernels::embedding_backward_kernel<true>
                             : &kernels::embedding_backward_kernel<false>;
  kernel<<<static_cast<unsigned>(extent.rows), kernels::embedding_threads, 0, stream>>>(
      static_cast<int>(extent.cols), buffers.get<const bf16>(0), buffers.get<const std::int64_t>(1),
      buffers.get<float>(2));
  CUDA_CHECK(cudaGetLastError());
}

// The table's rows that the sampled tokens hit, with every token that hits them.
std::vector<Expected> backward_reference(const Inspector& inspector, Extent extent) {
  const auto all_ids = inspector.read(1, 0, extent.rows);
  std::map<std::int64_t, std::vector<double>> sums;
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    sums[static_cast<std::int64_t>(all_ids[static_cast<std::size_t>(row)])].assign(
        static_cast<std::size_t>(extent.cols), 0.0);
  }
  for (std::int64_t row = 0; row < extent.rows; ++row) {
    const auto hit = sums.find(static_cast<std::int64_t>(all_ids[static_cast<std::size_t>(row)]));
    if (hit != sums.end()) {
      const auto dy = inspector.read(0, row * extent.cols, extent.cols);
      for (std::size_t c = 0; c < dy.size(); ++c) {
        hit->second[c] += dy[c];
      }
    }
  }
  Expected expected(2);
  for (const auto& [id, sum] : sums) {
    for (std::size_t c = 0; c < sum.size(); ++c) {
      expected.add(id * extent.cols + static_cast<std::int64_t>(c), sum[c]);
    }
  }
  return {expected};
}

} // namespace

const KernelTable& embedding_kernels() {
  static const KernelTable table{
      {"embedding", {&forward_operands, &launch_forward, &forward_reference}},
      {"embedding_backward", {&backward_operands, &launch_backward, &backward_reference}},
  };
  return table;
}

} // namespace predictor
