// How long to sample, and what a round of sampling found.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace predictor {

struct SamplingPolicy {
  double round_seconds = 0.03; // budget of one round
  std::size_t min_samples = 20;
  std::size_t max_samples = 2000;
  double relative_half_width = 0.005;      // of the median's interval, at which to stop
  double short_relative_half_width = 0.01; // the same for launches under 20 µs
  double sustained_seconds = 0.0;          // > 0: one load until its slope is flat
  double timeout_seconds = 20.0;           // host watchdog over one wait
};

// Raises NativeError naming the first value that makes no sense.
void validate(const SamplingPolicy& policy);

struct Round {
  std::vector<double> samples_seconds; // per launch, in the order they were taken
  double median_seconds = 0.0;
  double low_seconds = 0.0;
  double high_seconds = 0.0;
  double mad_seconds = 0.0;
  double p10_seconds = 0.0;
  double p90_seconds = 0.0;
  double lag1_autocorrelation = 0.0;
  double drift = 0.0;
  std::string timer;
  std::string stop_reason;
  std::size_t launches = 0;        // in the loaded window, the discarded lead-in included
  double wall_begin_seconds = 0.0; // host clock: the loaded window
  double wall_end_seconds = 0.0;
  double tail_begin_seconds = 0.0; // host clock: start of what the samples cover
};

} // namespace predictor
