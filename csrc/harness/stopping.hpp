// When a round has enough samples.
#pragma once

#include "harness/policy.hpp"

#include <optional>
#include <span>

namespace predictor {

// Launches shorter than this are held to `short_relative_half_width`.
inline constexpr double short_launch_seconds = 20e-6;

// The fewest samples a round may end with: `min_samples`, but 5 where one sample takes more than a
// twentieth of the round.
[[nodiscard]] std::size_t required_samples(const SamplingPolicy& policy, double sample_seconds);

// "converged", "max_samples" or "budget" once the round may end; nothing while it must go on.
[[nodiscard]] std::optional<std::string> stop_reason(const SamplingPolicy& policy,
                                                     std::span<const double> samples,
                                                     double sample_seconds, double elapsed_seconds);

// Whether a sustained load is steady: the last third drifts by less than 0.5 %.
[[nodiscard]] bool settled(std::span<const double> samples);

// Index of the first sample of the last third.
[[nodiscard]] std::size_t tail_begin(std::size_t count);

} // namespace predictor
