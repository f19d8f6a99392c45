// The real kernels on the CPU: every code path, with extents that do not divide evenly.
#include "emulation.hpp"
#include "operators/adamw.cuh"
#include "operators/memory_bound/dropout.cuh"
#include "operators/memory_bound/elementwise.cuh"
#include "operators/memory_bound/embeddings.cuh"
#include "operators/memory_bound/losses.cuh"
#include "operators/memory_bound/norms.cuh"
#include "operators/memory_bound/routing.cuh"
#include "operators/memory_bound/softmax.cuh"
#include "operators/memory_bound/transposes.cuh"

#include <algorithm>
#include <cmath>
#include <doctest.h>
#include <limits>
#include <random>
#include <vector>

namespace k = predictor::kernels;
using k::bf16;

namespace {

constexpr double bf16_error = 4e-3; // rounding to 8 bits: 2^-9 at most, half of it on average
constexpr double fp32_error = 1e-5;

// Device memory: aligned to 256 bytes, normal numbers or, where it is written, NaN.
template <typename T>
class Array {
public:
  explicit Array(std::size_t count) : storage_(count * sizeof(T) + 256), count_(count) {
    auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    data_ = reinterpret_cast<T*>((address + 255) / 256 * 256);
    std::fill(data_, data_ + count, T(std::numeric_limits<float>::quiet_NaN()));
  }

  static Array normal(std::size_t count, unsigned seed) {
    Array made(count);
    std::mt19937 generator(seed);
    std::normal_distribution<float> distribution;
    for (std::size_t i = 0; i < count; ++i) {
      made.data_[i] = T(distribution(generator));
    }
    return made;
  }

  operator T*() const { return data_; }
  [[nodiscard]] double at(std::size_t i) const {
    return static_cast<double>(static_cast<float>(data_[i]));
  }
  [[nodiscard]] std::size_t size() const { return count_; }

private:
  std::vector<unsigned char> storage_;
  std::size_t count_;
  T* data_ = nullptr;
};

// Relative Frobenius error against expected(i).
template <typename T, typename Expected>
double error_of(const Array<T>& found, Expected expected) {
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double value = expected(i);
    difference += (found.at(i) - value) * (found.at(i) - value);
    norm += value * value;
  }
  return std::sqrt(difference / norm);
}

