#include "operators/attention/ahead.hpp"

#include "errors.hpp"

#include <utility>

namespace predictor {

void PlansAhead::begin(const std::vector<AttentionShape>& shapes, Build build) {
  wait();
  earlier_ = std::exchange(latest_, {}); // gives up older plans here, not beside a measurement
  building_ = std::async(std::launch::async, [this, shapes, build = std::move(build)] {
    for (const AttentionShape& shape : shapes) {
      if (find(shape)) {
        continue;
      }
      try {
        keep(shape, build(shape));
      } catch (const NativeError&) { // told by whoever needs the plan
      }
    }
  });
}

void PlansAhead::wait() {
  if (building_.valid()) {
    building_.get();
  }
}

std::shared_ptr<AttentionPlan> PlansAhead::find(const AttentionShape& shape) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const Plans* plans : {&latest_, &earlier_}) {
    if (const auto found = plans->find(shape); found != plans->end()) {
      return found->second;
    }
  }
  return nullptr;
}

void PlansAhead::keep(const AttentionShape& shape, std::shared_ptr<AttentionPlan> plan) {
  const std::lock_guard<std::mutex> lock(mutex_);
  latest_[shape] = std::move(plan);
}

} // namespace predictor
