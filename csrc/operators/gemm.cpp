// GEMM through cuBLAS and cuBLASLt, the entry points that frameworks call.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/gemm/libraries.hpp"
#include "operators/gemm/shape.hpp"
#include "operators/registry.hpp"

#include <algorithm>
#include <limits>

namespace predictor {
namespace {

constexpr int max_candidates = 8;
constexpr std::size_t launches_a_turn = 8; // to time a candidate
constexpr double timeout_seconds = 20.0;

template <typename T>
using Handle = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;

enum Operands : std::size_t { o_a, o_b, o_d, o_bias };

cudaDataType_t cuda_type(DataType type) {
  switch (type) {
  case DataType::fp16:
    return CUDA_R_16F;
  case DataType::fp32:
    return CUDA_R_32F;
  default:
    return CUDA_R_16BF;
  }
}

class GemmWorkload : public CudaWorkload {
protected:
  GemmWorkload(CudaDevice& device, const Request& request, const GemmFields& fields)
      : CudaWorkload(device, request), fields_(fields), product_(product_of(fields)),
        libraries_(gemm_libraries_of(device)) {
    const std::int64_t reduced = product_.reduced;
    std::vector<Operand> operands{input("a", product_.rows * reduced),
                                  input("b", product_.cols * reduced),
                                  {.name = "d",
                                   .type = output_type(),
                                   .elements = product_.rows * product_.cols,
                                   .role = fields.accumulate ? Role::state : Role::output}};
    if (fields.bias) {
      operands.push_back(input("bias", fields.n));
    }
    place(std::move(operands), request);
  }

  [[nodiscard]] DataType output_type() const {
    return fields_.accumulate ? DataType::fp32 : fields_.type;
  }
  [[nodiscard]] const float* beta() const { return fields_.accumulate ? &one : &zero; }

  std::vector<Expected> reference(const Inspector& inspector) override;

  static constexpr float one = 1.0f;
  static constexpr float zero = 0.0f;

  GemmFields fields_;
  GemmProduct product_;
  GemmLibraries& libraries_;

private:
  // The input arena holds bf16; other types are converted into buffers of their own.
  [[nodiscard]] Operand input(const char* name, std::int64_t elements) const {
    return {.name = name,
            .type = fields_.type,
            .elements = elements,
            .role = fields_.type == DataType::bf16 ? Role::input : Role::prepared};
  }
};

std::vector<std::int64_t> spread(std::int64_t extent, std::int64_t count) {
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < std::min(extent, count); ++i) {
    const std::int64_t last = std::max<std::int64_t>(std::min(extent, count) - 1, 1);
    chosen.push_back(i * (extent - 1) / last);
  }
  return chosen;
}

// Rows and columns spread over the product, first and last included.
std::vector<Expected> GemmWorkload::reference(const Inspector& inspector) {
  const GemmProduct& p = product_;
  const bool a_by_rows = p.transpose_a == CUBLAS_OP_T; // a row of op(A) is contiguous
  const bool b_by_cols = p.transpose_b == CUBLAS_OP_N;
  std::vector<std::pair<std::int64_t, std::vector<double>>> columns;
  for (const std::int64_t col : spread(p.cols, 24)) {
    columns.emplace_back(col, b_by_cols ? inspector.read(o_b, col * p.ldb, p.reduced)
                                        : inspector.read(o_b, col, p.reduced, p.ldb));
  }
  Expected expected(o_d);
  for (const std::int64_t row : spread(p.rows, 24)) {
    const auto a = a_by_rows ? inspector.read(o_a, row * p.lda, p.reduced)
                             : inspector.read(o_a, row, p.reduced, p.lda);
    const double bias = fields_.bias ? inspector.read(o_bias, row, 1)[0] : 0.0;
    for (const auto& [col, b] : columns) {
      const std::int64_t index = col * p.ldd + row;
      double sum = bias + (fields_.accumulate ? inspector.read(o_d, index, 1)[0] : 0.0);
      for (std::size_t i = 0; i < a.size(); ++i) {
        sum += a[i] * b[i];
      }
      expected.add(index, sum);
    }
  }
  return {expected};
}

class CublasWorkload final : public GemmWorkload {
public:
  CublasWorkload(CudaDevice& device, const Request& request, const GemmFields& fields)
      : GemmWorkload(device, request, fields), blas_(libraries_.open_blas()) {
    if (fields.bias) {
      throw Unsupported("gemm: cuBLAS has no bias epilogue; use api 'cublaslt'");
    }
    if (fields.best) {
      throw Unsupported("gemm: cuBLAS has no choice of algorithm; use api 'cublaslt'");
    }
  }

private:
  void launch(const Buffers& buffers) override {
    const GemmProduct& p = product_;
    const cudaDataType_t type = cuda_type(fields_.type);
    CUBLAS_CHECK(blas_.gemm_ex(
        libraries_.blas_handle, p.transpose_a, p.transpose_b, static_cast<int>(p.rows),
        static_cast<int>(p.cols), static_cast<int>(p.reduced), &one, buffers.get(o_a), type,
        static_cast<int>(p.lda), buffers.get(o_b), type, static_cast<int>(p.ldb), beta(),
        buffers.get(o_d), cuda_type(output_type()), static_cast<int>(p.ldd), CUBLAS_COMPUTE_32F,
        CUBLAS_GEMM_DEFAULT));
  }

