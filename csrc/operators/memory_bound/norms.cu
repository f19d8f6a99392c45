// Host side of RMS and layer norm: operands, the choice of the block's shape, references.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/kernel.hpp"
#include "operators/memory_bound/norms.cuh"

#include <algorithm>
#include <cmath>
#include <limits>

namespace predictor {
namespace {

using kernels::bf16;
using kernels::NormShape;

constexpr std::int64_t blocks_per_sm = 2; // of the backward kernel, which walks over rows

// Calls `use` with the smallest shape that holds a row; false if none does.
template <typename Use>
bool with_shape(std::int64_t cols, Use use) {
  const auto fits = [&]<typename Shape>(Shape shape) {
    if (cols > Shape::max_cols) {
      return false;
    }
    use(shape);
    return true;
  };
  return cols % kernels::pack == 0 &&
         (fits(NormShape<16, 1>()) || fits(NormShape<32, 1>()) || fits(NormShape<32, 4>()) ||
          fits(NormShape<256, 1>()) || fits(NormShape<256, 2>()) || fits(NormShape<256, 4>()) ||
          fits(NormShape<512, 4>()));
}

struct BackwardGrid {
  std::int64_t blocks = 0;
  std::int64_t groups = 1; // partial rows a block
};

BackwardGrid backward_grid(Extent extent, int sm_count) {
  BackwardGrid grid;
  (void)with_shape(extent.cols, [&]<typename Shape>(Shape) { grid.groups = Shape::groups; });
  grid.blocks = std::min(ceil_div(extent.rows, grid.groups), blocks_per_sm * sm_count);
  return grid;
}

void require_indexable(Extent extent) {
  const std::int64_t limit = std::numeric_limits<int>::max();
  if (extent.rows > limit || extent.cols > limit / 2) {
    throw Unsupported(text("norm: rows (", extent.rows, ") and cols (", extent.cols,
                           ") must stay below 2^31 and 2^30"));
  }
}

Operand vector_input(const char* name, std::int64_t elements) {
  return {.name = name, .elements = elements, .shared = true};
}

Operand statistic(const char* name, std::int64_t rows, Role role) {
  return {.name = name,
          .type = DataType::fp32,
          .elements = rows,
          .role = role,
          .fill = Fill::uniform(0.5, 1.5)};
}

// Operands of the forward pass, by index.
enum Forward : std::size_t { f_x, f_weight, f_bias, f_y, f_mean, f_rstd };

std::vector<Operand> forward_operands(Extent extent, int) {
  require_indexable(extent);
  return {{.name = "x", .elements = extent.elements()},
          vector_input("weight", extent.cols),
          vector_input("bias", extent.cols),
          {.name = "y", .elements = extent.elements(), .role = Role::output},
          statistic("mean", extent.rows, Role::output),
          statistic("rstd", extent.rows, Role::output)};
}

template <bool layer>
void launch_forward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const kernels::NormInputs in{buffers.get<const bf16>(f_x), buffers.get<const bf16>(f_weight),
                               buffers.get<const bf16>(f_bias)};
  const kernels::NormOutputs out{buffers.get<bf16>(f_y), buffers.get<float>(f_mean),
                                 buffers.get<float>(f_rstd)};
  const int cols = static_cast<int>(extent.cols);
  const bool held = with_shape(extent.cols, [&]<typename Shape>(Shape) {
    const auto blocks = static_cast<unsigned>(ceil_div(extent.rows, Shape::groups));
    kernels::norm_kernel<layer, Shape>
        <<<blocks, Shape::threads, 0, stream>>>(extent.rows, cols, in, out);
  });
  if (!held) {
    kernels::norm_any_kernel<layer>
        <<<static_cast<unsigned>(extent.rows), kernels::norm_threads, 0, stream>>>(extent.rows,
                                                                                   cols, in, out);
  }
  CUDA_CHECK(cudaGetLastError());
}

template <bool layer>
std::vector<Expected> forward_reference(const Inspector& inspector, Extent extent) {
  Expected y(f_y);
  Expected mean(f_mean);
  Expected rstd(f_rstd);
  const auto weight = inspector.read(f_weight, 0, extent.cols);
  const auto bias = inspector.read(f_bias, 0, extent.cols);
  const double n = static_cast<double>(extent.cols);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(f_x, row * extent.cols, extent.cols);
    double centre = 0.0;
    for (const double value : x) {
      centre += layer ? value / n : 0.0;
    }
    double variance = 0.0;
    for (const double value : x) {
      variance += (value - centre) * (value - centre) / n;
    }
    const double scale = 1.0 / std::sqrt(variance + static_cast<double>(kernels::norm_epsilon));
    for (std::size_t c = 0; c < x.size(); ++c) {
      y.add(row * extent.cols + static_cast<std::int64_t>(c),
            (x[c] - centre) * scale * weight[c] + (layer ? bias[c] : 0.0));
    }
    mean.add(row, centre);
    rstd.add(row, scale);
  }
  return layer ? std::vector{y, mean, rstd} : std::vector{y, rstd};
}

// Operands of the backward pass, by index.
enum Backward : std::size_t {
  b_dy,
  b_x,
  b_weight,
  b_mean,
  b_rstd,
  b_dx,
  b_dweight,
  b_dbias,
  b_partials
};

