// What the ways of running a grouped GEMM have in common: operands and the reference.
#pragma once

#include "cuda/workload.hpp"
#include "operators/grouped_gemm/shape.hpp"

#include <memory>
#include <vector>

namespace predictor {

enum GroupedOperands : std::size_t { g_a, g_b, g_d, g_scale_a, g_scale_b, g_workspace };

class GroupedWorkload : public CudaWorkload {
protected:
  GroupedWorkload(CudaDevice& device, const Request& request, GroupedFields fields);

  // Places the operands; once, by the constructor of the way.
  void place_operands(const Request& request, std::int64_t workspace_bytes);

  std::vector<Expected> reference(const Inspector& inspector) override;

  // An address in one of the first three operands.
  [[nodiscard]] std::byte* address(const Buffers& buffers, GroupedOperands operand,
                                   std::int64_t element) const;

  GroupedFields fields_;
  GemmTypes types_;
  std::vector<ExpertProduct> products_;
};

// Each raises Unsupported with the library's reason.
[[nodiscard]] std::unique_ptr<Workload> prepare_looped(CudaDevice& device, const Request& request,
                                                       const GroupedFields& fields,
                                                       bool multi_stream);
[[nodiscard]] std::unique_ptr<Workload>
prepare_cublas_grouped(CudaDevice& device, const Request& request, const GroupedFields& fields);
[[nodiscard]] std::unique_ptr<Workload>
prepare_cudnn_moe(CudaDevice& device, const Request& request, const GroupedFields& fields);

} // namespace predictor
