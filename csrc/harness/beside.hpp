// Two workloads beside each other: compute on lane 0, a collective on lane 1, each looped.
//
// Only intervals count that lie wholly in the window in which both lanes are busy.
#pragma once

#include "device.hpp"

#include <cstddef>
#include <vector>

namespace predictor {

struct BesidePlan {
  std::size_t compute_calls = 0;    // between two events; 0 leaves the lane idle
  std::size_t collective_calls = 0; // the same on every rank
  std::size_t intervals = 30;       // of each lane, at most `most_intervals`
  double timeout_seconds = 20.0;

  static constexpr std::size_t most_calls = 512; // of which one interval waits behind the gate
  static constexpr std::size_t most_intervals = Device::event_count / 2 - 1;
};

struct BesideRound {
  // Per call, in order; an interval outside the common window is negative.
  std::vector<double> compute_seconds;
  std::vector<double> collective_seconds;
  double wall_begin_seconds = 0.0;
  double wall_end_seconds = 0.0;
};

[[nodiscard]] BesideRound sample_beside(Device& device, Workload& compute, Workload& collective,
                                        Workload& aligner, const BesidePlan& plan);

} // namespace predictor
