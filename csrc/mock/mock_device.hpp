// A device without a GPU: a virtual clock, a toy GPU and failures on demand.
#pragma once

#include "device.hpp"

#include <cstdint>
#include <memory>

namespace predictor {

// A launch takes 5 µs + max(flops / 100 TFLOP/s, bytes / 1 TB/s), times a seeded noise of 0.3 % a
// round and 0.5 % a sample. After a second without a pause it slows towards 10 %, as a GPU that
// heats up does. A seed gives a workload the same rounds, whatever is measured between them.
[[nodiscard]] std::shared_ptr<Device> make_mock_device(std::uint64_t seed);

} // namespace predictor
