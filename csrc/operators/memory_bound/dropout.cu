// Host side of dropout and of bias with GELU.
#include "operators/memory_bound/dropout.cuh"
#include "operators/memory_bound/kernel.hpp"

#include <cmath>

namespace predictor {
namespace {

using kernels::bf16;

unsigned blocks_of(Extent extent, bool packed) {
  const std::int64_t items = extent.elements() / (packed ? kernels::pack : 1);
  return static_cast<unsigned>(ceil_div(items, kernels::map_threads));
}

std::uint32_t narrow(std::int64_t size) {
  return static_cast<std::uint32_t>(size);
}

enum Dropout : std::size_t { d_x, d_bias, d_residual, d_y, d_mask };

template <bool fused>
std::vector<Operand> dropout_operands(Extent extent, int) {
  require_indexable("dropout", extent);
  return {tensor("x", extent.elements(), Role::input),
          tensor("bias", fused ? extent.cols : 0, Role::input),
          tensor("residual", fused ? extent.elements() : 0, Role::input),
          tensor("y", extent.elements(), Role::output),
          tensor("mask", extent.elements(), Role::output, DataType::byte)};
}

template <bool fused>
void launch_dropout(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel =
      packed ? &kernels::dropout_kernel<true, fused> : &kernels::dropout_kernel<false, fused>;
  kernel<<<blocks_of(extent, packed), kernels::map_threads, 0, stream>>>(
      narrow(extent.rows), narrow(extent.cols), buffers.get<const bf16>(d_x),
      buffers.get<const bf16>(d_bias), buffers.get<const bf16>(d_residual), buffers.get<bf16>(d_y),
      buffers.get<unsigned char>(d_mask));
  CUDA_CHECK(cudaGetLastError());
}

template <bool fused>
std::vector<Expected> dropout_reference(const Inspector& inspector, Extent extent) {
  Expected y(d_y);
  Expected mask(d_mask);
  const std::vector<double> none(static_cast<std::size_t>(extent.cols), 0.0);
  const auto bias = fused ? inspector.read(d_bias, 0, extent.cols) : none;
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(d_x, row * extent.cols, extent.cols);
    const auto residual = fused ? inspector.read(d_residual, row * extent.cols, extent.cols) : none;
    for (std::size_t c = 0; c < x.size(); ++c) {
      const std::int64_t at = row * extent.cols + static_cast<std::int64_t>(c);
      const auto element = static_cast<std::uint64_t>(at);
      const bool kept = kernels::is_kept(kernels::dropout_bytes(element / 8), element);
      const double scale = static_cast<double>(kernels::dropout_scale);
      y.add(at, residual[c] + (kept ? (x[c] + bias[c]) * scale : 0.0));
      mask.add(at, kept ? 1.0 : 0.0);
    }
  }
  return {y, mask};
}

std::vector<Operand> dropout_backward_operands(Extent extent, int) {
  require_indexable("dropout_backward", extent);
  return {tensor("dy", extent.elements(), Role::input),
          {.name = "mask",
           .type = DataType::byte,
           .elements = extent.elements(),
           .role = Role::prepared,
           .fill = Fill::index(2)},
          tensor("dx", extent.elements(), Role::output)};
}

void launch_dropout_backward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel =
      packed ? &kernels::dropout_backward_kernel<true> : &kernels::dropout_backward_kernel<false>;
  kernel<<<blocks_of(extent, packed), kernels::map_threads, 0, stream>>>(
      narrow(extent.rows), narrow(extent.cols), buffers.get<const bf16>(0),
      buffers.get<const unsigned char>(1), buffers.get<bf16>(2));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> dropout_backward_reference(const Inspector& inspector, Extent extent) {
  Expected dx(2);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto dy = inspector.read(0, row * extent.cols, extent.cols);
    const auto mask = inspector.read(1, row * extent.cols, extent.cols);
    for (std::size_t c = 0; c < dy.size(); ++c) {
      dx.add(row * extent.cols + static_cast<std::int64_t>(c),
             mask[c] * dy[c] * static_cast<double>(kernels::dropout_scale));
    }
  }
  return {dx};
}

enum BiasGelu : std::size_t { g_dy, g_x, g_bias, g_out };

template <bool backward>
std::vector<Operand> bias_gelu_operands(Extent extent, int) {
  require_indexable("bias_gelu", extent);
  return {tensor("dy", backward ? extent.elements() : 0, Role::input),
          tensor("x", extent.elements(), Role::input), tensor("bias", extent.cols, Role::input),
          tensor("out", extent.elements(), Role::output)};
}

template <bool backward>
void launch_bias_gelu(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel = packed ? &kernels::bias_gelu_kernel<true, backward>
                             : &kernels::bias_gelu_kernel<false, backward>;
  kernel<<<blocks_of(extent, packed), kernels::map_threads, 0, stream>>>(
      narrow(extent.rows), narrow(extent.cols), buffers.get<const bf16>(g_dy),
      buffers.get<const bf16>(g_x), buffers.get<const bf16>(g_bias), buffers.get<bf16>(g_out));
  CUDA_CHECK(cudaGetLastError());
}

template <bool backward>
std::vector<Expected> bias_gelu_reference(const Inspector& inspector, Extent extent) {
  constexpr double cubic = static_cast<double>(kernels::gelu_cubic);
  const double scale = static_cast<double>(kernels::gelu_scale);
  Expected out(g_out);
  const auto bias = inspector.read(g_bias, 0, extent.cols);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(g_x, row * extent.cols, extent.cols);
    const auto dy = backward ? inspector.read(g_dy, row * extent.cols, extent.cols) : x;
    for (std::size_t c = 0; c < x.size(); ++c) {
      const double z = x[c] + bias[c];
      const double t = std::tanh(scale * (z + cubic * z * z * z));
      const double slope =
          0.5 * (1.0 + t) + 0.5 * z * (1.0 - t * t) * scale * (1.0 + 3.0 * cubic * z * z);
      out.add(row * extent.cols + static_cast<std::int64_t>(c),
              backward ? dy[c] * slope : 0.5 * z * (1.0 + t));
    }
  }
  return {out};
}

} // namespace

const KernelTable& dropout_kernels() {
  static const KernelTable table{
      {"dropout", {&dropout_operands<false>, &launch_dropout<false>, &dropout_reference<false>}},
      {"bias_dropout_add",
       {&dropout_operands<true>, &launch_dropout<true>, &dropout_reference<true>}},
      {"dropout_backward",
       {&dropout_backward_operands, &launch_dropout_backward, &dropout_backward_reference}},
      {"bias_gelu",
       {&bias_gelu_operands<false>, &launch_bias_gelu<false>, &bias_gelu_reference<false>}},
      {"bias_gelu_backward",
       {&bias_gelu_operands<true>, &launch_bias_gelu<true>, &bias_gelu_reference<true>}},
  };
  return table;
}

} // namespace predictor
