#include "harness/beside.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "harness/lockstep.hpp"

#include <algorithm>
#include <limits>

namespace predictor {
namespace {

constexpr std::size_t collective_events = Device::event_count / 2; // the first of lane 1
constexpr double outside = -1.0;
constexpr std::size_t most_gated = BesidePlan::most_calls; // half of what the driver queues

// One lane's loop: `calls` launches between two events.
struct Lane {
  Workload& workload;
  std::size_t calls;
  std::size_t first_event;
  std::size_t intervals;

  void begin(Device& device) const { device.record(first_event); }

  void enqueue(Device& device, std::size_t interval) const {
    for (std::size_t call = 0; call < calls; ++call) {
      workload.enqueue(interval * calls + call);
    }
    device.record(first_event + interval + 1);
  }

  // Intervals that fit behind the gate.
  [[nodiscard]] std::size_t gated() const {
    return std::min(intervals, most_gated / std::max<std::size_t>(calls, 1));
  }

  // Seconds since `origin` at which each interval began, and the last one ended; none of an idle
  // lane.
  [[nodiscard]] std::vector<double> edges(Device& device, std::size_t origin) const {
    std::vector<double> seconds;
    for (std::size_t i = 0; i <= intervals && calls > 0; ++i) {
      const std::size_t event = first_event + i;
      seconds.push_back(event == origin ? 0.0 : device.elapsed_seconds(origin, event));
    }
    return seconds;
  }
};

std::vector<double> inside(const std::vector<double>& edges, std::size_t calls, double begin,
                           double end) {
  std::vector<double> seconds;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const bool counts = edges[i] >= begin && edges[i + 1] <= end;
    seconds.push_back(counts ? (edges[i + 1] - edges[i]) / static_cast<double>(calls) : outside);
  }
  return seconds;
}

void begin_round(Device& device, Workload& compute, Workload& collective, Workload& aligner,
                 double timeout_seconds) {
  device.begin_operation();
  for (int turn = 0; turn < 2; ++turn) { // one's memory may move another's
    compute.acquire();
    collective.acquire();
    aligner.acquire();
  }
  compute.begin_round();
  collective.begin_round();
  device.wait(timeout_seconds);
}

BesideRound sample(Device& device, const Lane& compute, const Lane& collective, Workload& aligner,
                   double timeout_seconds) {
  BesideRound round;
  round.wall_begin_seconds = device.host_seconds();
  const auto enqueue = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) {
      device.use_lane(1);
      collective.enqueue(device, i);
      device.use_lane(0);
      compute.enqueue(device, i);
    }
  };
  const std::size_t gated = std::min(compute.gated(), collective.gated());
  {
    const Gate gate(device);
    aligner.enqueue(0);
    device.use_lane(1);
    device.follow_first_lane();
    collective.begin(device);
    device.use_lane(0);
    compute.begin(device);
    enqueue(0, gated);
  }
  enqueue(gated, collective.intervals); // of many launches each, behind which the host stays ahead
  device.use_lane(1);
  device.wait(timeout_seconds);
  device.use_lane(0);
  device.wait(timeout_seconds);
  round.wall_end_seconds = device.host_seconds();

  const std::size_t origin = compute.calls > 0 ? compute.first_event : collective.first_event;
  const auto compute_edges = compute.edges(device, origin);
  const auto collective_edges = collective.edges(device, origin);
  double begin = -std::numeric_limits<double>::infinity();
  double end = -begin;
  for (const auto* edges : {&compute_edges, &collective_edges}) {
    if (!edges->empty()) {
      begin = std::max(begin, edges->front());
      end = std::min(end, edges->back());
    }
  }
  round.compute_seconds = inside(compute_edges, compute.calls, begin, end);
  round.collective_seconds = inside(collective_edges, collective.calls, begin, end);
  return round;
}

} // namespace

BesideRound sample_beside(Device& device, Workload& compute, Workload& collective,
                          Workload& aligner, const BesidePlan& plan) {
  if (plan.intervals < 1 || plan.intervals > BesidePlan::most_intervals ||
      plan.compute_calls + plan.collective_calls == 0 ||
      std::max(plan.compute_calls, plan.collective_calls) > BesidePlan::most_calls) {
    throw NativeError(text("intervals (", plan.intervals, ") must be from 1 to ",
                           BesidePlan::most_intervals, ", and one side must be called, at most ",
                           BesidePlan::most_calls, " times an interval"));
  }
  return aborting_groups(device, [&] {
    begin_round(device, compute, collective, aligner, plan.timeout_seconds);
    return sample(device, {compute, plan.compute_calls, 0, plan.intervals},
                  {collective, plan.collective_calls, collective_events, plan.intervals}, aligner,
                  plan.timeout_seconds);
  });
}

} // namespace predictor
