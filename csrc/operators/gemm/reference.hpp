// A few elements of a product in double, to check the library's against.
#pragma once

#include "cuda/workload.hpp"
#include "operators/gemm/shape.hpp"

#include <cstdint>
#include <vector>

namespace predictor {

// Where the operands of one product lie: which operand, and the index of its first element.
struct ProductPlace {
  std::size_t a, b;
  std::int64_t a_start = 0, b_start = 0, d_start = 0;
};

struct ProductElement {
  std::int64_t row;
  std::int64_t index; // in D's operand
  double value;       // of op(A) · op(B), scales not applied
};

// `across` rows times `across` columns spread over the product, the first and the last included.
[[nodiscard]] std::vector<ProductElement> sampled_product(const Inspector& inspector,
                                                          const GemmProduct& product,
                                                          const ProductPlace& place,
                                                          std::int64_t across);

} // namespace predictor
