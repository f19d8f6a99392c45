#include "errors.hpp"
#include "harness/stopping.hpp"

#include <doctest.h>
#include <vector>

using predictor::SamplingPolicy;

namespace {

// `count` samples spread evenly over ±width around one.
std::vector<double> spread(std::size_t count, double width, double seconds = 1.0) {
  std::vector<double> samples;
  for (std::size_t i = 0; i < count; ++i) {
    const double position = 2.0 * static_cast<double>(i) / static_cast<double>(count - 1) - 1.0;
    samples.push_back(seconds * (1.0 + width * position));
  }
  return samples;
}

} // namespace

TEST_SUITE("stopping") {
  TEST_CASE("too few samples never stop a round, however equal or late") {
    const SamplingPolicy policy;
    CHECK_FALSE(predictor::stop_reason(policy, spread(19, 0.0), 1e-3, 9.0));
    CHECK(predictor::stop_reason(policy, spread(20, 0.0), 1e-3, 0.0) == "converged");
  }

  TEST_CASE("slow samples need only five") {
    const SamplingPolicy policy;
    CHECK(predictor::required_samples(policy, policy.round_seconds / 20) == 20);
    CHECK(predictor::required_samples(policy, policy.round_seconds / 19) == 5);
    CHECK(predictor::required_samples({.min_samples = 3}, 1.0) == 3);
  }

  TEST_CASE("a wide interval goes on until the budget or the most samples") {
    const SamplingPolicy policy{.max_samples = 40};
    CHECK_FALSE(predictor::stop_reason(policy, spread(30, 0.5), 1e-3, 0.0));
    CHECK(predictor::stop_reason(policy, spread(30, 0.5), 1e-3, 0.03) == "budget");
    CHECK(predictor::stop_reason(policy, spread(40, 0.5), 1e-3, 0.0) == "max_samples");
  }

  TEST_CASE("launches under 20 µs may be twice as uncertain") {
    const SamplingPolicy policy;
    const double width = 0.03; // half width of the interval: 9/19 of it for 20 samples, not 1 %
    const double narrow = 0.016;
    CHECK_FALSE(predictor::stop_reason(policy, spread(20, width, 10e-6), 1e-3, 0.0));
    CHECK(predictor::stop_reason(policy, spread(20, narrow, 10e-6), 1e-3, 0.0) == "converged");
    CHECK_FALSE(predictor::stop_reason(policy, spread(20, narrow, 30e-6), 1e-3, 0.0));
  }

  TEST_CASE("a load is settled when its last third is flat") {
    std::vector<double> samples(90, 1.0);
    CHECK(predictor::tail_begin(90) == 60);
    for (std::size_t i = 0; i < 60; ++i) {
      samples[i] = 0.9;
    }
    CHECK(predictor::settled(samples));
    samples[89] = 1.5;
    CHECK_FALSE(predictor::settled(samples));
    CHECK_FALSE(predictor::settled(std::vector<double>(9, 1.0)));
  }

  TEST_CASE("a policy that makes no sense names its value") {
    CHECK_THROWS_WITH_AS(predictor::validate({.round_seconds = 0.0}),
                         "SamplingPolicy: round_seconds (0) must be positive",
                         predictor::NativeError);
    CHECK_THROWS_AS(predictor::validate({.min_samples = 50, .max_samples = 40}),
                    predictor::NativeError);
  }
}
