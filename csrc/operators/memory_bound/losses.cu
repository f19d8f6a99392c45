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

Operand labels(Extent extent) {
  return {.name = "labels",
          .type = DataType::int64,
          .elements = extent.rows,
          .role = Role::prepared,
          .fill = Fill::index(extent.cols)};
}

template <typename T>
constexpr DataType type_of = std::is_same_v<T, float> ? DataType::fp32 : DataType::bf16;

template <typename T>
std::vector<Operand> inputs(Extent extent) {
  require_indexable(extent);
  return {{.name = "logits", .type = type_of<T>, .elements = extent.elements()}, labels(extent)};
}

template <typename T>
std::vector<Operand> forward_operands(Extent extent, int) {
  std::vector<Operand> all = inputs<T>(extent);
  for (const char* name : {"loss", "logsumexp"}) {
    all.push_back(
        {.name = name, .type = DataType::fp32, .elements = extent.rows, .role = Role::output});
  }
  return all;
}

template <typename T>
void launch_forward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::cross_entropy_kernel<T>
      <<<static_cast<unsigned>(extent.rows), kernels::loss_threads, 0, stream>>>(
          static_cast<int>(extent.cols), buffers.get<const T>(0),
          buffers.get<const std::int64_t>(1), buffers.get<float>(2), buffers.get<float>(3));
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
template <typename T>
std::vector<Operand> backward_operands(Extent extent, int) {
  std::vector<Operand> all = inputs<T>(extent);
  all.push_back({.name = "logsumexp",
                 .type = DataType::fp32,
                 .elements = extent.rows,
                 .role = Role::prepared,
                 .fill = Fill::constant(std::log(static_cast<double>(extent.cols)) + 0.5)});
  all.push_back({.name = "gradient",
                 .type = type_of<T>,
                 .elements = extent.elements(),
                 .role = Role::output});
  return all;
}

template <typename T>
void launch_backward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::cross_entropy_backward_kernel<T>
      <<<static_cast<unsigned>(extent.rows), kernels::loss_threads, 0, stream>>>(
          static_cast<int>(extent.cols), 1.0f / static_cast<float>(extent.rows),
          buffers.get<const T>(0), buffers.get<const std::int64_t>(1), buffers.get<const float>(2),
          buffers.get<T>(3));
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

// --- the loss of a split vocabulary

Operand a_row(const char* name, std::int64_t rows, Role role, double value = 0.0) {
  return {.name = name,
          .type = DataType::fp32,
          .elements = rows,
          .role = role,
          .fill = Fill::constant(value)};
}

Operand matrix(const char* name, Extent extent, Role role, Fill fill) {
  return {.name = name,
          .type = DataType::fp32,
          .elements = extent.elements(),
          .role = role,
          .fill = fill};
}

std::vector<Operand> vocab_max_operands(Extent extent, int) {
  require_indexable(extent);
  return {matrix("logits", extent, Role::input, Fill::normal()),
          a_row("maximum", extent.rows, Role::output)};
}

void launch_vocab_max(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::
      vocab_max_kernel<<<static_cast<unsigned>(extent.rows), kernels::loss_threads, 0, stream>>>(
          static_cast<int>(extent.cols), buffers.get<const float>(0), buffers.get<float>(1));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> vocab_max_reference(const Inspector& inspector, Extent extent) {
  Expected maximum(1);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    maximum.add(row, *std::max_element(x.begin(), x.end()));
  }
  return {maximum};
}

// A maximum of 1 stands in for the rows': in place again and again, numbers stay in (0, 1].
std::vector<Operand> vocab_exp_operands(Extent extent, int) {
  require_indexable(extent);
  return {labels(extent), a_row("maximum", extent.rows, Role::prepared, 1.0),
          matrix("logits", extent, Role::state, Fill::uniform(-4.0, 1.0)),
          a_row("sum", extent.rows, Role::output), a_row("label_logit", extent.rows, Role::output)};
}

void launch_vocab_exp(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::
      vocab_exp_kernel<<<static_cast<unsigned>(extent.rows), kernels::loss_threads, 0, stream>>>(
          static_cast<int>(extent.cols), buffers.get<const std::int64_t>(0),
          buffers.get<const float>(1), buffers.get<float>(2), buffers.get<float>(3),
          buffers.get<float>(4));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> vocab_exp_reference(const Inspector& inspector, Extent extent) {
  Expected exponentials(2);
  Expected sum(3);
  Expected label_logit(4);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(2, row * extent.cols, extent.cols);
    const auto label = static_cast<std::size_t>(inspector.read(0, row, 1)[0]);
    double total = 0.0;
    for (std::size_t c = 0; c < x.size(); ++c) {
      const double value = std::exp(x[c] - 1.0);
      exponentials.add(row * extent.cols + static_cast<std::int64_t>(c), value);
      total += value;
    }
    sum.add(row, total);
    label_logit.add(row, x[label] - 1.0);
  }
  return {exponentials, sum, label_logit};
}

// Factors of 1: in place again and again, only the labels' elements drift.
std::vector<Operand> vocab_gradient_operands(Extent extent, int) {
  require_indexable(extent);
  return {labels(extent), a_row("reciprocal_sum", extent.rows, Role::prepared, 1.0),
          a_row("upstream", extent.rows, Role::prepared, 1.0),
          matrix("exponentials", extent, Role::state, Fill::uniform(0.0, 1.0))};
}

void launch_vocab_gradient(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  kernels::vocab_gradient_kernel<<<static_cast<unsigned>(extent.rows), kernels::loss_threads, 0,
                                   stream>>>(
      static_cast<int>(extent.cols), buffers.get<const std::int64_t>(0),
      buffers.get<const float>(1), buffers.get<const float>(2), buffers.get<float>(3));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> vocab_gradient_reference(const Inspector& inspector, Extent extent) {
  Expected gradient(3);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(3, row * extent.cols, extent.cols);
    const auto label = static_cast<std::size_t>(inspector.read(0, row, 1)[0]);
    for (std::size_t c = 0; c < x.size(); ++c) {
      gradient.add(row * extent.cols + static_cast<std::int64_t>(c),
                   x[c] - (c == label ? 1.0 : 0.0));
    }
  }
  return {gradient};
}

} // namespace

const KernelTable& loss_kernels() {
  static const KernelTable table{
      {"cross_entropy", {&forward_operands<bf16>, &launch_forward<bf16>, &forward_reference}},
      {"cross_entropy_fp32",
       {&forward_operands<float>, &launch_forward<float>, &forward_reference}},
      {"cross_entropy_backward",
       {&backward_operands<bf16>, &launch_backward<bf16>, &backward_reference}},
      {"cross_entropy_backward_fp32",
       {&backward_operands<float>, &launch_backward<float>, &backward_reference}},
      {"vocab_max", {&vocab_max_operands, &launch_vocab_max, &vocab_max_reference}},
      {"vocab_exp", {&vocab_exp_operands, &launch_vocab_exp, &vocab_exp_reference}},
      {"vocab_gradient",
       {&vocab_gradient_operands, &launch_vocab_gradient, &vocab_gradient_reference}},
  };
  return table;
}

} // namespace predictor
