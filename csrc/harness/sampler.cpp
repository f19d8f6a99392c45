#include "harness/sampler.hpp"

#include "errors.hpp"
#include "harness/statistics.hpp"
#include "harness/stopping.hpp"
#include "harness/timers.hpp"

#include <algorithm>

namespace predictor {
namespace {

constexpr double check_timeout_seconds = 60.0;
constexpr double sustained_sample_seconds = 5e-3;
constexpr double sustained_limit = 3.0;    // times sustained_seconds, then it counts as budget
constexpr std::size_t sustained_depth = 8; // samples in flight: the device never runs dry
constexpr std::size_t later_batch = 8;

void summarise_into(Round& round, const Workload& workload) {
  for (double& seconds : round.samples_seconds) {
    seconds /= static_cast<double>(workload.launches_per_enqueue);
  }
  const Summary summary = summarise(round.samples_seconds);
  round.median_seconds = summary.median;
  round.low_seconds = summary.low;
  round.high_seconds = summary.high;
  round.mad_seconds = summary.mad;
  round.p10_seconds = summary.p10;
  round.p90_seconds = summary.p90;
  round.lag1_autocorrelation = summary.lag1_autocorrelation;
  round.drift = summary.drift;
}

// A batch may take a quarter of the watchdog's time at most.
std::size_t within_watchdog(std::size_t count, double seconds, const SamplingPolicy& policy) {
  const double most = policy.timeout_seconds / 4 / std::max(seconds, 1e-9);
  return most < static_cast<double>(count)
             ? std::max<std::size_t>(1, static_cast<std::size_t>(most))
             : count;
}

std::size_t next_batch(const SamplingPolicy& policy, std::size_t taken, double seconds,
                       double seconds_left) {
  const std::size_t required = required_samples(policy, seconds);
  if (taken < required) {
    return within_watchdog(required - taken, seconds, policy);
  }
  const double fitting =
      std::clamp(seconds_left / std::max(seconds, 1e-9), 1.0, static_cast<double>(later_batch));
  return std::min(static_cast<std::size_t>(fitting), policy.max_samples - taken);
}

// Rounds back to back, each a burst: samples until the interval is narrow or the budget is spent.
void sample_burst(Device& device, Workload& workload, const SamplingPolicy& policy,
                  std::size_t& enqueued, Round& round) {
  std::vector<double>& samples = round.samples_seconds;
  for (;;) {
    const double seconds = sample_seconds(*workload.calibration);
    const double elapsed = device.host_seconds() - round.wall_begin_seconds;
    const std::size_t count =
        next_batch(policy, samples.size(), seconds, policy.round_seconds - elapsed);
    const auto batch = take_batch(device, workload, count, policy.timeout_seconds, enqueued);
    samples.insert(samples.end(), batch.begin(), batch.end());
    const auto reason =
        stop_reason(policy, samples, seconds, device.host_seconds() - round.wall_begin_seconds);
    if (reason) {
      round.stop_reason = *reason;
      return;
    }
  }
}

// One unbroken load. Events form a ring: sample i lies between events i and i + 1.
void sample_sustained(Device& device, Workload& workload, const SamplingPolicy& policy,
                      std::size_t& enqueued, Round& round) {
  const Calibration& calibration = *workload.calibration;
  const auto repeats = static_cast<std::size_t>(
      std::max(1.0, sustained_sample_seconds / std::max(sample_seconds(calibration), 1e-9)));
  const double per_sample = static_cast<double>(repeats * calibration.enqueues_per_sample);
  const double overhead =
      sample_overhead_seconds(device, calibration) * static_cast<double>(repeats);
  const auto event = [](std::size_t sample) { return sample % Device::event_count; };
  std::vector<double> intervals;
  std::size_t queued = 0;
  device.record(event(0));
  double loaded = 0.0;
  for (bool stop = false; !stop;) {
    for (; queued < intervals.size() + sustained_depth; ++queued) {
      for (std::size_t i = 0; i < repeats; ++i) {
        enqueue_sample(device, workload, enqueued);
      }
      device.record(event(queued + 1));
    }
    const std::size_t done = intervals.size();
    device.wait_event(event(done + 1), policy.timeout_seconds);
    intervals.push_back(device.elapsed_seconds(event(done), event(done + 1)));
    loaded += intervals.back();
    const bool steady = loaded >= policy.sustained_seconds && settled(intervals);
    stop = steady || loaded >= sustained_limit * policy.sustained_seconds;
    round.stop_reason = steady ? "settled" : "budget";
  }
  device.wait(policy.timeout_seconds);
  const std::size_t tail = tail_begin(intervals.size());
  round.tail_begin_seconds = round.wall_begin_seconds;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    if (i < tail) {
      round.tail_begin_seconds += intervals[i];
    } else {
      round.samples_seconds.push_back(std::max(intervals[i] - overhead, 0.0) / per_sample);
    }
  }
}

} // namespace

Round sample(Device& device, Workload& workload, const SamplingPolicy& policy) {
  validate(policy);
  device.begin_operation();
  workload.acquire();
  (void)calibrate(device, workload, policy.timeout_seconds);
  workload.begin_round();
  device.wait(policy.timeout_seconds);
  Round round;
  std::size_t enqueued = 0;
  round.wall_begin_seconds = device.host_seconds();
  round.tail_begin_seconds = round.wall_begin_seconds;
  if (policy.sustained_seconds > 0) {
    sample_sustained(device, workload, policy, enqueued, round);
  } else {
    sample_burst(device, workload, policy, enqueued, round);
  }
  round.wall_end_seconds = device.host_seconds();
  round.timer = timer_name(workload.calibration->timer);
  round.launches = enqueued * workload.launches_per_enqueue;
  summarise_into(round, workload);
  return round;
}

double check(Device& device, Workload& workload, std::uint64_t seed) {
  device.begin_operation();
  workload.acquire();
  const Calibration& calibration = calibrate(device, workload, check_timeout_seconds);
  workload.begin_check(seed);
  if (calibration.timer == Timer::graph && !workload.in_place()) {
    device.replay(*calibration.graph);
  } else {
    workload.enqueue(0);
  }
  device.wait(check_timeout_seconds);
  return workload.finish_check();
}

} // namespace predictor
