// What the device really ran, as the profiler's activity records tell it.
#pragma once

#include "device.hpp"

#include <functional>
#include <vector>

namespace predictor {

// Runs `work`, which must wait for the device before it returns, and gives the kernels, copies and
// fills that the device ran meanwhile, by the time they began. Once this was called, launches of
// the process stay slower: time nothing afterwards. Raises LibraryMissing without CUPTI and
// NativeError where CUPTI refuses (another profiler holds the device).
[[nodiscard]] std::vector<Activity> record_activity_with_cupti(const std::function<void()>& work);

} // namespace predictor
