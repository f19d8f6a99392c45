#include "harness/stopping.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "harness/statistics.hpp"

#include <algorithm>
#include <cmath>

namespace predictor {
namespace {

constexpr std::size_t fewest_samples = 5;
constexpr double settled_drift = 0.005;

void require(bool holds, const char* name, double value, const char* rule) {
  if (!holds) {
    throw NativeError(text("SamplingPolicy: ", name, " (", value, ") must be ", rule));
  }
}

bool converged(const SamplingPolicy& policy, std::span<const double> samples) {
  const Summary summary = summarise(samples);
  const double limit = summary.median < short_launch_seconds ? policy.short_relative_half_width
                                                             : policy.relative_half_width;
  return (summary.high - summary.low) / 2 < limit * summary.median;
}

} // namespace

void validate(const SamplingPolicy& policy) {
  require(policy.round_seconds > 0, "round_seconds", policy.round_seconds, "positive");
  require(policy.min_samples >= 1, "min_samples", static_cast<double>(policy.min_samples),
          "at least 1");
  require(policy.max_samples >= policy.min_samples, "max_samples",
          static_cast<double>(policy.max_samples), "at least min_samples");
  require(policy.relative_half_width > 0, "relative_half_width", policy.relative_half_width,
          "positive");
  require(policy.short_relative_half_width > 0, "short_relative_half_width",
          policy.short_relative_half_width, "positive");
  require(policy.sustained_seconds >= 0, "sustained_seconds", policy.sustained_seconds,
          "zero or more");
  require(policy.timeout_seconds > 0, "timeout_seconds", policy.timeout_seconds, "positive");
}

std::size_t required_samples(const SamplingPolicy& policy, double sample_seconds) {
  const bool slow = sample_seconds > policy.round_seconds / 20;
  return slow ? std::min(policy.min_samples, fewest_samples) : policy.min_samples;
}

std::optional<std::string> stop_reason(const SamplingPolicy& policy,
                                       std::span<const double> samples, double sample_seconds,
                                       double elapsed_seconds) {
  if (samples.size() < required_samples(policy, sample_seconds)) {
    return std::nullopt;
  }
  if (converged(policy, samples)) {
    return "converged";
  }
  if (samples.size() >= policy.max_samples) {
    return "max_samples";
  }
  if (elapsed_seconds >= policy.round_seconds) {
    return "budget";
  }
  return std::nullopt;
}

std::size_t tail_begin(std::size_t count) {
  return count - (count + 2) / 3;
}

bool settled(std::span<const double> samples) {
  const auto tail = samples.subspan(tail_begin(samples.size()));
  return tail.size() >= fewest_samples && std::abs(relative_drift(tail)) < settled_drift;
}

} // namespace predictor
