#include "harness/lockstep.hpp"

#include "errors.hpp"
#include "harness/timers.hpp"

#include <algorithm>

namespace predictor {
namespace {

// Samples between two alignments. Long replays follow each other without a gap.
std::size_t batch_size(std::size_t wanted) {
  constexpr std::size_t most = 24;
  return std::min({wanted, most, Device::event_count - 1});
}

// Samples that are queued behind the gate: as many launches as the driver takes without blocking
// the host, which has yet to open it. A replay counts with every launch in it.
std::size_t gated_size(const Workload& workload, std::size_t batch) {
  constexpr std::size_t queued = 256; // of the driver's 1024 entries; a call takes a few
  const std::size_t fitting = queued / workload.calibration->enqueues_per_sample;
  return std::min(batch, std::max<std::size_t>(fitting, 1));
}

void take_aligned(Device& device, Workload& workload, Workload& aligner, const LockstepPlan& plan,
                  std::size_t& enqueued, LockstepRound& round) {
  const std::size_t wanted = batch_size(plan.samples - round.samples_seconds.size());
  const std::size_t gated = gated_size(workload, wanted);
  const std::size_t count = workload.calibration->timer == Timer::graph ? wanted : gated;
  const auto take = [&](std::size_t sample) {
    enqueue_sample(device, workload, enqueued);
    device.record(sample + 1);
  };
  {
    const Gate gate(device);
    aligner.enqueue(0);
    device.record(0);
    for (std::size_t i = 0; i < gated; ++i) {
      take(i);
    }
  }
  for (std::size_t i = gated; i < count; ++i) {
    take(i);
  }
  device.wait(plan.timeout_seconds);
  round.gate_expired = round.gate_expired || device.gate_expired();
  const double overhead = sample_overhead_seconds(device, *workload.calibration);
  const auto launches = static_cast<double>(plan.enqueues_per_sample);
  for (std::size_t i = 0; i < count; ++i) {
    const double seconds = device.elapsed_seconds(i, i + 1) - overhead;
    round.samples_seconds.push_back(std::max(seconds, 0.0) / launches);
  }
}

void begin(Device& device, Workload& workload, Workload& aligner, double timeout_seconds) {
  device.begin_operation();
  workload.acquire();
  aligner.acquire();
  workload.acquire(); // the aligner's may have moved the memory
  workload.begin_round();
  device.wait(timeout_seconds);
}

} // namespace

double probe(Device& device, Workload& workload, Workload& aligner, std::size_t enqueues,
             double timeout_seconds) {
  return aborting_groups(device, [&] {
    begin(device, workload, aligner, timeout_seconds);
    aligner.enqueue(0);
    workload.enqueue(0); // connects the ranks and loads the kernels: nothing may load behind a gate
    device.wait(timeout_seconds);
    {
      const Gate gate(device);
      aligner.enqueue(0);
      device.record(0);
      for (std::size_t i = 0; i < enqueues; ++i) {
        workload.enqueue(i);
      }
      device.record(1);
    }
    device.wait(timeout_seconds);
    return device.elapsed_seconds(0, 1) / static_cast<double>(enqueues);
  });
}

LockstepRound sample_lockstep(Device& device, Workload& workload, Workload& aligner,
                              const LockstepPlan& plan) {
  if (plan.samples < 1 || plan.enqueues_per_sample < 1) {
    throw NativeError("a lockstep plan needs at least one sample of one launch");
  }
  return aborting_groups(device, [&] {
    begin(device, workload, aligner, plan.timeout_seconds);
    calibrate_as(device, workload, plan.timer, plan.seconds, plan.enqueues_per_sample,
                 plan.timeout_seconds);
    LockstepRound round;
    std::size_t enqueued = 0;
    round.wall_begin_seconds = device.host_seconds();
    while (round.samples_seconds.size() < plan.samples) {
      take_aligned(device, workload, aligner, plan, enqueued, round);
    }
    round.wall_end_seconds = device.host_seconds();
    round.launches = enqueued * workload.launches_per_enqueue;
    return round;
  });
}

} // namespace predictor
