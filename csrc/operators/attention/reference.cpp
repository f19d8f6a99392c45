// Forward:  S = scale·q·kᵀ + bias, P = softmax(S), o = P·v, statistics = logsumexp(S).
// Backward: dP = do·vᵀ, dS = P·(dP - rowsum(do·o)), dq = scale·dS·k, dk = scale·dSᵀ·q, dv = Pᵀ·do
//           (FlashAttention-2, arXiv:2307.08691, algorithm 2).
#include "operators/attention/reference.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

namespace predictor {
namespace {

// In four sums: one addition need not wait for the one before it.
double dot(std::span<const double> a, std::span<const double> b) {
  std::array<double, 4> sums{};
  const std::size_t even = a.size() / sums.size() * sums.size();
  for (std::size_t i = 0; i < even; i += sums.size()) {
    for (std::size_t j = 0; j < sums.size(); ++j) {
      sums[j] += a[i + j] * b[i + j];
    }
  }
  for (std::size_t i = even; i < a.size(); ++i) {
    sums[0] += a[i] * b[i];
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void add_scaled(std::span<double> to, double factor, std::span<const double> x) {
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] += factor * x[i];
  }
}

double logsumexp(const std::vector<double>& x) {
  const double highest = *std::max_element(x.begin(), x.end());
  double sum = 0.0;
  for (const double value : x) {
    sum += std::exp(value - highest);
  }
  return highest + std::log(sum);
}

void add_row(Expected& expected, std::int64_t index, const std::vector<double>& row) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    expected.add(index + static_cast<std::int64_t>(i), row[i]);
  }
}

std::vector<std::int64_t> sampled_tokens(std::int64_t sequence) {
  if (sequence < 3) {
    return {sequence - 1};
  }
  return {0, sequence / 3, sequence - 1};
}

// The first head of the first sequence and the last of the last.
std::vector<std::pair<std::int64_t, std::int64_t>> sampled_heads(const AttentionShape& shape) {
  return {{0, 0}, {shape.batch - 1, shape.heads - 1}};
}

} // namespace

std::int64_t AttentionReference::index(const Heads& heads, std::int64_t batch, std::int64_t token,
                                       std::int64_t head) const {
  return ((batch * heads.tokens + token) * heads.count + head) * heads.width;
}

AttentionReference::Row AttentionReference::row(const Heads& heads, std::int64_t batch,
                                                std::int64_t token, std::int64_t head) const {
  return inspector_.read(heads.tensor, index(heads, batch, token, head), heads.width);
}

AttentionReference::Matrix AttentionReference::matrix(const Heads& heads, std::int64_t batch,
                                                      std::int64_t head) const {
  return {.width = static_cast<std::size_t>(heads.width),
          .values = inspector_.read(heads.tensor, Lines{.start = index(heads, batch, 0, head),
                                                        .count = heads.tokens,
                                                        .stride = heads.count * heads.width,
                                                        .width = heads.width})};
}

AttentionReference::Document AttentionReference::document_of(std::int64_t token) const {
  Document document{0, 0};
  for (std::size_t i = 0; i < shape_.documents.size(); ++i) {
    if (token < document.first + shape_.documents[i]) {
      return document;
    }
    ++document.index;
    document.first += shape_.documents[i];
  }
  return {0, 0};
}

std::int64_t AttentionReference::statistics_index(std::int64_t batch, std::int64_t head,
                                                  std::int64_t query) const {
  const Document document = document_of(query);
  const std::int64_t sequence = batch * (shape_.sequences() / shape_.batch) + document.index;
  return (sequence * shape_.heads + head) * shape_.longest_queries() + query - document.first;
}

bool AttentionReference::sees(std::int64_t query, std::int64_t key) const {
  const std::int64_t position = query + shape_.keys - shape_.queries;
  const bool above = shape_.causal && key > position;
  const bool before = shape_.window > 0 && key <= position - shape_.window;
  return !above && !before && document_of(position).index == document_of(key).index;
}

AttentionReference::Row AttentionReference::scores(std::int64_t batch, std::int64_t query,
                                                   const Row& q, const Matrix& k) const {
  Row biases(k.rows(), 0.0);
  if (shape_.bias) {
    biases = inspector_.read(t_bias, (batch * shape_.queries + query) * shape_.keys, shape_.keys);
  }
  Row result(k.rows(), -std::numeric_limits<double>::infinity());
  for (std::size_t j = 0; j < k.rows(); ++j) {
    if (sees(query, static_cast<std::int64_t>(j))) {
      result[j] = dot(q, k.row(j)) * shape_.scale() + biases[j];
    }
  }
  return result;
}

