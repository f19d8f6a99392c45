// Shape and operands of an attention call, shared by its plan, its workload and its reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace predictor {

struct AttentionShape {
  std::int64_t batch, heads, groups;
  std::int64_t queries, keys; // tokens a sequence; the queries are the last ones
  std::int64_t key_dim, value_dim, window;
  std::vector<std::int64_t> documents; // their lengths in each sequence; empty is one document
  bool causal, bias, backward;

  [[nodiscard]] auto operator<=>(const AttentionShape&) const = default;

  [[nodiscard]] bool packed() const { return !documents.empty(); }
  // Sequences and their longest lengths as the library sees them: documents, where there are any.
  [[nodiscard]] std::int64_t sequences() const {
    return packed() ? batch * static_cast<std::int64_t>(documents.size()) : batch;
  }
  [[nodiscard]] std::int64_t longest_queries() const { return longest(queries); }
  [[nodiscard]] std::int64_t longest_keys() const { return longest(keys); }
  // Softmax statistics [sequences, heads, longest queries], padded.
  [[nodiscard]] std::int64_t statistics() const { return sequences() * heads * longest_queries(); }
  [[nodiscard]] double scale() const { return 1.0 / std::sqrt(static_cast<double>(key_dim)); }
  [[nodiscard]] std::int64_t longest(std::int64_t whole) const {
    return packed() ? *std::max_element(documents.begin(), documents.end()) : whole;
  }
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
