// GEMM through cuBLAS and cuBLASLt, the entry points that frameworks call.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/gemm/libraries.hpp"
#include "operators/gemm/lt_product.hpp"
#include "operators/gemm/reference.hpp"
#include "operators/gemm/shape.hpp"
#include "operators/registry.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace predictor {
namespace {

constexpr int max_candidates = 8;
constexpr std::size_t launches_a_turn = 8; // to time a candidate
constexpr double timeout_seconds = 20.0;
constexpr std::int64_t checked_across = 24;

enum Operands : std::size_t { o_a, o_b, o_d, o_scale_a, o_scale_b, o_bias, o_gelu_argument };

double gelu(double x) { // the tanh form, which the libraries' epilogues compute
  const double inner = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(inner));
}

class GemmWorkload : public CudaWorkload {
protected:
  GemmWorkload(CudaDevice& device, const Request& request, const GemmFields& fields)
      : CudaWorkload(device, request), fields_(fields),
        product_(product_of(fields.kind, fields.format, fields.m, fields.n, fields.k)),
        types_(gemm_types(fields.format, fields.kind, fields.accumulate)),
        libraries_(gemm_libraries_of(device)) {
    const std::int64_t out = product_.rows * product_.cols;
    const Role written = fields.accumulate ? Role::state : Role::output;
    Operand bias = gemm_input("bias", types_.d, fields.bias ? fields.n : 0);
    place({gemm_input("a", types_.a, product_.rows * product_.reduced, fields.fill),
           gemm_input("b", types_.b, product_.cols * product_.reduced, fields.fill),
           {.name = "d", .type = types_.d, .elements = out, .role = written},
           gemm_scale_operand("scale_a", types_.a),
           gemm_scale_operand("scale_b", types_.b),
           std::move(bias),
           {.name = "gelu_argument",
            .type = types_.d,
            .elements = fields.gelu ? out : 0,
            .role = Role::output}},
          request);
  }

  std::vector<Expected> reference(const Inspector& inspector) override;

  GemmFields fields_;
  GemmProduct product_;
  GemmTypes types_;
  GemmLibraries& libraries_;
};

std::vector<Expected> GemmWorkload::reference(const Inspector& inspector) {
  const auto elements = sampled_product(inspector, product_, {.a = o_a, .b = o_b}, checked_across);
  std::vector<std::int64_t> rows, indices;
  for (const ProductElement& element : elements) {
    rows.push_back(element.row);
    indices.push_back(element.index);
  }
  const std::vector<double> none(elements.size(), 0.0);
  const auto bias = fields_.bias ? inspector.read(o_bias, rows) : none;
  const auto before = fields_.accumulate ? inspector.read(o_d, indices) : none;
  const double scale = gemm_scale(types_.a) * gemm_scale(types_.b);
  Expected d(o_d), argument(o_gelu_argument);
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const double sum = scale * elements[i].value + bias[i] + before[i];
    d.add(indices[i], fields_.gelu ? gelu(sum) : sum);
    argument.add(indices[i], sum);
  }
  std::vector<Expected> expected{std::move(d)};
  if (fields_.gelu) {
    expected.push_back(std::move(argument));
  }
  return expected;
}

class CublasWorkload final : public GemmWorkload {
public:
  CublasWorkload(CudaDevice& device, const Request& request, const GemmFields& fields)
      : GemmWorkload(device, request, fields), blas_(libraries_.open_blas()) {
    if (fields.bias || fields.gelu) {
      throw Unsupported("gemm: cuBLAS has no epilogues; use api 'cublaslt'");
    }
    if (fields.best) {
      throw Unsupported("gemm: cuBLAS has no choice of algorithm; use api 'cublaslt'");
    }
    if (fields.format == GemmFormat::fp8) {
      throw Unsupported("gemm: cuBLAS takes no scales; use api 'cublaslt' for fp8");
    }
  }

private:
  void launch(const Buffers& buffers) override {
    const GemmProduct& p = product_;
    const float one = 1.0f;
    const float beta = fields_.accumulate ? 1.0f : 0.0f;
    CUBLAS_CHECK(blas_.gemm_ex(
        libraries_.blas_handle, p.transpose_a, p.transpose_b, static_cast<int>(p.rows),
        static_cast<int>(p.cols), static_cast<int>(p.reduced), &one, buffers.get(o_a),
        cuda_type(types_.a), static_cast<int>(p.lda), buffers.get(o_b), cuda_type(types_.b),
        static_cast<int>(p.ldb), &beta, buffers.get(o_d), cuda_type(types_.d),
        static_cast<int>(p.ldd), types_.compute, CUBLAS_GEMM_DEFAULT));
  }

