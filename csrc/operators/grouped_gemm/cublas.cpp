// Grouped GEMM through cuBLASLt, a product an expert, and through cuBLAS in one call.
#include "errors.hpp"
#include "operators/gemm/libraries.hpp"
#include "operators/gemm/lt_product.hpp"
#include "operators/grouped_gemm/workload.hpp"

#include <algorithm>
#include <map>

namespace predictor {
namespace {

constexpr double timeout_seconds = 20.0;

// Experts one after the other on one stream, or in turn on four.
class LoopedWorkload final : public GroupedWorkload {
public:
  LoopedWorkload(CudaDevice& device, const Request& request, const GroupedFields& fields,
                 bool multi_stream)
      : GroupedWorkload(device, request, fields), libraries_(gemm_libraries_of(device)),
        side_(multi_stream ? &libraries_.open_side_streams() : nullptr) {
    const CublasLt& lt = libraries_.open_lt();
    place_operands(request, 0);
    const LtOptions options{
        .kind = fields.kind, .accumulate = fields.accumulate, .alignment = alignment()};
    const Buffers first = buffers(0);
    for (const ExpertProduct& expert : products_) {
      const std::int64_t count = rows_of(expert);
      if (plans_.contains(count)) {
        continue;
      }
      LtProduct product(lt, libraries_.lt_handle, expert.product, types_, options,
                        addresses(first, expert));
      const cublasLtMatmulAlgo_t algorithm = product.algorithms(1, gemm_workspace_bytes).front();
      plans_.emplace(count, Plan{std::move(product), algorithm});
    }
  }

private:
  struct Plan {
    LtProduct product;
    cublasLtMatmulAlgo_t algorithm;
  };

  void launch(const Buffers& buffers) override {
    if (side_ == nullptr) {
      for (const ExpertProduct& expert : products_) {
        enqueue(expert, buffers, {libraries_.workspace.get(), gemm_workspace_bytes},
                device().stream());
      }
      return;
    }
    side_->fork(device().stream());
    for (std::size_t i = 0; i < products_.size(); ++i) {
      const std::size_t lane = i % SideStreams::count;
      enqueue(products_[i], buffers, {side_->workspaces[lane].get(), gemm_workspace_bytes},
              side_->streams[lane].get());
    }
    side_->join(device().stream());
  }

  void enqueue(const ExpertProduct& expert, const Buffers& buffers, const LtWorkspace& workspace,
               cudaStream_t stream) const {
    const Plan& plan = plans_.at(rows_of(expert));
    plan.product.enqueue(addresses(buffers, expert), plan.algorithm, workspace, stream);
  }

  [[nodiscard]] LtAddresses addresses(const Buffers& buffers, const ExpertProduct& expert) const {
    const bool scaled = fields_.format == GemmFormat::fp8;
    return {.a = address(buffers, g_a, expert.a_start),
            .b = address(buffers, g_b, expert.b_start),
            .d = address(buffers, g_d, expert.d_start),
            .scale_a = scaled ? buffers.get(g_scale_a) : nullptr,
            .scale_b = scaled ? buffers.get(g_scale_b) : nullptr};
  }

  // Only the number of rows differs between experts.
  [[nodiscard]] std::int64_t rows_of(const ExpertProduct& expert) const {
    return fields_.kind == GemmKind::wgrad ? expert.product.reduced : expert.product.cols;
  }

  // The largest power of two, at most 256, that divides all distances from an operand's start.
  [[nodiscard]] std::uint32_t alignment() const {
    std::int64_t bits = 256;
    for (const ExpertProduct& expert : products_) {
      bits |= expert.a_start * static_cast<std::int64_t>(size_of(types_.a));
      bits |= expert.b_start * static_cast<std::int64_t>(size_of(types_.b));
      bits |= expert.d_start * static_cast<std::int64_t>(size_of(types_.d));
    }
    return static_cast<std::uint32_t>(bits & -bits);
  }

