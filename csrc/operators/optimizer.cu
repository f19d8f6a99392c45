// The optimizer step: fused AdamW over one flat buffer, as distributed optimizers keep it, or over
// a list of tensors, which takes as many launches as the list has parts.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/adamw.cuh"
#include "operators/registry.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace predictor {
namespace {

using kernels::bf16;

enum Operands : std::size_t { o_p, o_m, o_v, o_g, o_copy };

struct ListPart {
  kernels::TensorList list;
  unsigned blocks;
};

// Tensors of equal size, of which each begins at a multiple of 64 elements, cut into chunks.
std::vector<ListPart> list_of(std::int64_t elements, std::int64_t tensors) {
  const std::int64_t each = (elements + tensors - 1) / tensors;
  const std::int64_t size = (each + 63) / 64 * 64;
  std::vector<ListPart> parts;
  int used = kernels::list_tensors; // of the last part; full, so that the first tensor opens one
  for (std::int64_t begin = 0; begin < elements; begin += size) {
    const std::int64_t end = std::min(begin + size, elements);
    const std::int64_t chunks =
        (end - begin + kernels::chunk_elements - 1) / kernels::chunk_elements;
    bool listed = false; // in the last part
    for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
      if ((!listed && used == kernels::list_tensors) ||
          parts.back().blocks == kernels::list_chunks) {
        parts.push_back({});
        used = 0;
        listed = false;
      }
      ListPart& part = parts.back();
      if (!listed) {
        part.list.begin[used] = begin;
        part.list.end[used] = end;
        ++used;
        listed = true;
      }
      part.list.tensor[part.blocks] = static_cast<unsigned char>(used - 1);
      part.list.chunk[part.blocks] = static_cast<int>(chunk);
      ++part.blocks;
    }
  }
  return parts;
}

constexpr std::int64_t sampled_elements = 4096; // of each window that is checked

class AdamWWorkload final : public CudaWorkload {
public:
  AdamWWorkload(CudaDevice& device, const Request& request, DataType type, bool copied)
      : CudaWorkload(device, request), elements_(request.fields.positive("elements")), type_(type),
        copied_(copied) {
    if (const std::int64_t tensors = request.fields.positive("tensors"); tensors > 1) {
      parts_ = list_of(elements_, tensors);
    }
    const auto state = [&](const char* name, DataType of, Fill fill) {
      return Operand{
          .name = name, .type = of, .elements = elements_, .role = Role::state, .fill = fill};
    };
    std::vector<Operand> operands{state("p", copied ? DataType::fp32 : type, Fill::normal()),
                                  state("m", type, Fill::normal()),
                                  state("v", type, Fill::uniform(0.0, 1.0)),
                                  {.name = "g", .type = type, .elements = elements_}};
    if (copied) {
      operands.push_back({.name = "copy", .elements = elements_, .role = Role::output});
    }
    place(std::move(operands), request);
  }

private:
  void launch(const Buffers& buffers) override {
    const bool narrow = type_ == DataType::bf16;
    if (copied_) {
      narrow ? launch_as<true, float, bf16>(buffers) : launch_as<true, float, float>(buffers);
    } else {
      narrow ? launch_as<false, bf16, bf16>(buffers) : launch_as<false, float, float>(buffers);
    }
  }

  template <bool copied, typename Param, typename State>
  void launch_as(const Buffers& buffers) const {
    const kernels::AdamWArrays<Param, State> arrays{.p = buffers.get<Param>(o_p),
                                                    .m = buffers.get<State>(o_m),
                                                    .v = buffers.get<State>(o_v),
                                                    .g = buffers.get<const State>(o_g),
                                                    .copy = copied ? buffers.get<bf16>(o_copy)
                                                                   : nullptr};
    const cudaStream_t stream = device().stream();
    for (const ListPart& part : parts_) {
      kernels::adamw_list_kernel<copied>
          <<<part.blocks, kernels::adamw_threads, 0, stream>>>(part.list, kernels::AdamW{}, arrays);
    }
    if (parts_.empty()) {
      constexpr std::int64_t per_block = kernels::adamw_threads * kernels::pack;
      const auto blocks = static_cast<unsigned>((elements_ + per_block - 1) / per_block);
      kernels::adamw_kernel<copied>
          <<<blocks, kernels::adamw_threads, 0, stream>>>(elements_, kernels::AdamW{}, arrays);
    }
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
  std::vector<ListPart> parts_; // empty: one flat buffer
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
  if (dtype != "fp32" && dtype != "bf16") {
    throw Unsupported(text("optimizer: dtype '", dtype, "' is neither bf16 nor fp32"));
  }
  return std::make_unique<AdamWWorkload>(
      device, request, dtype == "bf16" ? DataType::bf16 : DataType::fp32, kernel == "adamw_master");
}

} // namespace predictor
