// Host side of transposes and casts to fp8. The scale is that of delayed scaling: known beforehand.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/kernel.hpp"
#include "operators/memory_bound/transposes.cuh"

#include <algorithm>
#include <cmath>

namespace predictor {
namespace {

using kernels::bf16;
using kernels::fp8_byte;

constexpr float fp8_scale = 16.0f;                            // normals use e4m3's range up to 448
constexpr std::int64_t most_searched = std::int64_t{1} << 22; // elements, for a largest magnitude
constexpr std::int64_t grid_rows_limit = 65535;

enum Transpose : std::size_t { t_in, t_same, t_transposed, t_amax };

template <typename T>
constexpr DataType type_of = sizeof(T) == 1 ? DataType::byte : DataType::bf16;

template <typename In, typename Out>
std::vector<Operand> transpose_operands(Extent extent, int) {
  constexpr bool cast = !std::is_same_v<In, Out>;
  if (ceil_div(extent.rows, kernels::tile_extent<Out>) > grid_rows_limit) {
    throw Unsupported(text("transpose: rows (", extent.rows, ") must stay below ",
                           grid_rows_limit * kernels::tile_extent<Out>));
  }
  return {tensor("in", extent.elements(), Role::input, type_of<In>),
          tensor("same", cast ? extent.elements() : 0, Role::output, type_of<Out>),
          tensor("transposed", extent.elements(), Role::output, type_of<Out>),
          running_total("amax")};
}

template <typename In, typename Out>
void launch_transpose(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  constexpr int tile = kernels::tile_extent<Out>;
  constexpr std::int64_t word = tile / kernels::warp_threads;
  const bool aligned = extent.rows % word == 0 && extent.cols % word == 0;
  const auto kernel = aligned ? &kernels::transpose_kernel<In, Out, true>
                              : &kernels::transpose_kernel<In, Out, false>;
  const dim3 blocks(static_cast<unsigned>(ceil_div(extent.cols, tile)),
                    static_cast<unsigned>(ceil_div(extent.rows, tile)));
  kernel<<<blocks, kernels::transpose_threads, 0, stream>>>(
      extent.rows, extent.cols, fp8_scale, buffers.get<const In>(t_in), buffers.get<Out>(t_same),
      buffers.get<Out>(t_transposed), buffers.get<float>(t_amax));
  CUDA_CHECK(cudaGetLastError());
}

// Only where all elements can be read in a moment; elsewhere the casts alone are checked.
void add_amax(const Inspector& inspector, Extent extent, std::size_t operand,
              std::vector<Expected>& expected) {
  if (extent.elements() > most_searched) {
    return;
  }
  double largest = 0.0;
  for (const double x : inspector.read(0, 0, extent.elements())) {
    largest = std::max(largest, std::abs(x));
  }
  expected.emplace_back(operand).add(0, largest);
}

double code_of(double x) {
  return kernels::to_e4m3(static_cast<float>(x) * fp8_scale);
}

template <typename In, typename Out>
std::vector<Expected> transpose_reference(const Inspector& inspector, Extent extent) {
  constexpr bool cast = !std::is_same_v<In, Out>;
  std::vector<Expected> expected{Expected(t_transposed)};
  if constexpr (cast) {
    expected.emplace_back(t_same);
  }
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(t_in, row * extent.cols, extent.cols);
    for (std::size_t c = 0; c < x.size(); ++c) {
      const auto col = static_cast<std::int64_t>(c);
      const double value = cast ? code_of(x[c]) : x[c];
      expected[0].add(col * extent.rows + row, value);
      if constexpr (cast) {
        expected[1].add(row * extent.cols + col, value);
      }
    }
  }
  if constexpr (cast) {
    add_amax(inspector, extent, t_amax, expected);
  }
  return expected;
}

template <bool cast>
std::vector<Operand> amax_operands(Extent extent, int) {
  return {tensor("in", extent.elements(), Role::input),
          tensor("out", cast ? extent.elements() : 0, Role::output, DataType::byte),
          running_total("amax")};
}

template <bool cast>
void launch_amax(const Buffers& buffers, Extent extent, int sm_count, cudaStream_t stream) {
  const std::int64_t needed =
      ceil_div(extent.elements(), kernels::transpose_threads * kernels::pack);
  const auto blocks = static_cast<unsigned>(std::min<std::int64_t>(needed, 16 * sm_count));
  kernels::amax_kernel<cast><<<blocks, kernels::transpose_threads, 0, stream>>>(
      extent.elements(), fp8_scale, buffers.get<const bf16>(0), buffers.get<fp8_byte>(1),
      buffers.get<float>(2));
  CUDA_CHECK(cudaGetLastError());
}

template <bool cast>
std::vector<Expected> amax_reference(const Inspector& inspector, Extent extent) {
  std::vector<Expected> expected;
  if constexpr (cast) {
    Expected& out = expected.emplace_back(1);
    for (const std::int64_t row : sampled_rows(extent.rows)) {
      const auto x = inspector.read(0, row * extent.cols, extent.cols);
      for (std::size_t c = 0; c < x.size(); ++c) {
        out.add(row * extent.cols + static_cast<std::int64_t>(c), code_of(x[c]));
      }
    }
  }
  add_amax(inspector, extent, 2, expected);
  return expected;
}

} // namespace

const KernelTable& transpose_kernels() {
  static const KernelTable table{
      {"transpose",
       {&transpose_operands<bf16, bf16>, &launch_transpose<bf16, bf16>,
        &transpose_reference<bf16, bf16>}},
      {"transpose_fp8",
       {&transpose_operands<fp8_byte, fp8_byte>, &launch_transpose<fp8_byte, fp8_byte>,
        &transpose_reference<fp8_byte, fp8_byte>}},
      {"cast_transpose_fp8",
       {&transpose_operands<bf16, fp8_byte>, &launch_transpose<bf16, fp8_byte>,
        &transpose_reference<bf16, fp8_byte>}},
      {"cast_fp8", {&amax_operands<true>, &launch_amax<true>, &amax_reference<true>}},
      {"amax", {&amax_operands<false>, &launch_amax<false>, &amax_reference<false>}},
  };
  return table;
}

} // namespace predictor
