// Host side of the maps: what each reads and writes, its launch and its reference.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/elementwise.cuh"
#include "operators/memory_bound/kernel.hpp"

#include <cmath>

namespace predictor {
namespace {

using kernels::bf16;

template <typename T>
constexpr DataType type_of = std::is_same_v<T, float> ? DataType::fp32 : DataType::bf16;

// Inputs first, then the output; references compute from the inputs in that order.
template <typename Op, typename Out, typename... In>
struct Map {
  static std::vector<Operand> operands(Extent extent, int) {
    std::vector<Operand> all{tensor("in", extent.elements(), Role::input, type_of<In>)...};
    all.push_back(tensor("out", extent.elements(), Role::output, type_of<Out>));
    return all;
  }

  static void launch(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
    launch_at(buffers, extent, stream, std::index_sequence_for<In...>());
  }

  template <double (*formula)(const std::vector<double>&)>
  static std::vector<Expected> reference(const Inspector& inspector, Extent extent) {
    constexpr std::size_t inputs = sizeof...(In);
    Expected expected(inputs);
    for (const std::int64_t row : sampled_rows(extent.rows)) {
      std::vector<std::vector<double>> x;
      for (std::size_t k = 0; k < inputs; ++k) {
        x.push_back(inspector.read(k, row * extent.cols, extent.cols));
      }
      for (std::int64_t c = 0; c < extent.cols; ++c) {
        std::vector<double> arguments;
        for (std::size_t k = 0; k < inputs; ++k) {
          arguments.push_back(x[k][static_cast<std::size_t>(c)]);
        }
        expected.add(row * extent.cols + c, formula(arguments));
      }
    }
    return {expected};
  }

private:
  template <std::size_t... k>
  static void launch_at(const Buffers& buffers, Extent extent, cudaStream_t stream,
                        std::index_sequence<k...>) {
    const std::int64_t count = extent.elements();
    const auto blocks = static_cast<unsigned>(ceil_div(count, kernels::map_block_elements));
    kernels::map_kernel<Op, Out, In...><<<blocks, kernels::map_threads, 0, stream>>>(
        count, buffers.get<Out>(sizeof...(In)), buffers.get<const In>(k)...);
    CUDA_CHECK(cudaGetLastError());
  }
};

double identity(const std::vector<double>& x) {
  return x[0];
}
double half(const std::vector<double>& x) {
  return 0.5 * x[0];
}
double sum(const std::vector<double>& x) {
  return x[0] + x[1];
}

const double gelu_scale = std::sqrt(2.0 / 3.14159265358979323846);

double gelu(const std::vector<double>& x) {
  return 0.5 * x[0] * (1.0 + std::tanh(gelu_scale * (x[0] + 0.044715 * std::pow(x[0], 3))));
}

double gelu_backward(const std::vector<double>& in) {
  const double dy = in[0];
  const double x = in[1];
  const double t = std::tanh(gelu_scale * (x + 0.044715 * x * x * x));
  return dy *
         (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * gelu_scale * (1.0 + 3.0 * 0.044715 * x * x));
}

// --- in place, fp32
std::vector<Operand> add_fp32_operands(Extent extent, int) {
  return {tensor("gradient", extent.elements(), Role::input),
          tensor("sum", extent.elements(), Role::state, DataType::fp32)};
}

void launch_add_fp32(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const std::int64_t count = extent.elements();
  const auto blocks = static_cast<unsigned>(ceil_div(count, kernels::map_block_elements));
  float* accumulated = buffers.get<float>(1);
  kernels::map_kernel<kernels::Add, float, float, bf16>
      <<<blocks, kernels::map_threads, 0, stream>>>(count, accumulated, accumulated,
                                                    buffers.get<const bf16>(0));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> add_fp32_reference(const Inspector& inspector, Extent extent) {
  Expected expected(1);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto gradient = inspector.read(0, row * extent.cols, extent.cols);
    const auto before = inspector.read(1, row * extent.cols, extent.cols);
    for (std::size_t c = 0; c < gradient.size(); ++c) {
      expected.add(row * extent.cols + static_cast<std::int64_t>(c), gradient[c] + before[c]);
    }
  }
  return {expected};
}

std::vector<Operand> scale_fp32_operands(Extent extent, int) {
  return {tensor("x", extent.elements(), Role::state, DataType::fp32)};
}

void launch_scale_fp32(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const std::int64_t count = extent.elements();
  const auto blocks = static_cast<unsigned>(ceil_div(count, kernels::map_block_elements));
  float* x = buffers.get<float>(0);
  kernels::map_kernel<kernels::Halve, float, float>
      <<<blocks, kernels::map_threads, 0, stream>>>(count, x, static_cast<const float*>(x));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> scale_fp32_reference(const Inspector& inspector, Extent extent) {
  Expected expected(0);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    for (std::size_t c = 0; c < x.size(); ++c) {
      expected.add(row * extent.cols + static_cast<std::int64_t>(c), 0.5 * x[c]);
    }
  }
  return {expected};
}

std::vector<Operand> zero_operands(Extent extent, int) {
  return {tensor("x", extent.elements(), Role::output)};
}

void launch_zero(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  CUDA_CHECK(cudaMemsetAsync(buffers.get(0), 0,
                             static_cast<std::size_t>(extent.elements()) * sizeof(bf16), stream));
}

std::vector<Expected> zero_reference(const Inspector&, Extent extent) {
  Expected expected(0);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    expected.add(row * extent.cols, 0.0);
    expected.add((row + 1) * extent.cols - 1, 0.0);
  }
  return {expected};
}

// --- kernels that know rows and columns
unsigned blocks_for(std::int64_t items) {
  return static_cast<unsigned>(ceil_div(items, kernels::map_threads));
}

template <bool weighted>
std::vector<Operand> silu_mul_operands(Extent extent, int) {
  require_indexable("silu_mul", extent);
  return {tensor("gate_up", 2 * extent.elements(), Role::input),
          tensor("probabilities", weighted ? extent.rows : 0, Role::input, DataType::fp32),
          tensor("y", extent.elements(), Role::output)};
}

template <bool weighted>
void launch_silu_mul(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel = packed ? &kernels::silu_mul_kernel<true, weighted>
                             : &kernels::silu_mul_kernel<false, weighted>;
  const std::int64_t items = extent.elements() / (packed ? kernels::pack : 1);
  kernel<<<blocks_for(items), kernels::map_threads, 0, stream>>>(
      static_cast<std::uint32_t>(extent.rows), static_cast<std::uint32_t>(extent.cols),
      buffers.get<const bf16>(0), buffers.get<const float>(1), buffers.get<bf16>(2));
  CUDA_CHECK(cudaGetLastError());
}

double logistic(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

template <bool weighted>
std::vector<Expected> silu_mul_reference(const Inspector& inspector, Extent extent) {
  Expected expected(2);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const auto gate = inspector.read(0, 2 * row * extent.cols, extent.cols);
    const auto up = inspector.read(0, (2 * row + 1) * extent.cols, extent.cols);
    const double weight = weighted ? inspector.read(1, row, 1)[0] : 1.0;
    for (std::size_t c = 0; c < gate.size(); ++c) {
      expected.add(row * extent.cols + static_cast<std::int64_t>(c),
                   weight * gate[c] * logistic(gate[c]) * up[c]);
    }
  }
  return {expected};
}

std::vector<Operand> silu_mul_backward_operands(Extent extent, int) {
  require_indexable("silu_mul_backward", extent);
  return {tensor("dy", extent.elements(), Role::input),
          tensor("gate_up", 2 * extent.elements(), Role::input),
          tensor("dgate_up", 2 * extent.elements(), Role::output)};
}

void launch_silu_mul_backward(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel =
      packed ? &kernels::silu_mul_backward_kernel<true> : &kernels::silu_mul_backward_kernel<false>;
  const std::int64_t items = extent.elements() / (packed ? kernels::pack : 1);
  kernel<<<blocks_for(items), kernels::map_threads, 0, stream>>>(
      static_cast<std::uint32_t>(extent.rows), static_cast<std::uint32_t>(extent.cols),
      buffers.get<const bf16>(0), buffers.get<const bf16>(1), buffers.get<bf16>(2));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> silu_mul_backward_reference(const Inspector& inspector, Extent extent) {
  Expected expected(2);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const std::int64_t left = 2 * row * extent.cols;
    const auto dy = inspector.read(0, row * extent.cols, extent.cols);
    const auto gate = inspector.read(1, left, extent.cols);
    const auto up = inspector.read(1, left + extent.cols, extent.cols);
    for (std::size_t c = 0; c < dy.size(); ++c) {
      const double s = logistic(gate[c]);
      const auto col = static_cast<std::int64_t>(c);
      expected.add(left + col, dy[c] * up[c] * (s + gate[c] * s * (1.0 - s)));
      expected.add(left + extent.cols + col, dy[c] * gate[c] * s);
    }
  }
  return {expected};
}

std::vector<Operand> silu_mul_probs_backward_operands(Extent extent, int) {
  require_indexable("silu_mul_probs_backward", extent);
  return {tensor("dy", extent.elements(), Role::input),
          tensor("gate_up", 2 * extent.elements(), Role::input),
          tensor("probabilities", extent.rows, Role::input, DataType::fp32),
          tensor("dgate_up", 2 * extent.elements(), Role::output),
          tensor("dprobabilities", extent.rows, Role::output, DataType::fp32)};
}

void launch_silu_mul_probs_backward(const Buffers& buffers, Extent extent, int,
                                    cudaStream_t stream) {
  const bool packed = extent.cols % kernels::pack == 0;
  const auto kernel = packed ? &kernels::silu_mul_probs_backward_kernel<true>
                             : &kernels::silu_mul_probs_backward_kernel<false>;
  kernel<<<static_cast<unsigned>(extent.rows), kernels::map_threads, 0, stream>>>(
      static_cast<int>(extent.cols), buffers.get<const bf16>(0), buffers.get<const bf16>(1),
      buffers.get<const float>(2), buffers.get<bf16>(3), buffers.get<float>(4));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> silu_mul_probs_backward_reference(const Inspector& inspector, Extent extent) {
  Expected gradient(3);
  Expected dprobabilities(4);
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const std::int64_t left = 2 * row * extent.cols;
    const auto dy = inspector.read(0, row * extent.cols, extent.cols);
    const auto gate = inspector.read(1, left, extent.cols);
    const auto up = inspector.read(1, left + extent.cols, extent.cols);
    const double weight = inspector.read(2, row, 1)[0];
    double sum = 0.0;
    for (std::size_t c = 0; c < dy.size(); ++c) {
      const double s = logistic(gate[c]);
      const auto col = static_cast<std::int64_t>(c);
      sum += dy[c] * gate[c] * s * up[c];
      gradient.add(left + col, weight * dy[c] * up[c] * (s + gate[c] * s * (1.0 - s)));
      gradient.add(left + extent.cols + col, weight * dy[c] * gate[c] * s);
    }
    dprobabilities.add(row, sum);
  }
  return {gradient, dprobabilities};
}

// --- rotary embedding
// Rows alone do not say how many heads a token has nor how long sequences are: 32 and 4096, as in
// the 7 to 8 billion parameter models. Both only decide which lines of the small tables are read.
constexpr std::uint32_t rotary_heads = 32;
constexpr std::uint32_t rotary_positions = 4096;

std::vector<Operand> rotary_operands(Extent extent, int) {
  require_indexable("rotary", extent);
  if (extent.cols % 2 != 0) {
    throw Unsupported(text("rotary: cols (", extent.cols, ") must be even"));
  }
  const Operand table{.name = "cosine",
                      .type = DataType::fp32,
                      .elements = rotary_positions * extent.cols / 2,
                      .role = Role::prepared,
                      .fill = Fill::uniform(-1.0, 1.0),
                      .shared = true};
  Operand sine = table;
  sine.name = "sine";
  return {tensor("x", extent.elements(), Role::input), table, sine,
          tensor("y", extent.elements(), Role::output)};
}

void launch_rotary(const Buffers& buffers, Extent extent, int, cudaStream_t stream) {
  const bool packed = extent.cols / 2 % kernels::pack == 0;
  const auto kernel = packed ? &kernels::rotary_kernel<true> : &kernels::rotary_kernel<false>;
  const std::int64_t items = extent.elements() / 2 / (packed ? kernels::pack : 1);
  kernel<<<blocks_for(items), kernels::map_threads, 0, stream>>>(
      static_cast<std::uint32_t>(extent.rows), static_cast<std::uint32_t>(extent.cols),
      rotary_heads, rotary_positions, buffers.get<const bf16>(0), buffers.get<const float>(1),
      buffers.get<const float>(2), buffers.get<bf16>(3));
  CUDA_CHECK(cudaGetLastError());
}

std::vector<Expected> rotary_reference(const Inspector& inspector, Extent extent) {
  Expected expected(3);
  const std::int64_t half = extent.cols / 2;
  for (const std::int64_t row : sampled_rows(extent.rows)) {
    const std::int64_t position = row / rotary_heads % rotary_positions;
    const auto x = inspector.read(0, row * extent.cols, extent.cols);
    const auto cosine = inspector.read(1, position * half, half);
    const auto sine = inspector.read(2, position * half, half);
    for (std::int64_t c = 0; c < half; ++c) {
      const auto i = static_cast<std::size_t>(c);
      const auto j = static_cast<std::size_t>(c + half);
      expected.add(row * extent.cols + c, x[i] * cosine[i] - x[j] * sine[i]);
      expected.add(row * extent.cols + c + half, x[j] * cosine[i] + x[i] * sine[i]);
    }
  }
  return {expected};
}

} // namespace

