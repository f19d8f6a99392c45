#include "harness/trace.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "harness/statistics.hpp"
#include "harness/timers.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace predictor {
namespace {

constexpr double traced_seconds = 4e-3;
constexpr double fewest_enqueues = 5;
constexpr double most_enqueues = 64;

double busy_seconds(const std::vector<Activity>& activities, std::size_t begin, std::size_t end) {
  double total = 0.0;
  for (std::size_t i = begin; i < end; ++i) {
    total += activities[i].end_seconds - activities[i].begin_seconds;
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
    seconds.push_back(busy_seconds(found, i * each, (i + 1) * each));
  }
  const double median = seconds.empty()
                            ? busy_seconds(found, 0, found.size()) / static_cast<double>(enqueues)
                            : summarise(seconds).median;
  return {.seconds = median / static_cast<double>(workload.launches_per_enqueue),
          .activities = std::max<std::size_t>(each, 1)};
}

} // namespace predictor
