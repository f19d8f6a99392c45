// A second opinion on the timers: what the profiler saw the device run.
#pragma once

#include "device.hpp"

#include <cstddef>

namespace predictor {

struct Trace {
  double seconds = 0.0;       // per launch: time in kernels, copies and fills, gaps left out
  std::size_t activities = 0; // of one enqueue
};

// Raises NativeError for an empty trace, and whatever Device::record_activity does. It slows later
// launches of the process, so nothing is timed after it.
[[nodiscard]] Trace trace(Device& device, Workload& workload, double timeout_seconds);

} // namespace predictor
