// Sampling a collective: every rank launches the same number of times, as the caller agreed among
// them, because a rank that stops early would leave the others waiting.
//
// A batch begins behind a gate with a small collective, the aligner, so that all ranks start their
// first sample together; sample i of a round is then the same collective on every rank.
#pragma once

#include "device.hpp"

#include <cstddef>
#include <string>
#include <vector>

namespace predictor {

struct LockstepPlan {
  Timer timer = Timer::events;
  double seconds = 0.0; // expected, of one launch
  std::size_t enqueues_per_sample = 1;
  std::size_t samples = 20;
  double timeout_seconds = 20.0; // host watchdog over one wait
};

struct LockstepRound {
  std::vector<double> samples_seconds; // per launch, in order
  std::size_t launches = 0;
  bool gate_expired = false;       // the host was slower than the gate's patience
  double wall_begin_seconds = 0.0; // host clock: the loaded window
  double wall_end_seconds = 0.0;
};

// Seconds of one launch, over `enqueues` of them after a first one that loads what it needs.
[[nodiscard]] double probe(Device& device, Workload& workload, Workload& aligner,
                           std::size_t enqueues, double timeout_seconds);

// Raises DeviceTimeout where a peer does not answer; the groups are aborted then.
[[nodiscard]] LockstepRound sample_lockstep(Device& device, Workload& workload, Workload& aligner,
                                            const LockstepPlan& plan);

// Runs the work; where it times out, ends the collectives that wait for lost peers.
template <typename Work>
auto aborting_groups(Device& device, Work work) {
  try {
    return work();
  } catch (...) {
    device.abort_groups();
    throw;
  }
}

} // namespace predictor