unsigned blocks(std::size_t items, std::size_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

double logistic(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

template <typename Op, typename Out, typename... In>
void map(const Array<Out>& out, const Array<In>&... in) {
  emulation::launch(blocks(out.size(), k::map_block_elements), k::map_threads, [&] {
    k::map_kernel<Op, Out, In...>(static_cast<std::int64_t>(out.size()), out,
                                  static_cast<const In*>(in)...);
  });
}

struct Extent {
  std::size_t rows, cols;
};

} // namespace

TEST_SUITE("kernels") {
  TEST_CASE("maps, with a whole number of packs and with a tail") {
    for (const std::size_t count : {std::size_t{8192}, std::size_t{5003}, std::size_t{3}}) {
      CAPTURE(count);
      const auto x = Array<bf16>::normal(count, 1);
      const auto y = Array<bf16>::normal(count, 2);
      const auto wide = Array<float>::normal(count, 3);
      const Array<bf16> out(count);
      const Array<float> wide_out(count);
      map<k::Identity>(out, x);
      CHECK(error_of(out, [&](std::size_t i) { return x.at(i); }) == 0.0);
      map<k::Identity>(wide_out, x);
      CHECK(error_of(wide_out, [&](std::size_t i) { return x.at(i); }) == 0.0);
      map<k::Identity>(out, wide);
      CHECK(error_of(out, [&](std::size_t i) { return wide.at(i); }) < bf16_error);
      map<k::Add>(out, x, y);
      CHECK(error_of(out, [&](std::size_t i) { return x.at(i) + y.at(i); }) < bf16_error);
      map<k::Gelu>(out, x);
      CHECK(error_of(out, [&](std::size_t i) { return gelu(x.at(i)); }) < bf16_error);
      map<k::GeluBackward>(out, y, x);
      const auto slope = [&](std::size_t i) {
        return y.at(i) * (gelu(x.at(i) + 1e-5) - gelu(x.at(i) - 1e-5)) / 2e-5;
      };
      CHECK(error_of(out, slope) < bf16_error);
      const auto before = Array<float>::normal(count, 3);
      emulation::launch(blocks(count, k::map_block_elements), k::map_threads, [&] {
        k::map_kernel<k::Add, float, float, bf16>(static_cast<std::int64_t>(count), wide, wide, x);
      });
      CHECK(error_of(wide, [&](std::size_t i) { return before.at(i) + x.at(i); }) < fp32_error);
    }
  }

  TEST_CASE("silu_mul and its gradients, packed and not") {
    const auto check = [](auto packed, Extent e) {
      const auto rows = static_cast<std::uint32_t>(e.rows);
      const auto cols = static_cast<std::uint32_t>(e.cols);
      const auto gate_up = Array<bf16>::normal(2 * e.rows * e.cols, 1);
      const auto dy = Array<bf16>::normal(e.rows * e.cols, 2);
      const Array<bf16> y(e.rows * e.cols);
      const Array<bf16> gradient(2 * e.rows * e.cols);
      const unsigned grid = blocks(e.rows * e.cols / (packed() ? 8 : 1), k::map_threads);
      emulation::launch(grid, k::map_threads, [&] {
        k::silu_mul_kernel<packed(), false>(rows, cols, gate_up, nullptr, y);
      });
      emulation::launch(grid, k::map_threads, [&] {
        k::silu_mul_backward_kernel<packed()>(rows, cols, dy, gate_up, gradient);
      });
      const auto gate = [&](std::size_t i) {
        return gate_up.at(i / e.cols * 2 * e.cols + i % e.cols);
      };
      const auto up = [&](std::size_t i) {
        return gate_up.at(i / e.cols * 2 * e.cols + e.cols + i % e.cols);
      };
      const auto expected = [&](std::size_t i) { return gate(i) * logistic(gate(i)) * up(i); };
      CHECK(error_of(y, expected) < bf16_error);
      const auto expected_gradient = [&](std::size_t j) {
        const bool right = j % (2 * e.cols) >= e.cols;
        const std::size_t i = j / (2 * e.cols) * e.cols + j % e.cols;
        const double s = logistic(gate(i));
        return right ? dy.at(i) * gate(i) * s : dy.at(i) * up(i) * (s + gate(i) * s * (1.0 - s));
      };
      CHECK(error_of(gradient, expected_gradient) < bf16_error);
    };
    check(std::true_type(), {7, 120});
    check(std::false_type(), {5, 37});
  }

  TEST_CASE("rotary rotates pairs half a head apart, packed and not") {
    const auto check = [](auto packed, Extent e) {
      constexpr std::uint32_t heads = 3;
      constexpr std::uint32_t positions = 4;
      const std::size_t half = e.cols / 2;
      const auto x = Array<bf16>::normal(e.rows * e.cols, 1);
      const auto cosine = Array<float>::normal(positions * half, 2);
      const auto sine = Array<float>::normal(positions * half, 3);
      const Array<bf16> y(e.rows * e.cols);
      emulation::launch(blocks(e.rows * half / (packed() ? 8 : 1), k::map_threads), k::map_threads,
                        [&] {
                          k::rotary_kernel<packed()>(static_cast<std::uint32_t>(e.rows),
                                                     static_cast<std::uint32_t>(e.cols), heads,
                                                     positions, x, cosine, sine, y);
                        });
      const auto expected = [&](std::size_t i) {
        const std::size_t col = i % e.cols;
        const std::size_t entry = i / e.cols / heads % positions * half + col % half;
        return col < half ? x.at(i) * cosine.at(entry) - x.at(i + half) * sine.at(entry)
                          : x.at(i) * cosine.at(entry) + x.at(i - half) * sine.at(entry);
      };
      CHECK(error_of(y, expected) < bf16_error);
    };
    check(std::true_type(), {29, 64});
    check(std::false_type(), {17, 10});
  }

  TEST_CASE("adamw steps both state types, with a tail") {
    const auto check = [](auto zero, auto copied, double tolerance) {
      using State = decltype(zero);
      const std::size_t count = 2053;
      const auto p = Array<State>::normal(count, 1);
      const auto m = Array<State>::normal(count, 2);
      const auto v = Array<State>::normal(count, 3);
      const auto g = Array<State>::normal(count, 4);
      for (std::size_t i = 0; i < count; ++i) {
        v[i] = State(std::abs(static_cast<float>(v[i])));
      }
      std::vector<double> p0, m0, v0;
      for (std::size_t i = 0; i < count; ++i) {
        p0.push_back(p.at(i)), m0.push_back(m.at(i)), v0.push_back(v.at(i));
      }
      const Array<bf16> copy(count);
      emulation::launch(blocks(count, k::adamw_threads * k::pack), k::adamw_threads, [&] {
        k::adamw_kernel<copied()>(static_cast<std::int64_t>(count), k::AdamW{},
                                  k::AdamWArrays<State, State>{p, m, v, g, copy});
      });
      const auto m1 = [&](std::size_t i) { return 0.9 * m0[i] + 0.1 * g.at(i); };
      const auto v1 = [&](std::size_t i) { return 0.95 * v0[i] + 0.05 * g.at(i) * g.at(i); };
      const auto p1 = [&](std::size_t i) {
        return p0[i] - 1e-3 * (m1(i) / 0.1 / (std::sqrt(v1(i) / 0.05) + 1e-8) + 0.1 * p0[i]);
      };
      CHECK(error_of(m, m1) < tolerance);
      CHECK(error_of(v, v1) < tolerance);
      CHECK(error_of(p, p1) < tolerance);
      if (copied()) {
        CHECK(error_of(copy, p1) < bf16_error);
      }
    };
    check(bf16(0.0f), std::false_type(), bf16_error);
    check(0.0f, std::false_type(), fp32_error);
    check(0.0f, std::true_type(), fp32_error);
  }
}

namespace {

// Mean and reciprocal deviation of a row, as the norms define them.
struct Statistics {
  double mean = 0.0;
  double rstd = 0.0;
};

Statistics statistics_of(const Array<bf16>& x, std::size_t row, std::size_t cols, bool layer) {
  Statistics s;
  double variance = 0.0;
  for (std::size_t c = 0; c < cols; ++c) {
    s.mean += layer ? x.at(row * cols + c) / static_cast<double>(cols) : 0.0;
  }
  for (std::size_t c = 0; c < cols; ++c) {
    const double centred = x.at(row * cols + c) - s.mean;
    variance += centred * centred / static_cast<double>(cols);
  }
  s.rstd = 1.0 / std::sqrt(variance + 1e-5);
  return s;
}

template <bool layer, typename Launch, typename LaunchBackward>
void check_norm(Extent e, std::size_t partial_rows, Launch launch, LaunchBackward launch_backward) {
  CAPTURE(e.cols);
  CAPTURE(layer);
  const auto x = Array<bf16>::normal(e.rows * e.cols, 1);
  const auto dy = Array<bf16>::normal(e.rows * e.cols, 2);
  const auto weight = Array<bf16>::normal(e.cols, 3);
  const auto bias = Array<bf16>::normal(e.cols, 4);
  const Array<bf16> y(e.rows * e.cols);
  const Array<bf16> dx(e.rows * e.cols);
  const Array<bf16> dweight(e.cols);
  const Array<bf16> dbias(e.cols);
  const Array<float> mean(e.rows);
  const Array<float> rstd(e.rows);
  const Array<float> partials(2 * partial_rows * e.cols);
  launch(k::NormInputs{x, weight, bias}, k::NormOutputs{y, mean, rstd});

  std::vector<Statistics> rows;
  for (std::size_t row = 0; row < e.rows; ++row) {
    rows.push_back(statistics_of(x, row, e.cols, layer));
  }
  const auto normed = [&](std::size_t i) {
    return (x.at(i) - rows[i / e.cols].mean) * rows[i / e.cols].rstd;
  };
  const auto g = [&](std::size_t i) { return dy.at(i) * weight.at(i % e.cols); };
  CHECK(error_of(y, [&](std::size_t i) {
          return normed(i) * weight.at(i % e.cols) + (layer ? bias.at(i % e.cols) : 0.0);
        }) < bf16_error);
  CHECK(error_of(rstd, [&](std::size_t row) { return rows[row].rstd; }) < fp32_error);

  launch_backward(k::NormBackwardInputs{dy, x, weight, mean, rstd},
                  k::NormBackwardOutputs{dx, partials});
  const dim3 grid(blocks(e.cols, k::reduce_columns), layer ? 2 : 1);
  emulation::launch(grid, k::reduce_columns * k::warp_threads, [&] {
    k::reduce_partials_kernel(static_cast<int>(partial_rows), static_cast<int>(e.cols), partials,
                              dweight, dbias);
  });
  std::vector<double> mean_g(e.rows), mean_gx(e.rows), weight_sum(e.cols), bias_sum(e.cols);
  for (std::size_t i = 0; i < e.rows * e.cols; ++i) {
    mean_g[i / e.cols] += layer ? g(i) / static_cast<double>(e.cols) : 0.0;
    mean_gx[i / e.cols] += g(i) * normed(i) / static_cast<double>(e.cols);
    weight_sum[i % e.cols] += dy.at(i) * normed(i);
    bias_sum[i % e.cols] += dy.at(i);
  }
  CHECK(error_of(dx, [&](std::size_t i) {
          const std::size_t row = i / e.cols;
          return rows[row].rstd * (g(i) - mean_g[row] - normed(i) * mean_gx[row]);
        }) < bf16_error);
  CHECK(error_of(dweight, [&](std::size_t c) { return weight_sum[c]; }) < bf16_error);
  if (layer) {
    CHECK(error_of(dbias, [&](std::size_t c) { return bias_sum[c]; }) < bf16_error);
  }
}

template <bool layer, typename Shape>
void check_held_norm(Extent e) {
  const unsigned walking = 2; // blocks of the backward pass, fewer than rows
  const auto rows = static_cast<std::int64_t>(e.rows);
  const auto cols = static_cast<int>(e.cols);
  check_norm<layer>(
      e, walking * Shape::groups,
      [&](k::NormInputs in, k::NormOutputs out) {
        emulation::launch(blocks(e.rows, Shape::groups), Shape::threads,
                          [&] { k::norm_kernel<layer, Shape>(rows, cols, in, out); });
      },
      [&](k::NormBackwardInputs in, k::NormBackwardOutputs out) {
        emulation::launch(walking, Shape::threads,
                          [&] { k::norm_backward_kernel<layer, Shape>(rows, cols, in, out); });
      });
}

template <bool layer>
void check_any_norm(Extent e) {
  const unsigned walking = 2;
  const auto rows = static_cast<std::int64_t>(e.rows);
  const auto cols = static_cast<int>(e.cols);
  check_norm<layer>(
      e, walking,
      [&](k::NormInputs in, k::NormOutputs out) {
        emulation::launch(static_cast<unsigned>(e.rows), k::norm_threads,
                          [&] { k::norm_any_kernel<layer>(rows, cols, in, out); });
      },
      [&](k::NormBackwardInputs in, k::NormBackwardOutputs out) {
        emulation::launch(walking, k::norm_threads,
                          [&] { k::norm_backward_any_kernel<layer>(rows, cols, in, out); });
      });
}

} // namespace

TEST_SUITE("kernels") {
  TEST_CASE("norms with several rows a warp, a block a row, and rows that fill no shape") {
    check_held_norm<false, k::NormShape<16, 1>>({37, 128});
    check_held_norm<true, k::NormShape<16, 1>>({35, 72});
    check_held_norm<false, k::NormShape<32, 4>>({19, 1000});
    check_held_norm<true, k::NormShape<32, 1>>({9, 256});
    check_held_norm<false, k::NormShape<256, 2>>({5, 2056});
    check_held_norm<true, k::NormShape<256, 1>>({5, 2048});
    check_held_norm<true, k::NormShape<512, 4>>({3, 4104});
  }

  TEST_CASE("norms of any width") {
    check_any_norm<false>({5, 301});
    check_any_norm<true>({5, 77});
  }

  TEST_CASE("cross entropy and its gradient, rows at any alignment") {
    for (const Extent e : {Extent{5, 4096}, Extent{9, 1003}, Extent{9, 5}}) {
      CAPTURE(e.cols);
      const auto logits = Array<bf16>::normal(e.rows * e.cols, 1);
      std::vector<std::int64_t> labels(e.rows);
      for (std::size_t row = 0; row < e.rows; ++row) {
        labels[row] = static_cast<std::int64_t>(row * 7919 % e.cols);
      }
      const Array<float> loss(e.rows);
      const Array<float> lse(e.rows);
      const Array<bf16> gradient(e.rows * e.cols);
      const auto grid = static_cast<unsigned>(e.rows);
      const auto cols = static_cast<int>(e.cols);
      emulation::launch(grid, k::loss_threads, [&] {
        k::cross_entropy_kernel<bf16>(cols, logits, labels.data(), loss, lse);
      });
      emulation::launch(grid, k::loss_threads, [&] {
        k::cross_entropy_backward_kernel<bf16>(cols, 0.25f, logits, labels.data(), lse, gradient);
      });
      std::vector<double> expected(e.rows);
      for (std::size_t i = 0; i < e.rows * e.cols; ++i) {
        expected[i / e.cols] += std::exp(logits.at(i));
      }
      for (double& sum : expected) {
        sum = std::log(sum);
      }
      CHECK(error_of(lse, [&](std::size_t row) { return expected[row]; }) < fp32_error);
      CHECK(error_of(loss, [&](std::size_t row) {
              return expected[row] -
                     logits.at(row * e.cols + static_cast<std::size_t>(labels[row]));
            }) < fp32_error);
      CHECK(error_of(gradient, [&](std::size_t i) {
              const std::size_t row = i / e.cols;
              const bool label = static_cast<std::int64_t>(i % e.cols) == labels[row];
              return (std::exp(logits.at(i) - expected[row]) - (label ? 1.0 : 0.0)) * 0.25;
            }) < bf16_error);
    }
  }

  TEST_CASE("embedding gathers rows and scatters their gradients, repeats included") {
    const auto check = [](auto packed, std::size_t width) {
      const std::vector<std::int64_t> ids{4, 0, 4, 2, 4};
      const auto table = Array<bf16>::normal(6 * width, 1);
      const auto dy = Array<bf16>::normal(ids.size() * width, 2);
      const Array<bf16> y(ids.size() * width);
      const Array<float> dtable(6 * width);
      std::fill(static_cast<float*>(dtable), static_cast<float*>(dtable) + dtable.size(), 0.0f);
      const auto grid = static_cast<unsigned>(ids.size());
      const auto cols = static_cast<int>(width);
      emulation::launch(grid, k::embedding_threads,
                        [&] { k::embedding_kernel<packed()>(cols, table, ids.data(), y); });
      emulation::launch(grid, k::embedding_threads, [&] {
        k::embedding_backward_kernel<packed()>(cols, dy, ids.data(), dtable);
      });
      CHECK(error_of(y, [&](std::size_t i) {
              return table.at(static_cast<std::size_t>(ids[i / width]) * width + i % width);
            }) == 0.0);
      CHECK(error_of(dtable, [&](std::size_t i) {
              double sum = 0.0;
              for (std::size_t row = 0; row < ids.size(); ++row) {
                const bool hit = static_cast<std::size_t>(ids[row]) == i / width;
                sum += hit ? dy.at(row * width + i % width) : 0.0;
              }
              return sum;
            }) < fp32_error);
    };
    check(std::true_type(), 1032);
    check(std::false_type(), 131);
  }

  TEST_CASE("dropout keeps what its random bytes say, fused with bias and residual or alone") {
    const auto check = [](auto packed, Extent e) {
      const auto rows = static_cast<std::uint32_t>(e.rows);
      const auto cols = static_cast<std::uint32_t>(e.cols);
      const std::size_t count = e.rows * e.cols;
      const auto x = Array<bf16>::normal(count, 1);
      const auto bias = Array<bf16>::normal(e.cols, 2);
      const auto residual = Array<bf16>::normal(count, 3);
      const Array<bf16> y(count);
      const Array<bf16> dx(count);
      const Array<unsigned char> mask(count);
      const unsigned grid = blocks(count / (packed() ? 8 : 1), k::map_threads);
      emulation::launch(grid, k::map_threads, [&] {
        k::dropout_kernel<packed(), true>(rows, cols, x, bias, residual, y, mask);
      });
      const auto kept = [&](std::size_t i) { return k::is_kept(k::dropout_bytes(i / 8), i); };
      std::size_t survivors = 0;
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(static_cast<bool>(mask[i]) == kept(i));
        survivors += kept(i) ? 1 : 0;
      }
      CHECK(static_cast<double>(survivors) / static_cast<double>(count) ==
            doctest::Approx(230.0 / 256.0).epsilon(0.05));
      CHECK(error_of(y, [&](std::size_t i) {
              const double input = (x.at(i) + bias.at(i % e.cols)) * 256.0 / 230.0;
              return residual.at(i) + (kept(i) ? input : 0.0);
            }) < bf16_error);
      emulation::launch(grid, k::map_threads,
                        [&] { k::dropout_backward_kernel<packed()>(rows, cols, x, mask, dx); });
      CHECK(error_of(dx, [&](std::size_t i) { return kept(i) ? x.at(i) * 256.0 / 230.0 : 0.0; }) <
            bf16_error);
    };
    check(std::true_type(), {9, 120});
    check(std::false_type(), {31, 37});
  }

  TEST_CASE("transposes and casts, in whole words and not") {
    const auto check = [](auto aligned, Extent e) {
      const auto rows = static_cast<std::int64_t>(e.rows);
      const auto cols = static_cast<std::int64_t>(e.cols);
      const auto x = Array<bf16>::normal(e.rows * e.cols, 1);
      const Array<bf16> turned(e.rows * e.cols);
      const Array<unsigned char> same(e.rows * e.cols);
      const Array<unsigned char> narrow(e.rows * e.cols);
      const Array<float> amax(1);
      amax[0] = 0.0f;
      const auto grid = [&](unsigned tile) {
        return dim3(blocks(e.cols, tile), blocks(e.rows, tile));
      };
      emulation::launch(grid(k::tile_extent<bf16>), k::transpose_threads, [&] {
        k::transpose_kernel<bf16, bf16, aligned()>(rows, cols, 1.0f, x, nullptr, turned, nullptr);
      });
      CHECK(error_of(turned,
                     [&](std::size_t i) { return x.at(i % e.rows * e.cols + i / e.rows); }) == 0.0);
      emulation::launch(grid(k::tile_extent<unsigned char>), k::transpose_threads, [&] {
        k::transpose_kernel<bf16, unsigned char, aligned()>(rows, cols, 16.0f, x, same, narrow,
                                                            amax);
      });
      double largest = 0.0;
      for (std::size_t i = 0; i < e.rows * e.cols; ++i) {
        largest = std::max(largest, std::abs(x.at(i)));
        const unsigned char code = k::to_e4m3(static_cast<float>(x.at(i)) * 16.0f);
        CHECK(same[i] == code);
        CHECK(narrow[i % e.cols * e.rows + i / e.cols] == code);
      }
      CHECK(amax.at(0) == largest);
    };
    check(std::true_type(), {72, 136});
    check(std::false_type(), {67, 131});
  }

  TEST_CASE("softmax and its gradient, causal and not, on rows of odd lengths") {
    const auto check = [](auto causal, Extent e) {
      const auto cols = static_cast<int>(e.cols);
      const auto x = Array<bf16>::normal(e.rows * e.cols, 1);
      const auto dy = Array<bf16>::normal(e.rows * e.cols, 2);
      const Array<bf16> y(e.rows * e.cols);
      const Array<bf16> dx(e.rows * e.cols);
      const auto grid = static_cast<unsigned>(e.rows);
      emulation::launch(grid, k::softmax_threads,
                        [&] { k::softmax_kernel<causal()>(cols, 0.5f, x, y); });
      emulation::launch(grid, k::softmax_threads,
                        [&] { k::softmax_backward_kernel<causal()>(cols, 0.5f, dy, y, dx); });
      const auto seen = [&](std::size_t row) { return causal() ? row % e.cols + 1 : e.cols; };
      std::vector<double> sums(e.rows), products(e.rows);
      for (std::size_t i = 0; i < e.rows * e.cols; ++i) {
        if (i % e.cols < seen(i / e.cols)) {
          sums[i / e.cols] += std::exp(0.5 * x.at(i));
          products[i / e.cols] += dy.at(i) * y.at(i);
        }
      }
      CHECK(error_of(y, [&](std::size_t i) {
              return i % e.cols < seen(i / e.cols) ? std::exp(0.5 * x.at(i)) / sums[i / e.cols]
                                                   : 0.0;
            }) < bf16_error);
      CHECK(error_of(dx, [&](std::size_t i) {
              return i % e.cols < seen(i / e.cols)
                         ? 0.5 * y.at(i) * (dy.at(i) - products[i / e.cols])
                         : 0.0;
            }) < bf16_error);
    };
    check(std::false_type(), {5, 1031});
    check(std::true_type(), {40, 37});
  }

  TEST_CASE("the router keeps the highest eight of the softmax") {
    const Extent e{7, 100};
    const auto logits = Array<float>::normal(e.rows * e.cols, 1);
    const Array<float> probabilities(e.rows * e.cols);
    const Array<unsigned char> chosen(e.rows * e.cols);
    emulation::launch(
        blocks(e.rows, k::routing_threads / k::warp_threads), k::routing_threads, [&] {
          k::router_kernel<4>(static_cast<std::int64_t>(e.rows), static_cast<int>(e.cols), logits,
                              probabilities, chosen);
        });
    for (std::size_t row = 0; row < e.rows; ++row) {
      double sum = 0.0;
      for (std::size_t c = 0; c < e.cols; ++c) {
        sum += std::exp(logits.at(row * e.cols + c));
      }
      for (std::size_t c = 0; c < e.cols; ++c) {
        const std::size_t i = row * e.cols + c;
        std::size_t higher = 0;
        for (std::size_t other = 0; other < e.cols; ++other) {
          higher += logits.at(row * e.cols + other) > logits.at(i) ? 1 : 0;
        }
        CHECK(static_cast<bool>(chosen[i]) == (higher < 8));
        const double expected = higher < 8 ? std::exp(logits.at(i)) / sum : 0.0;
        CHECK(probabilities.at(i) == doctest::Approx(expected).epsilon(1e-4));
      }
    }
  }

  TEST_CASE("unpermuting what was permuted sums a token's copies") {
    const std::size_t tokens = 6;
    const std::size_t cols = 24;
    const std::int64_t rows = 12;
    const std::int64_t stride = 5;
    const auto x = Array<bf16>::normal(tokens * cols, 1);
    const auto weights = Array<float>::normal(static_cast<std::size_t>(rows), 2);
    const Array<bf16> permuted(static_cast<std::size_t>(rows) * cols);
    const Array<bf16> back(tokens * cols);
    emulation::launch(tokens, k::routing_threads, [&] {
      k::permute_kernel<true, 2>(rows, static_cast<int>(cols), stride, x, permuted);
    });
    emulation::launch(tokens, k::routing_threads, [&] {
      k::unpermute_kernel<true, 2>(rows, static_cast<int>(cols), stride, weights, permuted, back);
    });
    CHECK(error_of(back, [&](std::size_t i) {
            return x.at(i) * (weights.at(2 * (i / cols)) + weights.at(2 * (i / cols) + 1));
          }) < bf16_error);
  }

  TEST_CASE("the squares of a list of elements add up, with a tail") {
    const std::size_t count = 10'003;
    const auto x = Array<bf16>::normal(count, 1);
    const Array<float> sum(1);
    sum[0] = 0.0f;
    emulation::launch(2, k::sum_threads, [&] {
      k::square_sum_kernel<bf16>(static_cast<std::int64_t>(count), x, sum);
    });
    double expected = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
      expected += x.at(i) * x.at(i);
    }
    CHECK(sum.at(0) == doctest::Approx(expected).epsilon(1e-4));
  }

  TEST_CASE("the emulation finds a barrier that not all threads reach") {
    const auto diverging = [] {
      if (threadIdx.x < 32) {
        __syncthreads();
      }
    };
    CHECK_THROWS_AS(emulation::launch(1, 64, diverging), std::logic_error);
  }
}
