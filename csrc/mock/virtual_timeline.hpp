#pragma once

#include "device.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

namespace predictor {

inline constexpr double cool_seconds = 1.0; // of load before the clock falls
inline constexpr double heating_seconds = 0.3;
inline constexpr double hot_slowdown = 0.1;
// Where both lanes are busy.
inline constexpr std::array<double, Device::lane_count> lane_slowdown{1.1, 1.5};

// Host and device time. Work queues behind its lane's own end and behind a closed gate.
class VirtualTimeline {
public:
  [[nodiscard]] double host() const { return host_; }
  [[nodiscard]] double elapsed(std::size_t first, std::size_t last) const {
    return events_.at(last).seconds - events_.at(first).seconds;
  }

  void pass_on_host(double seconds) { host_ += seconds; }

  void run(double seconds, std::size_t lane) {
    double& free = free_.at(lane);
    if (!gated_ && host_ > free) { // the device ran dry
      free = host_;
      busy_since_ = host_;
    }
    const double hot = std::max(0.0, free - busy_since_ - cool_seconds);
    free += seconds * (1.0 + hot_slowdown * (1.0 - std::exp(-hot / heating_seconds)));
    used_.at(lane) = used_.at(lane) || seconds > 0.0;
  }

  void record(std::size_t event, std::size_t lane) {
    run(0.0, lane);
    events_.at(event) = {.seconds = free_.at(lane), .lane = lane, .gated = gated_};
  }

  void close_gate() {
    run(0.0, 0);
    gate_start_ = free_.front();
    gated_ = true;
    for (Event& event : events_) {
      event.gated = false;
    }
  }

  void open_gate() {
    if (!gated_) {
      return;
    }
    // Everything queued since the gate closed starts now instead.
    const double shift = std::max(0.0, host_ - gate_start_);
    for (Event& event : events_) {
      event.seconds += event.gated ? shift : 0.0;
    }
    for (double& free : free_) {
      free += shift;
    }
    fork_ += shift;
    busy_since_ = shift > 0.0 ? host_ : busy_since_;
    gated_ = false;
  }

  // Lane 1 goes on from where lane 0 is; what follows may run side by side.
  void fork() {
    free_.back() = std::max(free_.back(), free_.front());
    fork_ = free_.back();
    used_.fill(false);
    forked_ = true;
  }

  void wait_event(std::size_t event) { host_ = std::max(host_, events_.at(event).seconds); }

  void wait() {
    if (std::exchange(forked_, false) && used_.front() && used_.back()) {
      contend();
    }
    host_ = std::max({host_, free_.front(), free_.back()});
  }

private:
  struct Event {
    double seconds = 0.0;
    std::size_t lane = 0;
    bool gated = false;
  };

  // Stretches each lane's time since the fork, as both took from the other.
  void contend() {
    const auto stretched = [this](double seconds, std::size_t lane) {
      return seconds > fork_ ? fork_ + (seconds - fork_) * lane_slowdown.at(lane) : seconds;
    };
    for (Event& event : events_) {
      event.seconds = stretched(event.seconds, event.lane);
    }
    for (std::size_t lane = 0; lane < free_.size(); ++lane) {
      free_[lane] = stretched(free_[lane], lane);
    }
  }

  double host_ = 0.0;
  std::array<double, Device::lane_count> free_{}; // when each lane will have finished its queue
  double busy_since_ = 0.0;
  bool gated_ = false;
  double gate_start_ = 0.0;
  bool forked_ = false;
  double fork_ = 0.0;
  std::array<bool, Device::lane_count> used_{}; // since the fork
  std::array<Event, Device::event_count> events_{};
};

} // namespace predictor
