// The fields of a grouped GEMM, and one product for each expert that has rows.
//
// Row-major x[tokens, k] and y[tokens, n] hold the rows of each expert together, in the order of
// the experts; w is [experts, n, k]. fp8 copies that are stored transposed are so expert by expert,
// and start where the others do.
#pragma once

#include "operators/gemm/shape.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace predictor {

struct GroupedFields {
  std::vector<std::int64_t> counts; // rows of each expert
  std::int64_t tokens, n, k;
  GemmKind kind;
  GemmFormat format;
  bool accumulate;

  [[nodiscard]] std::int64_t experts() const { return static_cast<std::int64_t>(counts.size()); }
};

// Raises NativeError for a field that is missing, Unsupported for one that is not served.
[[nodiscard]] GroupedFields read_grouped_fields(const Fields& fields);

// One expert's product, and the first elements of its operands.
struct ExpertProduct {
  GemmProduct product;
  std::int64_t a_start, b_start, d_start;
};

[[nodiscard]] std::vector<ExpertProduct> expert_products(const GroupedFields& fields);

// Elements of A, B and D over all experts.
struct GroupedExtents {
  std::int64_t a, b, d;
};

[[nodiscard]] GroupedExtents grouped_extents(const GroupedFields& fields);

} // namespace predictor
