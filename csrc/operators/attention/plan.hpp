// cuDNN's plan for one attention call, apart from everything else: the file behind it includes
// cudnn-frontend, which takes longer to compile than the rest of the project.
#pragma once

#include "cuda/workload.hpp"
#include "operators/attention/shape.hpp"

#include <memory>
#include <string>
#include <vector>

struct cudnnContext;

namespace predictor {

// cuDNN opened, with a handle on the device's stream. Raises LibraryMissing.
[[nodiscard]] AttentionLibrary& attention_library_of(CudaDevice& device);
[[nodiscard]] LibraryInfo describe(const AttentionLibrary& library);
// The handle, for what else runs through cuDNN.
[[nodiscard]] cudnnContext* cudnn_handle_of(const AttentionLibrary& library);

// A handle of cuDNN's on the device's stream. Two threads must not use one at once.
class CudnnHandle;

class AttentionPlan {
public:
  // Builds the plan, which takes some 0.1 s. Raises Unsupported with cuDNN's reason.
  AttentionPlan(std::shared_ptr<CudnnHandle> handle, const AttentionShape& shape,
                std::string description);
  ~AttentionPlan();
  AttentionPlan(const AttentionPlan&) = delete;
  AttentionPlan& operator=(const AttentionPlan&) = delete;

  [[nodiscard]] std::int64_t workspace_bytes() const;
  // Enqueues the call on the device's stream; buffers in the order of AttentionTensor.
  void execute(const Buffers& buffers);

private:
  class Graph;
  std::unique_ptr<Graph> graph_;
};

// The plan that was built ahead, or a new one. Raises Unsupported with cuDNN's reason.
[[nodiscard]] std::shared_ptr<AttentionPlan> attention_plan(AttentionLibrary& library,
                                                            const AttentionShape& shape,
                                                            const std::string& description);
// Begins to build the plans of these shapes, and what their checks need, beside other work.
void plan_attention_ahead(CudaDevice& device, const std::vector<AttentionShape>& shapes);
// Returns when nothing is being built beside.
void wait_for_attention_plans(AttentionLibrary& library);

} // namespace predictor