std::vector<Operand> backward_operands(Extent extent, int sm_count) {
  require_indexable(extent);
  const BackwardGrid grid = backward_grid(extent, sm_count);
  return {{.name = "dy", .elements = extent.elements()},
          {.name = "x", .elements = extent.elements()},
          vector_input("weight", extent.cols),
          statistic("mean", extent.rows, Role::prepared),
          statistic("rstd", extent.rows, Role::prepared),
          {.name = "dx", .elements = extent.elements(), .role = Role::output},
          {.name = "dweight", .elements = extent.cols, .role = Role::output},
          {.name = "dbias", .elements = extent.cols, .role = Role::output},
          {.name = "partials",
           .type = DataType::fp32,
           .elements = 2 * grid.blocks * grid.groups * extent.cols,
           .role = Role::scratch,
           .shared = true}};
}

template <bool layer>
void launch_backward(const Buffers& buffers, Extent extent, int sm_count, cudaStream_t stream) {
  const kernels::NormBackwardInputs in{buffers.get<const bf16>(b_dy), buffers.get<const bf16>(b_x),
                                       buffers.get<const bf16>(b_weight),
                                       buffers.get<const float>(b_mean),
                                       buffers.get<const float>(b_rstd)};
  const kernels::NormBackwardOutputs out{buffers.get<bf16>(b_dx), buffers.get<float>(b_partials)};
  const int cols = static_cast<int>(extent.cols);
  const BackwardGrid grid = backward_grid(extent, sm_count);
  const auto blocks = static_cast<unsigned>(grid.blocks);
  const bool held = with_shape(extent.cols, [&]<typename Shape>(Shape) {
    kernels::norm_backward_kernel<layer, Shape>
        <<<blocks, Shape::threads, 0, stream>>>(extent.rows, cols, in, out);
  });
  if (!held) {
    kernels::norm_backward_any_kernel<layer>
        <<<blocks, kernels::norm_threads, 0, stream>>>(extent.rows, cols, in, out);
  }
  CUDA_CHECK(cudaGetLastError());
  const dim3 reduce_blocks(static_cast<unsigned>(ceil_div(extent.cols, kernels::reduce_columns)),
                           layer ? 2 : 1);
  kernels::reduce_partials_kernel<<<reduce_blocks, kernels::reduce_columns * kernels::warp_threads,
                                    0, stream>>>(
      static_cast<int>(grid.blocks * grid.groups), cols, buffers.get<const float>(b_partials),
      buffers.get<bf16>(b_dweight), buffers.get<bf16>(b_dbias));
  CUDA_CHECK(cudaGetLastError());
}

template <bool layer>
std::vector<Expected> backward_reference(const Inspector& inspector, Extent extent) {
  const auto weight = inspector.read(b_weight, 0, extent.cols);
  const auto rstd = inspector.read(b_rstd, 0, extent.rows);
  auto mean = inspector.read(b_mean, 0, extent.rows);
  if (!layer) {
    std::fill(mean.begin(), mean.end(), 0.0);
  }
  const double n = static_cast<double>(extent.cols);

  Expected dx(b_dx);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto r = static_cast<std::size_t>(row);
    const auto dy = inspector.read(b_dy, row * extent.cols, extent.cols);
    auto x = inspector.read(b_x, row * extent.cols, extent.cols);
    double mean_g = 0.0;
    double mean_gx = 0.0;
    for (std::size_t c = 0; c < x.size(); ++c) {
      x[c] = (x[c] - mean[r]) * rstd[r];
      mean_g += layer ? dy[c] * weight[c] / n : 0.0;
      mean_gx += dy[c] * weight[c] * x[c] / n;
    }
    for (std::size_t c = 0; c < x.size(); ++c) {
      dx.add(row * extent.cols + static_cast<std::int64_t>(c),
             rstd[r] * (dy[c] * weight[c] - mean_g - x[c] * mean_gx));
    }
  }

  Expected dweight(b_dweight);
  Expected dbias(b_dbias);
  for (const std::int64_t col : sampled_rows(extent.cols)) {
    const auto dy = inspector.read(b_dy, col, extent.rows, extent.cols);
    const auto x = inspector.read(b_x, col, extent.rows, extent.cols);
    double weight_sum = 0.0;
    double bias_sum = 0.0;
    for (std::size_t r = 0; r < dy.size(); ++r) {
      weight_sum += dy[r] * (x[r] - mean[r]) * rstd[r];
      bias_sum += dy[r];
    }
    dweight.add(col, weight_sum);
    dbias.add(col, bias_sum);
  }
  return layer ? std::vector{dx, dweight, dbias} : std::vector{dx, dweight};
}

} // namespace

const KernelTable& norm_kernels() {
  static const KernelTable table{
      {"rms_norm", {&forward_operands, &launch_forward<false>, &forward_reference<false>}},
      {"rms_norm_backward",
       {&backward_operands, &launch_backward<false>, &backward_reference<false>}},
      {"layer_norm", {&forward_operands, &launch_forward<true>, &forward_reference<true>}},
      {"layer_norm_backward",
       {&backward_operands, &launch_backward<true>, &backward_reference<true>}},
  };
  return table;
}

} // namespace predictor
