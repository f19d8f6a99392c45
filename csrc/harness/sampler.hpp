// One round of samples of one workload, and its check.
#pragma once

#include "device.hpp"
#include "harness/policy.hpp"

#include <cstdint>

namespace predictor {

// Raises DeviceTimeout, DeviceFault, or whatever a callable raises. The shuffling of points, the
// idle time between rounds and the statistics over rounds are the caller's.
[[nodiscard]] Round sample(Device& device, Workload& workload, const SamplingPolicy& policy);

// Relative Frobenius error of what the timed replay wrote; of a single launch where launches
// change their inputs in place. Infinite if an output was not written.
[[nodiscard]] double check(Device& device, Workload& workload, std::uint64_t seed);

} // namespace predictor
