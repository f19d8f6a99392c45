#include "operators/grouped_gemm/shape.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace predictor {
namespace {

// A, B and D of a kind, given what x, w and y would be: the pairing of operators/gemm/shape.cpp.
GroupedExtents by_role(GemmKind kind, std::int64_t x, std::int64_t w, std::int64_t y) {
  switch (kind) {
  case GemmKind::forward:
    return {w, x, y};
  case GemmKind::dgrad:
    return {w, y, x};
  case GemmKind::wgrad:
    return {x, y, w};
  }
  return {};
}

} // namespace

GroupedFields read_grouped_fields(const Fields& fields) {
  GroupedFields grouped{.counts = fields.counts("counts"),
                        .tokens = fields.positive("tokens"),
                        .n = fields.positive("n"),
                        .k = fields.positive("k"),
                        .kind = read_gemm_kind(fields),
                        .format = read_gemm_format(fields),
                        .accumulate = fields.flag("accumulate", false)};
  const auto sum = std::accumulate(grouped.counts.begin(), grouped.counts.end(), std::int64_t{0});
  if (sum != grouped.tokens || grouped.experts() != fields.positive("experts")) {
    throw NativeError(text("grouped_gemm: counts are ", grouped.experts(), " that sum to ", sum,
                           ", not experts that sum to tokens = ", grouped.tokens));
  }
  if (std::max({grouped.tokens, grouped.n, grouped.k}) > std::numeric_limits<int>::max()) {
    throw Unsupported("grouped_gemm: tokens, n and k must stay below 2^31");
  }
  if (grouped.accumulate && grouped.kind != GemmKind::wgrad) {
    throw Unsupported("grouped_gemm: accumulate is served for kind wgrad only");
  }
  return grouped;
}

std::vector<ExpertProduct> expert_products(const GroupedFields& f) {
  std::vector<ExpertProduct> products;
  std::int64_t first_row = 0;
  for (std::int64_t expert = 0; expert < f.experts(); ++expert) {
    const std::int64_t rows = f.counts[static_cast<std::size_t>(expert)];
    if (rows > 0) {
      const GroupedExtents starts =
          by_role(f.kind, first_row * f.k, expert * f.n * f.k, first_row * f.n);
      products.push_back({.product = product_of(f.kind, f.format, rows, f.n, f.k),
                          .a_start = starts.a,
                          .b_start = starts.b,
                          .d_start = starts.d});
    }
    first_row += rows;
  }
  return products;
}

GroupedExtents grouped_extents(const GroupedFields& f) {
  return by_role(f.kind, f.tokens * f.k, f.experts() * f.n * f.k, f.tokens * f.n);
}

} // namespace predictor