  const Cublas& blas_;
};

class CublasLtWorkload final : public GemmWorkload {
public:
  CublasLtWorkload(CudaDevice& device, const Request& request, const GemmFields& fields)
      : GemmWorkload(device, request, fields), lt_(libraries_.open_lt()),
        product_through_lt_(lt_, libraries_.lt_handle, product_, types_,
                            {.kind = fields.kind, .accumulate = fields.accumulate},
                            addresses(buffers(0))) {
    const auto found =
        product_through_lt_.algorithms(fields.best ? max_candidates : 1, gemm_workspace_bytes);
    algorithm_ = found.size() > 1 ? fastest(found) : found.front();
  }

private:
  void launch(const Buffers& buffers) override { launch_with(algorithm_, buffers); }

  void launch_with(const cublasLtMatmulAlgo_t& algorithm, const Buffers& buffers) const {
    product_through_lt_.enqueue(addresses(buffers), algorithm,
                                {libraries_.workspace.get(), gemm_workspace_bytes},
                                device().stream());
  }

  [[nodiscard]] LtAddresses addresses(const Buffers& buffers) const {
    const bool scaled = fields_.format == GemmFormat::fp8;
    return {.a = buffers.get(o_a),
            .b = buffers.get(o_b),
            .d = buffers.get(o_d),
            .bias = fields_.bias ? buffers.get(o_bias) : nullptr,
            .gelu_argument = fields_.gelu ? buffers.get(o_gelu_argument) : nullptr,
            .scale_a = scaled ? buffers.get(o_scale_a) : nullptr,
            .scale_b = scaled ? buffers.get(o_scale_b) : nullptr};
  }

  // The best of two short turns each, interleaved so that a drifting clock favours none.
  [[nodiscard]] cublasLtMatmulAlgo_t fastest(const std::vector<cublasLtMatmulAlgo_t>& candidates) {
    begin_round();
    for (const auto& candidate : candidates) { // loads the kernels: none may load behind a gate
      launch_with(candidate, buffers(0));
    }
    device().wait(timeout_seconds);
    std::vector<double> best(candidates.size(), std::numeric_limits<double>::infinity());
    for (int turn = 0; turn < 2; ++turn) {
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        best[i] = std::min(best[i], seconds_of(candidates[i]));
      }
    }
    const auto winner = std::min_element(best.begin(), best.end()) - best.begin();
    return candidates[static_cast<std::size_t>(winner)];
  }

  [[nodiscard]] double seconds_of(const cublasLtMatmulAlgo_t& algorithm) {
    {
      const Gate gate(device());
      device().record(0);
      for (std::size_t i = 0; i < launches_a_turn; ++i) {
        launch_with(algorithm, buffers(i % buffer_sets));
      }
      device().record(1);
    }
    device().wait(timeout_seconds);
    return device().elapsed_seconds(0, 1);
  }

  const CublasLt& lt_;
  LtProduct product_through_lt_;
  cublasLtMatmulAlgo_t algorithm_{};
};

} // namespace

std::unique_ptr<Workload> prepare_gemm(CudaDevice& device, const Request& request) {
  const GemmFields fields = read_gemm_fields(request.fields);
  const std::string& api = request.fields.text("api");
  if (api == "cublas") {
    return std::make_unique<CublasWorkload>(device, request, fields);
  }
  if (api == "cublaslt") {
    return std::make_unique<CublasLtWorkload>(device, request, fields);
  }
  throw Unsupported(text("gemm: api '", api, "' is neither cublas nor cublaslt"));
}

} // namespace predictor
