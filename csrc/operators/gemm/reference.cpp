#include "operators/gemm/reference.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace predictor {
namespace {

std::vector<std::int64_t> spread(std::int64_t extent, std::int64_t count) {
  std::vector<std::int64_t> chosen;
  for (std::int64_t i = 0; i < std::min(extent, count); ++i) {
    const std::int64_t last = std::max<std::int64_t>(std::min(extent, count) - 1, 1);
    chosen.push_back(i * (extent - 1) / last);
  }
  return chosen;
}

} // namespace

std::vector<ProductElement> sampled_product(const Inspector& inspector, const GemmProduct& product,
                                            const ProductPlace& place, std::int64_t across) {
  const GemmProduct& p = product;
  const bool a_by_rows = p.transpose_a == CUBLAS_OP_T; // a row of op(A) is contiguous
  const bool b_by_cols = p.transpose_b == CUBLAS_OP_N;
  const auto line = [&](std::size_t operand, std::int64_t start, std::int64_t which,
                        bool contiguous, std::int64_t leading) {
    return contiguous ? inspector.read(operand, start + which * leading, p.reduced)
                      : inspector.read(operand, start + which, p.reduced, leading);
  };
  std::vector<std::pair<std::int64_t, std::vector<double>>> columns;
  for (const std::int64_t col : spread(p.cols, across)) {
    columns.emplace_back(col, line(place.b, place.b_start, col, b_by_cols, p.ldb));
  }
  std::vector<ProductElement> found;
  for (const std::int64_t row : spread(p.rows, across)) {
    const std::vector<double> a = line(place.a, place.a_start, row, a_by_rows, p.lda);
    for (const auto& [col, b] : columns) {
      found.push_back({.row = row,
                       .index = place.d_start + col * p.ldd + row,
                       .value = std::inner_product(a.begin(), a.end(), b.begin(), 0.0)});
    }
  }
  return found;
}

} // namespace predictor
