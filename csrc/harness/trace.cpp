#include "harness/trace.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "harness/statistics.hpp"
#include "harness/timers.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace predictor {
namespace {

constexpr double traced_seconds = 4e-3;
constexpr double fewest_enqueues = 5;
constexpr double most_enqueues = 64;

// Seconds in which at least one activity ran: streams of one call may overlap.
double busy_seconds(std::vector<Activity> activities) {
  std::ranges::sort(activities, {}, &Activity::begin_seconds);
  double total = 0.0;
  double covered = -std::numeric_limits<double>::infinity();
  for (const Activity& each : activities) {
    total += std::max(0.0, each.end_seconds - std::max(covered, each.begin_seconds));
    covered = std::max(covered, each.end_seconds);
  }
  return total;
}

} // namespace

Trace trace(Device& device, Workload& workload, double timeout_seconds) {
  device.begin_operation();
  workload.acquire();
  const Calibration& calibration = calibrate(device, workload, timeout_seconds);
  workload.begin_round();
  device.wait(timeout_seconds);
  const auto enqueues = static_cast<std::size_t>(
      std::clamp(std::ceil(traced_seconds / calibration.seconds), fewest_enqueues, most_enqueues));
  const std::vector<Activity> found = device.record_activity([&] {
    for (std::size_t i = 0; i < enqueues; ++i) {
      workload.enqueue(i);
    }
    device.wait(timeout_seconds);
  });
  if (found.empty()) {
    throw NativeError(text("empty trace: ", enqueues, " calls of ", workload.description,
                           " left no activity record"));
  }
  const std::size_t each = found.size() / enqueues;
  std::vector<double> seconds;
  for (std::size_t i = 0; i < enqueues && each * enqueues == found.size(); ++i) {
    const auto first = found.begin() + static_cast<std::ptrdiff_t>(i * each);
    seconds.push_back(busy_seconds({first, first + static_cast<std::ptrdiff_t>(each)}));
  }
  const double median = seconds.empty() ? busy_seconds(found) / static_cast<double>(enqueues)
                                        : summarise(seconds).median;
  return {.seconds = median / static_cast<double>(workload.launches_per_enqueue),
          .activities = std::max<std::size_t>(each, 1)};
}

} // namespace predictor
