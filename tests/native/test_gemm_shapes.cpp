// The products that libraries are asked for, carried out on the CPU as cuBLAS defines them
// (column-major), against the row-major definitions of predictor/operators/gemm.py.
#include "operators/grouped_gemm/shape.hpp"

#include <doctest.h>
#include <string>
#include <vector>

using namespace predictor;

namespace {

using Matrix = std::vector<double>; // row-major

Matrix numbers(std::int64_t count, std::int64_t step) {
  Matrix made;
  for (std::int64_t i = 0; i < count; ++i) {
    made.push_back(static_cast<double>(i * step % 11 - 5));
  }
  return made;
}

// Rows [start, start + rows) of a matrix with `cols` columns, transposed.
Matrix transposed(const Matrix& from, std::int64_t start, std::int64_t rows, std::int64_t cols) {
  Matrix made;
  for (std::int64_t c = 0; c < cols; ++c) {
    for (std::int64_t r = start; r < start + rows; ++r) {
      made.push_back(from[static_cast<std::size_t>(r * cols + c)]);
    }
  }
  return made;
}

double at(const Matrix& m, std::int64_t i) {
  return m[static_cast<std::size_t>(i)];
}

void multiply(const ExpertProduct& e, const Matrix& a, const Matrix& b, Matrix& d) {
  const GemmProduct& p = e.product;
  for (std::int64_t row = 0; row < p.rows; ++row) {
    for (std::int64_t col = 0; col < p.cols; ++col) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < p.reduced; ++i) {
        const std::int64_t ia = p.transpose_a == CUBLAS_OP_T ? row * p.lda + i : i * p.lda + row;
        const std::int64_t ib = p.transpose_b == CUBLAS_OP_T ? i * p.ldb + col : col * p.ldb + i;
        sum += at(a, e.a_start + ia) * at(b, e.b_start + ib);
      }
      d[static_cast<std::size_t>(e.d_start + col * p.ldd + row)] = sum;
    }
  }
}

struct Layer {
  std::vector<std::int64_t> counts;
  std::int64_t n, k;
};

// What each kind should give, expert by expert.
Matrix expected(const Layer& l, GemmKind kind, const Matrix& x, const Matrix& w, const Matrix& dy) {
  std::int64_t tokens = 0;
  for (const std::int64_t count : l.counts) {
    tokens += count;
  }
  const auto experts = static_cast<std::int64_t>(l.counts.size());
  Matrix y(static_cast<std::size_t>(tokens * l.n)), dx(static_cast<std::size_t>(tokens * l.k)),
      dw(static_cast<std::size_t>(experts * l.n * l.k));
  std::int64_t t = 0;
  for (std::int64_t e = 0; e < experts; ++e) {
    for (std::int64_t i = 0; i < l.counts[static_cast<std::size_t>(e)]; ++i, ++t) {
      for (std::int64_t n = 0; n < l.n; ++n) {
        for (std::int64_t k = 0; k < l.k; ++k) {
          const std::int64_t iw = (e * l.n + n) * l.k + k;
          y[static_cast<std::size_t>(t * l.n + n)] += at(x, t * l.k + k) * at(w, iw);
          dx[static_cast<std::size_t>(t * l.k + k)] += at(dy, t * l.n + n) * at(w, iw);
          dw[static_cast<std::size_t>(iw)] += at(dy, t * l.n + n) * at(x, t * l.k + k);
        }
      }
    }
  }
  return kind == GemmKind::forward ? y : kind == GemmKind::dgrad ? dx : dw;
}

// Every expert's part of a matrix, transposed and one after the other.
Matrix each_transposed(const Matrix& from, const std::vector<std::int64_t>& rows,
                       std::int64_t cols) {
  Matrix made;
  std::int64_t start = 0;
  for (const std::int64_t count : rows) {
    const Matrix part = transposed(from, start, count, cols);
    made.insert(made.end(), part.begin(), part.end());
    start += count;
  }
  return made;
}

Fields fields_of(const Layer& l, const char* kind, const char* dtype) {
  std::int64_t tokens = 0;
  for (const std::int64_t count : l.counts) {
    tokens += count;
  }
  return Fields({{"tokens", tokens},
                 {"experts", static_cast<std::int64_t>(l.counts.size())},
                 {"counts", l.counts},
                 {"n", l.n},
                 {"k", l.k},
                 {"kind", std::string(kind)},
                 {"dtype", std::string(dtype)}});
}

} // namespace

TEST_SUITE("gemm_shapes") {
  TEST_CASE("each kind and format is the product that it is defined as, for all experts") {
    const std::vector<Layer> layers{{{4}, 3, 5}, {{2, 0, 5, 1}, 3, 4}};
    for (const Layer& layer : layers) {
      for (const char* kind : {"forward", "dgrad", "wgrad"}) {
        for (const char* dtype : {"bf16", "tf32", "fp8"}) {
          CAPTURE(kind);
          CAPTURE(dtype);
          const GroupedFields f = read_grouped_fields(fields_of(layer, kind, dtype));
          const Matrix x = numbers(f.tokens * f.k, 3);
          const Matrix w = numbers(f.experts() * f.n * f.k, 7);
          const Matrix dy = numbers(f.tokens * f.n, 4);
          const bool fp8 = f.format == GemmFormat::fp8;
          const std::vector<std::int64_t> all_n(f.counts.size(), f.n);
          Matrix a = w;
          Matrix b = f.kind == GemmKind::forward ? x : dy;
          if (f.kind == GemmKind::dgrad && fp8) {
            a = each_transposed(w, all_n, f.k);
          }
          if (f.kind == GemmKind::wgrad) {
            a = fp8 ? each_transposed(x, f.counts, f.k) : x;
            b = fp8 ? each_transposed(dy, f.counts, f.n) : dy;
          }
          const GroupedExtents extents = grouped_extents(f);
          CHECK(extents.a == static_cast<std::int64_t>(a.size()));
          CHECK(extents.b == static_cast<std::int64_t>(b.size()));
          Matrix d(static_cast<std::size_t>(extents.d), 0.0);
          for (const ExpertProduct& expert : expert_products(f)) {
            multiply(expert, a, b, d);
          }
          CHECK(d == expected(layer, f.kind, x, w, dy));
        }
      }
    }
  }

  TEST_CASE("fp8 multiplies e5m2 gradients by e4m3 and writes bf16, or fp32 where it accumulates") {
    const GemmTypes forward = gemm_types(GemmFormat::fp8, GemmKind::forward, false);
    CHECK(forward.a == DataType::e4m3);
    CHECK(forward.b == DataType::e4m3);
    CHECK(forward.d == DataType::bf16);
    const GemmTypes wgrad = gemm_types(GemmFormat::fp8, GemmKind::wgrad, true);
    CHECK(wgrad.a == DataType::e4m3);
    CHECK(wgrad.b == DataType::e5m2);
    CHECK(wgrad.d == DataType::fp32);
  }

  TEST_CASE("counts that do not sum to the tokens are refused") {
    Fields fields({{"tokens", std::int64_t{5}},
                   {"experts", std::int64_t{2}},
                   {"counts", std::vector<std::int64_t>{2, 2}},
                   {"n", std::int64_t{3}},
                   {"k", std::int64_t{3}},
                   {"kind", std::string("forward")},
                   {"dtype", std::string("bf16")}});
    CHECK_THROWS((void)read_grouped_fields(fields));
  }
}