  const Cublas& blas_;
};

class CublasLtWorkload final : public GemmWorkload {
public:
  CublasLtWorkload(CudaDevice& device, const Request& request, const GemmFields& fields)
      : GemmWorkload(device, request, fields), lt_(libraries_.open_lt()),
        operation_(nullptr, lt_.desc_destroy), a_(nullptr, lt_.layout_destroy),
        b_(nullptr, lt_.layout_destroy), d_(nullptr, lt_.layout_destroy) {
    describe_operation();
    const GemmProduct& p = product_;
    const bool a_transposed = p.transpose_a == CUBLAS_OP_T;
    const bool b_transposed = p.transpose_b == CUBLAS_OP_T;
    a_.reset(layout(fields_.type, a_transposed ? p.reduced : p.rows,
                    a_transposed ? p.rows : p.reduced, p.lda));
    b_.reset(layout(fields_.type, b_transposed ? p.cols : p.reduced,
                    b_transposed ? p.reduced : p.cols, p.ldb));
    d_.reset(layout(output_type(), p.rows, p.cols, p.ldd));
    choose_algorithm();
  }

private:
  void launch(const Buffers& buffers) override { launch_with(algorithm_, buffers); }

  void launch_with(const cublasLtMatmulAlgo_t& algorithm, const Buffers& buffers) const {
    if (fields_.bias) {
      const void* bias = buffers.get(o_bias);
      set_operation(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    void* d = buffers.get(o_d);
    CUBLAS_CHECK(lt_.matmul(libraries_.lt_handle, operation_.get(), &one, buffers.get(o_a),
                            a_.get(), buffers.get(o_b), b_.get(), beta(), d, d_.get(), d, d_.get(),
                            &algorithm, libraries_.workspace.get(), gemm_workspace_bytes,
                            device().stream()));
  }

  template <typename T>
  void set_operation(cublasLtMatmulDescAttributes_t attribute, const T& value) const {
    CUBLAS_CHECK(lt_.desc_set(operation_.get(), attribute, &value, sizeof(value)));
  }

  void describe_operation() {
    cublasLtMatmulDesc_t operation = nullptr;
    CUBLAS_CHECK(lt_.desc_create(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    operation_.reset(operation);
    set_operation(CUBLASLT_MATMUL_DESC_TRANSA, product_.transpose_a);
    set_operation(CUBLASLT_MATMUL_DESC_TRANSB, product_.transpose_b);
    if (fields_.bias) {
      set_operation(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      const void* bias = buffers(0).get(o_bias);
      set_operation(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      set_operation(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, cuda_type(fields_.type));
    }
  }

  [[nodiscard]] cublasLtMatrixLayout_t layout(DataType type, std::int64_t rows, std::int64_t cols,
                                              std::int64_t stride) const {
    cublasLtMatrixLayout_t made = nullptr;
    CUBLAS_CHECK(lt_.layout_create(&made, cuda_type(type), static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(cols), stride));
    return made;
  }

  void choose_algorithm() {
    cublasLtMatmulPreference_t made = nullptr;
    CUBLAS_CHECK(lt_.preference_create(&made));
    const Handle<cublasLtMatmulPreference_t> preference(made, lt_.preference_destroy);
    const std::size_t limit = gemm_workspace_bytes;
    CUBLAS_CHECK(
        lt_.preference_set(made, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &limit, sizeof(limit)));
    std::vector<cublasLtMatmulHeuristicResult_t> found(
        static_cast<std::size_t>(fields_.best ? max_candidates : 1));
    int count = 0;
    CUBLAS_CHECK(lt_.heuristic(libraries_.lt_handle, operation_.get(), a_.get(), b_.get(), d_.get(),
                               d_.get(), made, static_cast<int>(found.size()), found.data(),
                               &count));
    found.resize(static_cast<std::size_t>(count));
    std::erase_if(found, [](const auto& each) { return each.state != CUBLAS_STATUS_SUCCESS; });
    if (found.empty()) {
      throw Unsupported(text("gemm: cuBLASLt has no algorithm for ", description));
    }
    algorithm_ = found.front().algo;
    if (found.size() > 1) {
      algorithm_ = fastest(found);
    }
  }

  // The best of two short turns each, interleaved so that a drifting clock favours none.
  [[nodiscard]] cublasLtMatmulAlgo_t
  fastest(const std::vector<cublasLtMatmulHeuristicResult_t>& candidates) {
    begin_round();
    for (const auto& candidate : candidates) { // loads the kernels: none may load behind a gate
      launch_with(candidate.algo, buffers(0));
    }
    device().wait(timeout_seconds);
    std::vector<double> best(candidates.size(), std::numeric_limits<double>::infinity());
    for (int turn = 0; turn < 2; ++turn) {
      for (std::size_t i = 0; i < candidates.size(); ++i) {
        best[i] = std::min(best[i], seconds_of(candidates[i].algo));
      }
    }
    const auto winner = std::min_element(best.begin(), best.end()) - best.begin();
    return candidates[static_cast<std::size_t>(winner)].algo;
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
  Handle<cublasLtMatmulDesc_t> operation_;
  Handle<cublasLtMatrixLayout_t> a_;
  Handle<cublasLtMatrixLayout_t> b_;
  Handle<cublasLtMatrixLayout_t> d_;
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
