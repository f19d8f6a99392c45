// Three ways to time launches, chosen by how long one lasts.
//
//   under 50 µs      graph   a replay of k captured launches, less an empty graph
//   50 µs to 5 ms    gated   intervals between events queued behind a closed gate
//   above            events  intervals between events
//
// Intervals are taken between successive events of an unbroken chain, so that one event ends a
// sample and begins the next.
#pragma once

#include "device.hpp"

#include <cstddef>
#include <string_view>
#include <vector>

namespace predictor {

inline constexpr double graph_limit_seconds = 50e-6;
inline constexpr double gated_limit_seconds = 5e-3;

[[nodiscard]] Timer choose_timer(double seconds, bool capturable);
[[nodiscard]] std::string_view timer_name(Timer timer);

// The workload's calibration, made on the first call: loads every kernel, estimates the duration
// and captures the graph. Captures again when device memory moved.
[[nodiscard]] Calibration& calibrate(Device& device, Workload& workload, double timeout_seconds);

// Takes over a calibration that was agreed among ranks instead of making one. Only its graph is
// captured here, and again when device memory moved.
void calibrate_as(Device& device, Workload& workload, Timer timer, double seconds,
                  std::size_t enqueues_per_sample, double timeout_seconds);

// Seconds of one sample interval: the calibrated estimate.
[[nodiscard]] double sample_seconds(const Calibration& calibration);

// Seconds of one sample interval that are not the workload's: what an empty graph takes.
[[nodiscard]] double sample_overhead_seconds(const Device& device, const Calibration& calibration);

// The most samples one batch can hold: bounded by events and by what may queue behind a gate. Of a
// calibrated workload.
[[nodiscard]] std::size_t batch_capacity(const Workload& workload);

// Enqueues what one sample times, without events. `enqueued` counts enqueues so far.
void enqueue_sample(Device& device, Workload& workload, std::size_t& enqueued);

// Takes up to `count` samples (seconds of one enqueue) and waits for them. A gate that expired
// costs its batch and moves the workload to plain events.
[[nodiscard]] std::vector<double> take_batch(Device& device, Workload& workload, std::size_t count,
                                             double timeout_seconds, std::size_t& enqueued);

} // namespace predictor