  GemmLibraries& libraries_;
  SideStreams* side_;
  std::map<std::int64_t, Plan> plans_; // by rows
};

// cublasGemmGroupedBatchedEx: each expert a group of one.
class CublasGroupedWorkload final : public GroupedWorkload {
public:
  CublasGroupedWorkload(CudaDevice& device, const Request& request, const GroupedFields& fields)
      : GroupedWorkload(device, request, fields), libraries_(gemm_libraries_of(device)),
        blas_(libraries_.open_blas()) {
    if (blas_.gemm_grouped_batched_ex == nullptr) {
      throw Unsupported("grouped_gemm: this cuBLAS has no cublasGemmGroupedBatchedEx (12.5 has)");
    }
    if (fields.format == GemmFormat::fp8 || fields.accumulate) {
      throw Unsupported("grouped_gemm: cublasGemmGroupedBatchedEx takes neither fp8 nor an output "
                        "wider than its inputs");
    }
    for (const ExpertProduct& expert : products_) {
      const GemmProduct& p = expert.product;
      transpose_a_.push_back(p.transpose_a);
      transpose_b_.push_back(p.transpose_b);
      rows_.push_back(static_cast<int>(p.rows));
      cols_.push_back(static_cast<int>(p.cols));
      reduced_.push_back(static_cast<int>(p.reduced));
      lda_.push_back(static_cast<int>(p.lda));
      ldb_.push_back(static_cast<int>(p.ldb));
      ldd_.push_back(static_cast<int>(p.ldd));
    }
    one_.assign(products_.size(), 1.0f);
    zero_.assign(products_.size(), 0.0f);
    group_size_.assign(products_.size(), 1);
    place_operands(request, 0);
  }

  // The call copies its arguments to the device from memory that a replay would find changed.
  [[nodiscard]] bool capturable() const override { return false; }

private:
  void launch(const Buffers& buffers) override {
    const auto set = static_cast<std::size_t>(
        std::find(first_.begin(), first_.end(), buffers.get<std::byte>(g_a)) - first_.begin());
    const auto* table = static_cast<std::byte*>(tables_.get()) + set * set_bytes();
    const auto pointers = [&](std::size_t operand) {
      return reinterpret_cast<void* const*>(table) + operand * products_.size();
    };
    CUBLAS_CHECK(blas_.gemm_grouped_batched_ex(
        libraries_.blas_handle, transpose_a_.data(), transpose_b_.data(), rows_.data(),
        cols_.data(), reduced_.data(), one_.data(), pointers(g_a), cuda_type(types_.a), lda_.data(),
        pointers(g_b), cuda_type(types_.b), ldb_.data(), zero_.data(), pointers(g_d),
        cuda_type(types_.d), ldd_.data(), static_cast<int>(products_.size()), group_size_.data(),
        types_.compute));
  }

  // Writes the addresses of all experts' operands, for each buffer set: A's, B's and D's.
  void placed() override {
    if (!tables_) {
      tables_ = allocate_device_memory(buffer_sets * set_bytes());
    }
    first_.clear();
    std::vector<std::byte*> table;
    for (std::size_t set = 0; set < buffer_sets; ++set) {
      const Buffers where = buffers(set);
      first_.push_back(where.get<std::byte>(g_a));
      for (const ExpertProduct& expert : products_) {
        table.push_back(address(where, g_a, expert.a_start));
      }
      for (const ExpertProduct& expert : products_) {
        table.push_back(address(where, g_b, expert.b_start));
      }
      for (const ExpertProduct& expert : products_) {
        table.push_back(address(where, g_d, expert.d_start));
      }
    }
    CUDA_CHECK(cudaMemcpyAsync(tables_.get(), table.data(), table.size() * sizeof(std::byte*),
                               cudaMemcpyHostToDevice, device().stream()));
    device().wait(timeout_seconds);
  }

  [[nodiscard]] std::size_t set_bytes() const { return 3 * products_.size() * sizeof(std::byte*); }

  GemmLibraries& libraries_;
  const Cublas& blas_;
  std::vector<cublasOperation_t> transpose_a_, transpose_b_;
  std::vector<int> rows_, cols_, reduced_, lda_, ldb_, ldd_, group_size_;
  std::vector<float> one_, zero_;
  std::vector<std::byte*> first_; // address of A in each buffer set
  DeviceMemory tables_;
};

} // namespace

std::unique_ptr<Workload> prepare_looped(CudaDevice& device, const Request& request,
                                         const GroupedFields& fields, bool multi_stream) {
  return std::make_unique<LoopedWorkload>(device, request, fields, multi_stream);
}

std::unique_ptr<Workload> prepare_cublas_grouped(CudaDevice& device, const Request& request,
                                                 const GroupedFields& fields) {
  return std::make_unique<CublasGroupedWorkload>(device, request, fields);
}

} // namespace predictor
