// Order statistics of a series of samples. Seconds in, seconds or pure numbers out.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace predictor {

struct Summary {
  double median = 0.0;
  double low = 0.0; // order-statistic interval of the median, at least 95 % for 6 samples and more
  double high = 0.0;
  double mad = 0.0; // median absolute deviation, unscaled
  double p10 = 0.0;
  double p90 = 0.0;
  double lag1_autocorrelation = 0.0;
  double drift = 0.0; // relative change from the first to the last sample by least squares
};

// Linear interpolation between order statistics; `sorted` ascending and not empty.
[[nodiscard]] double quantile(std::span<const double> sorted, double probability);

// Zero-based ranks whose samples enclose the median with 95 % confidence (binomial, exact).
[[nodiscard]] std::pair<std::size_t, std::size_t> median_interval_ranks(std::size_t count);

// Least-squares slope times the length, over the mean: 0.01 is one per cent slower at the end.
[[nodiscard]] double relative_drift(std::span<const double> samples);

[[nodiscard]] double lag1_autocorrelation(std::span<const double> samples);

// `samples` in the order they were taken; raises NativeError when there are none.
[[nodiscard]] Summary summarise(std::span<const double> samples);

} // namespace predictor
