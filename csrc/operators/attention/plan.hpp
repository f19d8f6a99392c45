// cuDNN's plan for one attention call, apart from everything else: the file behind it includes
// cudnn-frontend, which takes longer to compile than the rest of the project.
#pragma once

#include "cuda/workload.hpp"
#include "operators/attention/shape.hpp"

#include <memory>
#include <string>

struct cudnnContext;

namespace predictor {

// cuDNN opened, with a handle on the device's stream. Raises LibraryMissing.
[[nodiscard]] AttentionLibrary& attention_library_of(CudaDevice& device);
[[nodiscard]] LibraryInfo describe(const AttentionLibrary& library);
// The handle, for what else runs through cuDNN.
[[nodiscard]] cudnnContext* cudnn_handle_of(const AttentionLibrary& library);

class AttentionPlan {
public:
  // Builds the plan, which takes some 0.1 s. Raises Unsupported with cuDNN's reason.
  AttentionPlan(AttentionLibrary& library, const AttentionShape& shape, std::string description);
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

} // namespace predictor
