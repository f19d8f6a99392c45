#include "harness/timers.hpp"

#include "harness/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

namespace predictor {
namespace {

constexpr double replay_seconds = 1.2e-3;    // of one graph replay: 25 fit into a 30 ms round
constexpr double long_replay_seconds = 5e-3; // the most, where there are many buffer sets to walk
constexpr double interval_seconds = 0.5e-3;  // of one gated sample: hides an event's microsecond
constexpr double estimate_seconds = 0.5e-3;  // long enough to trust an estimate
constexpr std::size_t max_graph_enqueues = 2048;
// Behind a closed gate the driver's queue (1024 entries) must not fill up, or the host would block
// before it can open the gate. A prepared workload enqueues a dozen kernels at most, a callable as
// many as it says.
constexpr std::size_t max_gated_enqueues = 32;
constexpr std::size_t max_gated_launches = 512;
constexpr std::size_t empty_replays = 32;

std::size_t ceil_ratio(double total, double part, std::size_t limit) {
  const double ratio = std::ceil(total / std::max(part, 1e-9));
  return static_cast<std::size_t>(std::clamp(ratio, 1.0, static_cast<double>(limit)));
}

std::size_t gate_capacity(const Workload& workload) {
  return std::clamp<std::size_t>(max_gated_launches / workload.launches_per_enqueue, 1,
                                 max_gated_enqueues);
}

std::vector<double> intervals(Device& device, std::size_t count) {
  std::vector<double> seconds;
  for (std::size_t i = 0; i < count; ++i) {
    seconds.push_back(device.elapsed_seconds(i, i + 1));
  }
  return seconds;
}

double estimate(Device& device, Workload& workload, double timeout_seconds) {
  workload.begin_round(); // labels and indices must be legal before the first launch
  workload.enqueue(0);    // loads the kernels: nothing may load behind a gate
  device.wait(timeout_seconds);
  const std::size_t most = gate_capacity(workload);
  for (std::size_t enqueues = 1;; enqueues = std::min(enqueues * 4, most)) {
    {
      std::optional<Gate> gate;
      if (!workload.blocks_host()) {
        gate.emplace(device);
      }
      device.record(0);
      for (std::size_t i = 0; i < enqueues; ++i) {
        workload.enqueue(i);
      }
      device.record(1);
    }
    device.wait(timeout_seconds);
    const double seconds = device.elapsed_seconds(0, 1);
    if (seconds >= estimate_seconds || enqueues == most) {
      return seconds / static_cast<double>(enqueues);
    }
  }
}

void capture_graph(Device& device, Workload& workload, Calibration& calibration) {
  // The replaced graph goes first: two of them need not be alive at once.
  calibration.graph.reset();
  calibration.graph = device.capture([&] {
    for (std::size_t i = 0; i < calibration.enqueues_per_sample; ++i) {
      workload.enqueue(i);
    }
  });
  calibration.memory_generation = device.memory_generation();
}

double empty_graph_seconds(Device& device, double timeout_seconds) {
  if (!device.empty_graph_seconds) {
    const auto empty = device.capture([] {});
    device.replay(*empty);
    device.wait(timeout_seconds);
    {
      const Gate gate(device);
      device.record(0);
      for (std::size_t i = 0; i < empty_replays; ++i) {
        device.replay(*empty);
        device.record(i + 1);
      }
    }
    device.wait(timeout_seconds);
    device.empty_graph_seconds = summarise(intervals(device, empty_replays)).median;
  }
  return *device.empty_graph_seconds;
}

// One replay behind another, which covers the host's launch of it.
double replay_estimate(Device& device, Graph& graph, double timeout_seconds) {
  device.replay(graph);
  device.record(0);
  device.replay(graph);
  device.record(1);
  device.wait(timeout_seconds);
  return device.elapsed_seconds(0, 1);
}

void calibrate_graph(Device& device, Workload& workload, Calibration& calibration,
                     double timeout_seconds) {
  // A launch a buffer set, so that a cold replay walks them all.
  const auto enqueues = [&](double seconds) {
    return std::clamp(workload.buffer_sets, ceil_ratio(replay_seconds, seconds, max_graph_enqueues),
                      ceil_ratio(long_replay_seconds, seconds, max_graph_enqueues));
  };
  const double empty = empty_graph_seconds(device, timeout_seconds);
  calibration.enqueues_per_sample = enqueues(calibration.seconds);
  capture_graph(device, workload, calibration);
  const double replay = replay_estimate(device, *calibration.graph, timeout_seconds);
  const double count = static_cast<double>(calibration.enqueues_per_sample);
  calibration.seconds = std::max(replay - empty, 0.1 * replay) / count;
  if (replay < replay_seconds / 2 && calibration.enqueues_per_sample < max_graph_enqueues) {
    calibration.enqueues_per_sample = enqueues(calibration.seconds);
    capture_graph(device, workload, calibration);
  }
}

void enqueue_chain(Device& device, Workload& workload, std::size_t count, std::size_t& enqueued) {
  device.record(0);
  for (std::size_t i = 0; i < count; ++i) {
    enqueue_sample(device, workload, enqueued);
    device.record(i + 1);
  }
}

} // namespace

Timer choose_timer(double seconds, bool capturable) {
  if (seconds >= gated_limit_seconds) {
    return Timer::events;
  }
  return seconds < graph_limit_seconds && capturable ? Timer::graph : Timer::gated;
}

std::string_view timer_name(Timer timer) {
  switch (timer) {
  case Timer::graph:
    return "graph";
  case Timer::gated:
    return "gated";
  case Timer::events:
    return "events";
  }
  return "";
}

Calibration& calibrate(Device& device, Workload& workload, double timeout_seconds) {
  if (!workload.calibration) {
    Calibration fresh;
    fresh.seconds = estimate(device, workload, timeout_seconds);
    fresh.timer = workload.blocks_host() || device.gate_expired()
                      ? Timer::events
                      : choose_timer(fresh.seconds, workload.capturable());
    if (fresh.timer == Timer::gated) {
      fresh.enqueues_per_sample = ceil_ratio(interval_seconds, fresh.seconds,
                                             std::max<std::size_t>(gate_capacity(workload) / 2, 1));
    } else if (fresh.timer == Timer::graph) {
      calibrate_graph(device, workload, fresh, timeout_seconds);
    }
    workload.calibration = std::move(fresh);
  }
  Calibration& calibration = *workload.calibration;
  if (calibration.timer == Timer::graph &&
      calibration.memory_generation != device.memory_generation()) {
    capture_graph(device, workload, calibration);
  }
  return calibration;
}

void calibrate_as(Device& device, Workload& workload, Timer timer, double seconds,
                  std::size_t enqueues_per_sample, double timeout_seconds) {
  std::optional<Calibration>& kept = workload.calibration;
  if (!kept || kept->timer != timer || kept->enqueues_per_sample != enqueues_per_sample) {
    kept.emplace();
    kept->timer = timer;
    kept->seconds = seconds;
    kept->enqueues_per_sample = enqueues_per_sample;
    if (timer == Timer::graph) {
      (void)empty_graph_seconds(device, timeout_seconds);
      capture_graph(device, workload, *kept);
    }
  }
  (void)calibrate(device, workload, timeout_seconds);
}

double sample_seconds(const Calibration& calibration) {
  return calibration.seconds * static_cast<double>(calibration.enqueues_per_sample);
}

double sample_overhead_seconds(const Device& device, const Calibration& calibration) {
  return calibration.timer == Timer::graph ? device.empty_graph_seconds.value_or(0.0) : 0.0;
}

std::size_t batch_capacity(const Workload& workload) {
  const std::size_t by_events = Device::event_count - 1;
  const Calibration& calibration = *workload.calibration;
  return calibration.timer == Timer::gated
             ? std::min(by_events, gate_capacity(workload) / calibration.enqueues_per_sample)
             : by_events;
}

void enqueue_sample(Device& device, Workload& workload, std::size_t& enqueued) {
  const Calibration& calibration = *workload.calibration;
  if (calibration.timer == Timer::graph) {
    device.replay(*calibration.graph);
    enqueued += calibration.enqueues_per_sample;
    return;
  }
  for (std::size_t i = 0; i < calibration.enqueues_per_sample; ++i) {
    workload.enqueue(enqueued++);
  }
}

std::vector<double> take_batch(Device& device, Workload& workload, std::size_t count,
                               double timeout_seconds, std::size_t& enqueued) {
  Calibration& calibration = *workload.calibration;
  count = std::clamp<std::size_t>(count, 1, batch_capacity(workload));
  if (calibration.timer == Timer::gated) {
    const Gate gate(device);
    enqueue_chain(device, workload, count, enqueued);
  } else {
    enqueue_sample(device, workload, enqueued); // lead-in: covers the host's launches
    enqueue_chain(device, workload, count, enqueued);
  }
  device.wait(timeout_seconds);
  if (calibration.timer == Timer::gated && device.gate_expired()) {
    calibration.timer = Timer::events;
    return {};
  }
  const double overhead = sample_overhead_seconds(device, calibration);
  std::vector<double> samples = intervals(device, count);
  for (double& seconds : samples) {
    seconds =
        std::max(seconds - overhead, 0.0) / static_cast<double>(calibration.enqueues_per_sample);
  }
  return samples;
}

} // namespace predictor
