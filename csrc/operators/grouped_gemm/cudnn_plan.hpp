// cuDNN's plan for a grouped GEMM; the file behind it includes cudnn-frontend, so this header holds
// plain types only.
#pragma once

#include "operators/attention/plan.hpp"

#include <cstdint>
#include <memory>
#include <string>

namespace predictor {

// Of the product that cuDNN is asked for: rows[tokens, reduced] · weights[experts] → [tokens, out],
// or, of wgrad, the gradient of weights [experts, n, k].
struct MoeShape {
  enum class Kind { forward, dgrad, wgrad };

  std::int64_t tokens, experts, n, k;
  Kind kind;
  bool fp16;
};

struct MoeAddresses {
  void* x_or_dx;    // [tokens, k]
  void* w_or_dw;    // [experts, n, k]
  void* y_or_dy;    // [tokens, n]
  void* first_rows; // int32 [experts]
  void* workspace;
};

class MoePlan {
public:
  // Raises Unsupported with cuDNN's reason.
  MoePlan(AttentionLibrary& library, const MoeShape& shape, std::string description);
  ~MoePlan();
  MoePlan(const MoePlan&) = delete;
  MoePlan& operator=(const MoePlan&) = delete;

  [[nodiscard]] std::int64_t workspace_bytes() const;
  void execute(const MoeAddresses& addresses);

private:
  class Graph;
  std::unique_ptr<Graph> graph_;
};

} // namespace predictor
