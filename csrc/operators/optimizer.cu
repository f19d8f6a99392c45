// The optimizer step: fused AdamW over one flat buffer, as distributed optimizers keep it. How many
// tensors the buffer holds does not matter to it.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/adamw.cuh"
#include "operators/registry.hpp"

#include <cmath>

namespace predictor {
namespace {

using kernels::bf16;

enum Operands : std::size_t { o_p, o_m, o_v, o_g, o_copy };

constexpr std::int64_t sampled_elements = 4096; // of each window that is checked

class AdamWWorkload final : public CudaWorkload {
public:
  AdamWWorkload(CudaDevice& device, const Request& request, DataType type, bool copied)
      : CudaWorkload(device, request), elements_(request.fields.positive("elements")), type_(type),
        copied_(copied) {
    const auto state = [&](const char* name, Fill fill) {
      return Operand{
          .name = name, .type = type, .elements = elements_, .role = Role::state, .fill = fill};
    };
    std::vector<Operand> operands{state("p", Fill::normal()),
                                  state("m", Fill::normal()),
                                  state("v", Fill::uniform(0.0, 1.0)),
                                  {.name = "g", .type = type, .elements = elements_}};
    if (copied) {
      operands.push_back({.name = "copy", .elements = elements_, .role = Role::output});
    }
    place(std::move(operands), request);
  }

private:
  void launch(const Buffers& buffers) override {
    if (type_ == DataType::bf16) {
      launch_as<bf16, false>(buffers);
    } else if (copied_) {
      launch_as<float, true>(buffers);
    } else {
      launch_as<float, false>(buffers);
    }
  }

  template <typename State, bool copied>
  void launch_as(const Buffers& buffers) const {
    constexpr std::int64_t per_block = kernels::adamw_threads * kernels::pack;
    const auto blocks = static_cast<unsigned>((elements_ + per_block - 1) / per_block);
    kernels::adamw_kernel<State, copied><<<blocks, kernels::adamw_threads, 0, device().stream()>>>(
        elements_, kernels::AdamW{}, buffers.get<State>(o_p), buffers.get<State>(o_m),
        buffers.get<State>(o_v), buffers.get<const State>(o_g),
        copied ? buffers.get<bf16>(o_copy) : nullptr);
    CUDA_CHECK(cudaGetLastError());
  }

  std::vector<Expected> reference(const Inspector& inspector) override {
    std::vector<Expected> expected{Expected(o_p), Expected(o_m), Expected(o_v)};
    if (copied_) {
      expected.push_back(Expected(o_copy));
    }
    const std::int64_t count = std::min(elements_, sampled_elements);
    for (const std::int64_t first : {std::int64_t{0}, elements_ - count}) {
      add_window(inspector, first, count, expected);
    }
    return expected;
  }

  static void add_window(const Inspector& inspector, std::int64_t first, std::int64_t count,
                         std::vector<Expected>& expected) {
    const kernels::AdamW adamw;
    const auto p = inspector.read(o_p, first, count);
    const auto m = inspector.read(o_m, first, count);
    const auto v = inspector.read(o_v, first, count);
    const auto g = inspector.read(o_g, first, count);
    const double beta1 = static_cast<double>(adamw.beta1);
    const double beta2 = static_cast<double>(adamw.beta2);
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double m_new = beta1 * m[i] + (1.0 - beta1) * g[i];
      const double v_new = beta2 * v[i] + (1.0 - beta2) * g[i] * g[i];
      const double update = m_new / static_cast<double>(adamw.correction1) /
                            (std::sqrt(v_new / static_cast<double>(adamw.correction2)) +
                             static_cast<double>(adamw.epsilon));
      const double p_new = p[i] - static_cast<double>(adamw.learning_rate) *
                                      (update + static_cast<double>(adamw.weight_decay) * p[i]);
      const std::int64_t index = first + static_cast<std::int64_t>(i);
      expected[0].add(index, p_new);
      expected[1].add(index, m_new);
      expected[2].add(index, v_new);
      if (expected.size() > 3) {
        expected[3].add(index, p_new);
      }
    }
  }

  std::int64_t elements_;
  DataType type_;
  bool copied_;
};

} // namespace

std::unique_ptr<Workload> prepare_optimizer(CudaDevice& device, const Request& request) {
  const std::string& impl = request.fields.text("impl");
  const std::string& kernel = request.fields.text("kernel");
  const std::string& dtype = request.fields.text("dtype");
  if (impl != "native") {
    throw Unsupported(
        text("optimizer: impl '", impl, "' is not native; launch it through ", "prepare_callable"));
  }
  if (kernel != "adamw" && kernel != "adamw_master") {
    throw Unsupported(text("optimizer: kernel '", kernel, "' is neither adamw nor adamw_master"));
  }
  if (dtype != "fp32" && !(dtype == "bf16" && kernel == "adamw")) {
    throw Unsupported(text("optimizer: dtype '", dtype, "'; adamw has bf16 or fp32 states, ",
                           "adamw_master fp32 ones"));
  }
  return std::make_unique<AdamWWorkload>(
      device, request, dtype == "bf16" ? DataType::bf16 : DataType::fp32, kernel == "adamw_master");
}

} // namespace predictor
