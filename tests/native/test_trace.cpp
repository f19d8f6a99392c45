#include "errors.hpp"
#include "harness/sampler.hpp"
#include "harness/trace.hpp"
#include "libraries/cupti.hpp"
#include "libraries/loader.hpp"
#include "mock/mock_device.hpp"

#include <cstdint>
#include <cstdlib>
#include <doctest.h>

using doctest::Approx;
using predictor::Request;

namespace {

Request lasting(double seconds) {
  return {.op = "memory_bound",
          .fields = predictor::Fields({{"kernel", std::string("copy")}}),
          .bytes = (seconds - 5e-6) * 1e12,
          .working_set_bytes = 1e6};
}

// The fake libcupti, opened by the loader as the real one is.
struct FakeCupti {
  FakeCupti() : library({"cupti", "PREDICTOR_CUPTI", "", "libcupti.so.13"}) {
    library.bind(kernel, "fake_kernel");
    library.bind(refuse, "fake_refuse");
  }
  predictor::Library library;
  void (*kernel)(std::uint32_t, std::uint64_t, std::uint64_t) = nullptr;
  void (*refuse)(int) = nullptr;
};

} // namespace

TEST_SUITE("trace") {
  TEST_CASE("the profiler agrees with every timer of the mock") {
    for (const double seconds : {8e-6, 200e-6, 8e-3}) { // graph, gated, events
      CAPTURE(seconds);
      const auto device = predictor::make_mock_device(0);
      const auto workload = device->prepare(lasting(seconds));
      const double timed = predictor::sample(*device, *workload, {}).median_seconds;
      const predictor::Trace traced = predictor::trace(*device, *workload, 1.0);
      CHECK(traced.seconds == Approx(timed).epsilon(0.02));
      CHECK(traced.activities == 1);
    }
  }

  TEST_CASE("a callable's kernel time is split over its launches") {
    const auto device = predictor::make_mock_device(0);
    const auto workload = device->prepare_callable([] {}, 10, 1e-3);
    CHECK(predictor::trace(*device, *workload, 1.0).seconds == Approx(1e-4).epsilon(0.02));
  }

  TEST_CASE("an empty trace is an error") {
    const auto device = predictor::make_mock_device(0);
    const auto workload = device->prepare(lasting(1e-4));
    device->inject("blind", 1);
    CHECK_THROWS_WITH_AS((void)predictor::trace(*device, *workload, 1.0),
                         doctest::Contains("empty trace"), predictor::NativeError);
    CHECK(predictor::trace(*device, *workload, 1.0).seconds > 0);
  }

  TEST_CASE("without CUPTI the library is named; with it, its records come by their begin") {
    setenv("PREDICTOR_CUPTI", "/nowhere/libcupti.so.13", 1);
    CHECK_THROWS_WITH_AS((void)predictor::record_activity_with_cupti([] {}),
                         doctest::Contains("cupti (libcupti.so.13) was not found"),
                         predictor::LibraryMissing);
    setenv("PREDICTOR_CUPTI", FAKE_CUPTI, 1);
    const FakeCupti fake;
    fake.refuse(39);
    CHECK_THROWS_WITH_AS((void)predictor::record_activity_with_cupti([] {}),
                         doctest::Contains("FAKE_REFUSAL (status 39)"), predictor::NativeError);
    fake.refuse(0);
    const auto found = predictor::record_activity_with_cupti([&] {
      fake.kernel(10, 2000, 5000);
      fake.kernel(2, 500, 1500);
      fake.kernel(47, 0, 9000); // a kind that was not asked for
    });
    unsetenv("PREDICTOR_CUPTI");
    REQUIRE(found.size() == 2);
    CHECK(found[0].end_seconds - found[0].begin_seconds == Approx(1e-6));
    CHECK(found[1].end_seconds - found[1].begin_seconds == Approx(3e-6));
    CHECK(predictor::record_activity_with_cupti([] {}).empty());
  }
}
