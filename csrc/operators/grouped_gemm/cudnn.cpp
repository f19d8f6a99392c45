// Grouped GEMM through cuDNN's MoE matmul: forward and dgrad from 9.18 on, wgrad from 9.22 on.
#include "errors.hpp"
#include "operators/grouped_gemm/cudnn_plan.hpp"
#include "operators/grouped_gemm/workload.hpp"

#include <cstdint>
#include <vector>

namespace predictor {
namespace {

MoeShape moe_shape(const GroupedFields& fields) {
  const bool half = fields.format == GemmFormat::bf16 || fields.format == GemmFormat::fp16;
  if (!half || fields.accumulate) {
    throw Unsupported("grouped_gemm: cudnn_moe is served for bf16 and fp16, without accumulate");
  }
  const MoeShape::Kind kind = fields.kind == GemmKind::forward ? MoeShape::Kind::forward
                              : fields.kind == GemmKind::dgrad ? MoeShape::Kind::dgrad
                                                               : MoeShape::Kind::wgrad;
  return {.tokens = fields.tokens,
          .experts = fields.experts(),
          .n = fields.n,
          .k = fields.k,
          .kind = kind,
          .fp16 = fields.format == GemmFormat::fp16};
}

class CudnnMoeWorkload final : public GroupedWorkload {
public:
  CudnnMoeWorkload(CudaDevice& device, const Request& request, const GroupedFields& fields)
      : GroupedWorkload(device, request, fields),
        plan_(attention_library_of(device), moe_shape(fields), description) {
    place_operands(request, plan_.workspace_bytes());
    std::vector<std::int32_t> first_rows;
    std::int64_t row = 0;
    for (const std::int64_t count : fields.counts) {
      first_rows.push_back(static_cast<std::int32_t>(row));
      row += count;
    }
    const std::size_t bytes = first_rows.size() * sizeof(std::int32_t);
    first_rows_ = allocate_device_memory(bytes);
    CUDA_CHECK(cudaMemcpy(first_rows_.get(), first_rows.data(), bytes, cudaMemcpyHostToDevice));
  }

private:
  void launch(const Buffers& buffers) override {
    // x, w and y among A, B and D: the pairing of expert_products().
    const GroupedOperands x = fields_.kind == GemmKind::forward ? g_b
                              : fields_.kind == GemmKind::dgrad ? g_d
                                                                : g_a;
    const GroupedOperands w = fields_.kind == GemmKind::wgrad ? g_d : g_a;
    const GroupedOperands y = fields_.kind == GemmKind::forward ? g_d : g_b;
    plan_.execute({.x_or_dx = buffers.get(x),
                   .w_or_dw = buffers.get(w),
                   .y_or_dy = buffers.get(y),
                   .first_rows = first_rows_.get(),
                   .workspace = buffers.get(g_workspace)});
  }

  MoePlan plan_;
  DeviceMemory first_rows_;
};

} // namespace

std::unique_ptr<Workload> prepare_cudnn_moe(CudaDevice& device, const Request& request,
                                            const GroupedFields& fields) {
  return std::make_unique<CudnnMoeWorkload>(device, request, fields);
}

} // namespace predictor
