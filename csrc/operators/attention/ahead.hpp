// Plans built beside other work: a new kind of plan takes a second of the driver's compiler, every
// other some 0.07 s of the host, and neither needs the device.
#pragma once

#include "operators/attention/plan.hpp"

#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace predictor {

class PlansAhead {
public:
  using Build = std::function<std::shared_ptr<AttentionPlan>(const AttentionShape&)>;

  // Begins to build plans in a thread of its own, once it is done with those asked for before;
  // keeps them and those of the call before. A shape whose plan cannot be built is left out:
  // whoever needs it builds it anew, and learns why.
  void begin(const std::vector<AttentionShape>& shapes, Build build);
  // Returns when nothing is being built.
  void wait();
  // None if there is no such plan, or not yet.
  [[nodiscard]] std::shared_ptr<AttentionPlan> find(const AttentionShape& shape) const;

private:
  using Plans = std::map<AttentionShape, std::shared_ptr<AttentionPlan>>;

  void keep(const AttentionShape& shape, std::shared_ptr<AttentionPlan> plan);

  mutable std::mutex mutex_; // of the plans
  Plans earlier_;
  Plans latest_;
  std::future<void> building_; // last: its end is waited for before the plans go
};

} // namespace predictor
