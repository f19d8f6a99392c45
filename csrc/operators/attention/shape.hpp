// Shape and operands of an attention call, shared by its plan, its workload and its reference.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace predictor {

struct AttentionShape {
  std::int64_t batch, heads, groups, sequence, key_dim, value_dim, window;
  bool causal, bias, backward;

  [[nodiscard]] std::int64_t tokens() const { return batch * sequence; }
  [[nodiscard]] double scale() const { return 1.0 / std::sqrt(static_cast<double>(key_dim)); }
};

// Operands in this order.
enum AttentionTensor : std::size_t {
  t_q,
  t_k,
  t_v,
  t_bias,
  t_o,
  t_stats,
  t_do,
  t_dq,
  t_dk,
  t_dv,
  t_work
};

} // namespace predictor
