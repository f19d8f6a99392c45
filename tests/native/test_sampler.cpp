#include "errors.hpp"
#include "harness/sampler.hpp"
#include "harness/timers.hpp"
#include "mock/mock_device.hpp"

#include <doctest.h>

using doctest::Approx;
using predictor::Request;
using predictor::Round;
using predictor::SamplingPolicy;

namespace {

// On the mock a byte takes a picosecond and a launch 5 µs.
Request lasting(double seconds) {
  return {.op = "memory_bound",
          .fields = predictor::Fields({{"kernel", std::string("copy")}}),
          .bytes = (seconds - 5e-6) * 1e12,
          .working_set_bytes = 1e6};
}

Round sample_once(double seconds, const SamplingPolicy& policy = {}, std::uint64_t seed = 0) {
  const auto device = predictor::make_mock_device(seed);
  const auto workload = device->prepare(lasting(seconds));
  return predictor::sample(*device, *workload, policy);
}

} // namespace

TEST_SUITE("sampler") {
  TEST_CASE("the timer follows the duration, and every timer finds it") {
    for (const auto& [seconds, timer] :
         {std::pair{8e-6, "graph"}, std::pair{49e-6, "graph"}, std::pair{55e-6, "gated"},
          std::pair{4.5e-3, "gated"}, std::pair{6e-3, "events"}, std::pair{0.2, "events"}}) {
      CAPTURE(seconds);
      const Round round = sample_once(seconds);
      CHECK(round.timer == timer);
      CHECK(round.median_seconds == Approx(seconds).epsilon(0.015)); // noise: 3 × (0.3 + 0.2) %
      CHECK(round.low_seconds <= round.median_seconds);
      CHECK(round.median_seconds <= round.high_seconds);
    }
  }

  TEST_CASE("what cannot be captured is gated, however short") {
    CHECK(predictor::choose_timer(10e-6, false) == predictor::Timer::gated);
    CHECK(predictor::choose_timer(10e-6, true) == predictor::Timer::graph);
  }

  TEST_CASE("a round ends converged with the samples it needs") {
    const Round round = sample_once(100e-6);
    CHECK(round.stop_reason == "converged");
    CHECK(round.samples_seconds.size() >= 20);
    CHECK(round.samples_seconds.size() < 200);
  }

  TEST_CASE("an unreachable precision spends the budget and no more") {
    const SamplingPolicy policy{.relative_half_width = 1e-9};
    const Round round = sample_once(100e-6, policy);
    CHECK(round.stop_reason == "budget");
    const double loaded = round.wall_end_seconds - round.wall_begin_seconds;
    CHECK(loaded == Approx(policy.round_seconds).epsilon(0.25));
  }

  TEST_CASE("the most samples are not exceeded") {
    const SamplingPolicy policy{.max_samples = 22, .relative_half_width = 1e-9};
    const Round round = sample_once(100e-6, policy);
    CHECK(round.stop_reason == "max_samples");
    CHECK(round.samples_seconds.size() == 22);
  }

  TEST_CASE("a slow launch gets five samples even beyond the budget") {
    CHECK(sample_once(0.2, {.relative_half_width = 1e-9}).samples_seconds.size() == 5);
  }

  TEST_CASE("a sustained load reports its settled tail") {
    const Round round = sample_once(100e-6, {.sustained_seconds = 4.0});
    CHECK(round.stop_reason == "settled");
    CHECK(round.median_seconds == Approx(110e-6).epsilon(0.015)); // the mock's heat
    CHECK(round.tail_begin_seconds > round.wall_begin_seconds + 2.0);
    CHECK(round.tail_begin_seconds < round.wall_end_seconds);
    CHECK(round.wall_end_seconds - round.wall_begin_seconds >= 4.0);
  }

  TEST_CASE("a load goes on beyond its time until its slope is flat") {
    const Round round = sample_once(100e-6, {.sustained_seconds = 1.3}); // it heats from 1 s on
    CHECK(round.stop_reason == "settled");
    CHECK(round.wall_end_seconds - round.wall_begin_seconds > 1.5);
  }

  TEST_CASE("the seed decides the rounds, and rounds differ") {
    const auto medians = [](std::uint64_t seed) {
      const auto device = predictor::make_mock_device(seed);
      const auto workload = device->prepare(lasting(1e-4));
      return std::pair{predictor::sample(*device, *workload, {}).median_seconds,
                       predictor::sample(*device, *workload, {}).median_seconds};
    };
    CHECK(medians(1) == medians(1));
    CHECK(medians(1) != medians(2));
    CHECK(medians(1).first != medians(1).second);
  }

  TEST_CASE("a callable's seconds are split over its launches") {
    const auto device = predictor::make_mock_device(0);
    std::size_t calls = 0;
    const auto workload = device->prepare_callable([&] { ++calls; }, 10, 1e-3);
    const Round round = predictor::sample(*device, *workload, {});
    CHECK(round.median_seconds == Approx(1e-4).epsilon(0.015));
    CHECK(round.timer == "gated");
    CHECK(calls * 10 >= round.launches);
  }

  TEST_CASE("a callable's exception comes out and the device goes on") {
    const auto device = predictor::make_mock_device(0);
    const auto broken = device->prepare_callable([] { throw std::runtime_error("mine"); }, 1, 0.0);
    CHECK_THROWS_WITH((void)predictor::sample(*device, *broken, {}), "mine");
    const auto workload = device->prepare(lasting(1e-4));
    CHECK(predictor::sample(*device, *workload, {}).median_seconds == Approx(1e-4).epsilon(0.015));
  }

  TEST_CASE("injected failures strike at their call") {
    const auto device = predictor::make_mock_device(0);
    device->inject("oom", 2);
    device->inject("throw", 2);
    device->inject("hang", 3);
    device->inject("fault", 4);
    const auto workload = device->prepare(lasting(1e-4));
    CHECK_THROWS_AS((void)device->prepare(lasting(1e-4)), predictor::OutOfDeviceMemory);
    CHECK_NOTHROW((void)predictor::sample(*device, *workload, {}));
    CHECK_THROWS_AS((void)predictor::sample(*device, *workload, {}), predictor::NativeError);
    CHECK_THROWS_AS((void)predictor::sample(*device, *workload, {}), predictor::DeviceTimeout);
    CHECK_THROWS_AS((void)predictor::sample(*device, *workload, {}), predictor::DeviceFault);
    CHECK_NOTHROW((void)predictor::sample(*device, *workload, {}));
    CHECK_THROWS_AS(device->inject("fire", 1), predictor::NativeError);
  }

  TEST_CASE("the check of the mock is exact") {
    const auto device = predictor::make_mock_device(0);
    const auto workload = device->prepare(lasting(1e-5));
    CHECK(predictor::check(*device, *workload, 1) == 0.0);
  }
}