const KernelTable& map_kernels() {
  using Copy = Map<kernels::Identity, bf16, bf16>;
  using Scale = Map<kernels::Halve, bf16, bf16>;
  using CastUp = Map<kernels::Identity, float, bf16>;
  using CastDown = Map<kernels::Identity, bf16, float>;
  using ResidualAdd = Map<kernels::Add, bf16, bf16, bf16>;
  using Gelu = Map<kernels::Gelu, bf16, bf16>;
  using GeluBackward = Map<kernels::GeluBackward, bf16, bf16, bf16>;
  static const KernelTable table{
      {"copy", {&Copy::operands, &Copy::launch, &Copy::reference<identity>}},
      {"cast_up", {&CastUp::operands, &CastUp::launch, &CastUp::reference<identity>}},
      {"cast_down", {&CastDown::operands, &CastDown::launch, &CastDown::reference<identity>}},
      {"residual_add",
       {&ResidualAdd::operands, &ResidualAdd::launch, &ResidualAdd::reference<sum>}},
      {"gelu", {&Gelu::operands, &Gelu::launch, &Gelu::reference<gelu>}},
      {"gelu_backward",
       {&GeluBackward::operands, &GeluBackward::launch, &GeluBackward::reference<gelu_backward>}},
      {"add_fp32", {&add_fp32_operands, &launch_add_fp32, &add_fp32_reference}},
      {"silu_mul",
       {&silu_mul_operands<false>, &launch_silu_mul<false>, &silu_mul_reference<false>}},
      {"silu_mul_probs",
       {&silu_mul_operands<true>, &launch_silu_mul<true>, &silu_mul_reference<true>}},
      {"silu_mul_probs_backward",
       {&silu_mul_probs_backward_operands, &launch_silu_mul_probs_backward,
        &silu_mul_probs_backward_reference}},
      {"scale", {&Scale::operands, &Scale::launch, &Scale::reference<half>}},
      {"scale_fp32", {&scale_fp32_operands, &launch_scale_fp32, &scale_fp32_reference}},
      {"zero", {&zero_operands, &launch_zero, &zero_reference}},
      {"silu_mul_backward",
       {&silu_mul_backward_operands, &launch_silu_mul_backward, &silu_mul_backward_reference}},
      {"rotary", {&rotary_operands, &launch_rotary, &rotary_reference}},
  };
  return table;
}

} // namespace predictor
