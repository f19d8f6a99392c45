#include "harness/statistics.hpp"

#include "errors.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace predictor {
namespace {

double mean_of(std::span<const double> samples) {
  return std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
}

std::vector<double> sorted_copy(std::span<const double> samples) {
  std::vector<double> sorted(samples.begin(), samples.end());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

} // namespace

double quantile(std::span<const double> sorted, double probability) {
  const double position = probability * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

std::pair<std::size_t, std::size_t> median_interval_ranks(std::size_t count) {
  // Drop r samples a side while P(Binomial(count, 1/2) < r) <= 0.025.
  const double n = static_cast<double>(count);
  double below = 0.0;
  std::size_t dropped = 0;
  while (dropped < (count - 1) / 2) {
    const double k = static_cast<double>(dropped);
    below += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) -
                      n * std::log(2.0));
    if (below > 0.025) {
      break;
    }
    ++dropped;
  }
  const std::size_t low = dropped == 0 ? 0 : dropped - 1;
  return {low, count - 1 - low};
}

double relative_drift(std::span<const double> samples) {
  if (samples.size() < 2) {
    return 0.0;
  }
  const double last = static_cast<double>(samples.size() - 1);
  const double mean = mean_of(samples);
  double covariance = 0.0;
  double variance = 0.0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double x = static_cast<double>(i) - last / 2;
    covariance += x * (samples[i] - mean);
    variance += x * x;
  }
  return mean == 0.0 ? 0.0 : covariance / variance * last / mean;
}

double lag1_autocorrelation(std::span<const double> samples) {
  if (samples.size() < 3) {
    return 0.0;
  }
  const double mean = mean_of(samples);
  double lagged = 0.0;
  double variance = 0.0;
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const double deviation = samples[i] - mean;
    variance += deviation * deviation;
    lagged += i == 0 ? 0.0 : deviation * (samples[i - 1] - mean);
  }
  return variance == 0.0 ? 0.0 : lagged / variance;
}

Summary summarise(std::span<const double> samples) {
  if (samples.empty()) {
    throw NativeError("no samples to summarise");
  }
  const std::vector<double> sorted = sorted_copy(samples);
  const auto [low, high] = median_interval_ranks(sorted.size());
  Summary summary{.median = quantile(sorted, 0.5),
                  .low = sorted[low],
                  .high = sorted[high],
                  .p10 = quantile(sorted, 0.1),
                  .p90 = quantile(sorted, 0.9),
                  .lag1_autocorrelation = lag1_autocorrelation(samples),
                  .drift = relative_drift(samples)};
  std::vector<double> deviations;
  for (const double sample : samples) {
    deviations.push_back(std::abs(sample - summary.median));
  }
  std::sort(deviations.begin(), deviations.end());
  summary.mad = quantile(deviations, 0.5);
  return summary;
}

} // namespace predictor