AttentionReference::Row AttentionReference::bias_column(std::int64_t batch,
                                                        std::int64_t key) const {
  const std::int64_t q = shape_.queries;
  const std::int64_t k = shape_.keys;
  return shape_.bias ? inspector_.read(t_bias, batch * q * k + key, q, k)
                     : Row(static_cast<std::size_t>(q), 0.0);
}

std::vector<Expected> AttentionReference::forward() const {
  Expected o(t_o);
  Expected stats(t_stats);
  for (const auto& [batch, head] : sampled_heads(shape_)) {
    const Matrix k = matrix(keys(t_k), batch, group_of(head));
    const Matrix v = matrix(values(t_v), batch, group_of(head));
    for (const std::int64_t i : sampled_tokens(shape_.queries)) {
      const Row scored = scores(batch, i, row(queries(t_q), batch, i, head), k);
      const double lse = logsumexp(scored);
      Row mixed(v.width, 0.0);
      for (std::size_t j = 0; j < scored.size(); ++j) {
        add_scaled(mixed, std::exp(scored[j] - lse), v.row(j));
      }
      add_row(o, index(outputs(t_o), batch, i, head), mixed);
      stats.add(statistics_index(batch, head, i), lse);
    }
  }
  return {o, stats};
}

std::vector<Expected> AttentionReference::backward() const {
  Expected dq(t_dq);
  Expected dk(t_dk);
  Expected dv(t_dv);
  for (const auto& [batch, head] : sampled_heads(shape_)) {
    add_query_gradients(batch, head, dq);
  }
  const auto [batch, head] =
      sampled_heads(shape_).back(); // a key hears of every query, in all heads
  add_key_gradients(batch, group_of(head), dk, dv);
  return {dq, dk, dv};
}

void AttentionReference::add_query_gradients(std::int64_t batch, std::int64_t head,
                                             Expected& dq) const {
  const Matrix k = matrix(keys(t_k), batch, group_of(head));
  const Matrix v = matrix(values(t_v), batch, group_of(head));
  for (const std::int64_t i : sampled_tokens(shape_.queries)) {
    const Row d_o = row(outputs(t_do), batch, i, head);
    const double delta = dot(row(outputs(t_o), batch, i, head), d_o);
    const Row scored = scores(batch, i, row(queries(t_q), batch, i, head), k);
    const double lse = logsumexp(scored);
    Row gradient(k.width, 0.0);
    for (std::size_t j = 0; j < scored.size(); ++j) {
      const double slope = std::exp(scored[j] - lse) * (dot(d_o, v.row(j)) - delta);
      add_scaled(gradient, slope * shape_.scale(), k.row(j));
    }
    add_row(dq, index(queries(t_dq), batch, i, head), gradient);
  }
}

// Sums over the queries of every head that shares the key.
void AttentionReference::add_key_gradients(std::int64_t batch, std::int64_t group, Expected& dk,
                                           Expected& dv) const {
  const std::vector<std::int64_t> tokens = sampled_tokens(shape_.keys);
  std::vector<Row> key_sums(tokens.size(), Row(static_cast<std::size_t>(shape_.key_dim)));
  std::vector<Row> value_sums(tokens.size(), Row(static_cast<std::size_t>(shape_.value_dim)));
  const std::int64_t sharing = shape_.heads / shape_.groups;
  for (std::int64_t head = group * sharing; head < (group + 1) * sharing; ++head) {
    const Matrix q = matrix(queries(t_q), batch, head);
    const Matrix o = matrix(outputs(t_o), batch, head);
    const Matrix d_o = matrix(outputs(t_do), batch, head);
    std::vector<std::int64_t> places;
    Row deltas;
    for (std::int64_t i = 0; i < shape_.queries; ++i) {
      const auto query = static_cast<std::size_t>(i);
      places.push_back(statistics_index(batch, head, i));
      deltas.push_back(dot(o.row(query), d_o.row(query)));
    }
    const Row lse = inspector_.read(t_stats, places);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const Row k = row(keys(t_k), batch, tokens[t], group);
      const Row v = row(values(t_v), batch, tokens[t], group);
      const Row biases = bias_column(batch, tokens[t]);
      for (std::size_t i = 0; i < q.rows(); ++i) {
        if (sees(static_cast<std::int64_t>(i), tokens[t])) {
          const double p = std::exp(dot(q.row(i), k) * shape_.scale() + biases[i] - lse[i]);
          const double slope = p * (dot(d_o.row(i), v) - deltas[i]);
          add_scaled(key_sums[t], slope * shape_.scale(), q.row(i));
          add_scaled(value_sums[t], p, d_o.row(i));
        }
      }
    }
  }
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    add_row(dk, index(keys(t_dk), batch, tokens[t], group), key_sums[t]);
    add_row(dv, index(values(t_dv), batch, tokens[t], group), value_sums[t]);
  }
}

} // namespace predictor
