// What cuDNN should have computed, in double, for a few tokens of two heads.
#pragma once

#include "cuda/workload.hpp"
#include "operators/attention/shape.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace predictor {

class AttentionReference {
public:
  AttentionReference(const Inspector& inspector, const AttentionShape& shape)
      : inspector_(inspector), shape_(shape) {}

  // o and the statistics.
  [[nodiscard]] std::vector<Expected> forward() const;
  // dq, dk and dv, given o and the statistics of a forward pass on the device.
  [[nodiscard]] std::vector<Expected> backward() const;

private:
  using Row = std::vector<double>;

  // Rows of equal width, one behind the other.
  struct Matrix {
    std::size_t width;
    std::vector<double> values;

    [[nodiscard]] std::size_t rows() const { return values.size() / width; }
    [[nodiscard]] std::span<const double> row(std::size_t i) const {
      return std::span(values).subspan(i * width, width);
    }
  };

  // One of q, k, …: which tensor, how many heads it has and how wide they are.
  struct Heads {
    AttentionTensor tensor;
    std::int64_t tokens; // a sequence
    std::int64_t count;
    std::int64_t width;
  };

  // Its number in the sequence and its first token; all of a sequence that holds no documents.
  struct Document {
    std::int64_t index;
    std::int64_t first;
  };

  [[nodiscard]] Heads queries(AttentionTensor tensor) const {
    return {tensor, shape_.queries, shape_.heads, shape_.key_dim};
  }
  [[nodiscard]] Heads keys(AttentionTensor tensor) const {
    return {tensor, shape_.keys, shape_.groups, shape_.key_dim};
  }
  [[nodiscard]] Heads values(AttentionTensor tensor) const {
    return {tensor, shape_.keys, shape_.groups, shape_.value_dim};
  }
  [[nodiscard]] Heads outputs(AttentionTensor tensor) const {
    return {tensor, shape_.queries, shape_.heads, shape_.value_dim};
  }

  // Index of the first element of a token's head.
  [[nodiscard]] std::int64_t index(const Heads& heads, std::int64_t batch, std::int64_t token,
                                   std::int64_t head) const;
  [[nodiscard]] Row row(const Heads& heads, std::int64_t batch, std::int64_t token,
                        std::int64_t head) const;
  // All tokens of one head.
  [[nodiscard]] Matrix matrix(const Heads& heads, std::int64_t batch, std::int64_t head) const;

  [[nodiscard]] std::int64_t group_of(std::int64_t head) const {
    return head / (shape_.heads / shape_.groups);
  }
  [[nodiscard]] Document document_of(std::int64_t token) const;
  [[nodiscard]] std::int64_t statistics_index(std::int64_t batch, std::int64_t head,
                                              std::int64_t query) const;
  [[nodiscard]] bool sees(std::int64_t query, std::int64_t key) const;
  // Scores of one query, minus infinity where it sees nothing.
  [[nodiscard]] Row scores(std::int64_t batch, std::int64_t query, const Row& q,
                           const Matrix& k) const;
  // Biases of all queries for one key.
  [[nodiscard]] Row bias_column(std::int64_t batch, std::int64_t key) const;

  void add_query_gradients(std::int64_t batch, std::int64_t head, Expected& dq) const;
  void add_key_gradients(std::int64_t batch, std::int64_t group, Expected& dk, Expected& dv) const;

  const Inspector& inspector_;
  const AttentionShape& shape_;
};

} // namespace predictor
