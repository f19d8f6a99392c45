// The CUDA backend's host code on the fake runtime: arenas, buffer sets, graphs and checks.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "fake_cudart.hpp"
#include "harness/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <cuda_bf16.h>
#include <doctest.h>
#include <set>

using doctest::Approx;
using predictor::Buffers;
using predictor::CudaDevice;
using predictor::DataType;
using predictor::Expected;
using predictor::Inspector;
using predictor::Operand;
using predictor::Request;
using predictor::Role;

namespace predictor { // no operators: the workload below is the test's own

std::unique_ptr<Workload> prepare_operator(CudaDevice&, const Request&) {
  return nullptr;
}
void foresee_operators(CudaDevice&, const std::vector<Request>&) {}
std::map<std::string, double> measure_host_costs(CudaDevice&, std::size_t) {
  return {};
}
std::map<std::string, LibraryInfo> operator_libraries(CudaDevice&) {
  return {};
}
std::string new_nccl_id(CudaDevice&) {
  return {};
}
void join_group(CudaDevice&, const Membership&) {}
void leave_group(CudaDevice&, const std::string&) {}
void abort_all_groups(CudaDevice&) noexcept {}

} // namespace predictor

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

// y = 2x, or y += x in place, in bf16.
class Doubling final : public predictor::CudaWorkload {
public:
  Doubling(CudaDevice& device, std::int64_t count, predictor::Cache cache, bool in_place = false,
           bool lazy = false)
      : CudaWorkload(device, request(count, cache)), count_(count), in_place_(in_place),
        lazy_(lazy) {
    place({{.name = "x", .elements = count},
           {.name = "y", .elements = count, .role = in_place ? Role::state : Role::output},
           {.name = "table", .elements = 8, .role = Role::scratch, .shared = true}},
          request(count, cache));
  }

  std::set<const void*> outputs; // that were written
  double seconds = 10e-6;

private:
  static Request request(std::int64_t count, predictor::Cache cache) {
    return {.op = "double",
            .fields = {},
            .working_set_bytes = 4.0 * static_cast<double>(count),
            .cache = cache};
  }

  void launch(const Buffers& buffers) override {
    fake::enqueue(seconds, [this, buffers] {
      const auto* x = buffers.get<const __nv_bfloat16>(0);
      auto* y = buffers.get<__nv_bfloat16>(1);
      outputs.insert(y);
      for (std::int64_t i = 0; i < std::min<std::int64_t>(count_, 64) && !lazy_; ++i) {
        const float before = in_place_ ? __bfloat162float(y[i]) : __bfloat162float(x[i]);
        y[i] = __float2bfloat16(before + __bfloat162float(x[i]));
      }
    });
  }

  std::vector<Expected> reference(const Inspector& inspector) override {
    Expected expected(1);
    const auto x = inspector.read(0, 0, 64);
    const auto y = inspector.read(1, 0, 64);
    for (std::size_t i = 0; i < x.size(); ++i) {
      expected.add(static_cast<std::int64_t>(i), x[i] + (in_place_ ? y[i] : x[i]));
    }
    return {expected};
  }

  std::int64_t count_;
  bool in_place_;
  bool lazy_;
};

constexpr auto cold = predictor::Cache::cold;
constexpr auto warm = predictor::Cache::warm;

// A small GPU: 2 GiB of memory, a megabyte of L2 cache.
std::unique_ptr<CudaDevice> open() {
  fake::runtime() = {};
  fake::runtime().free_bytes = 2048 * mebibyte;
  return std::make_unique<CudaDevice>(0);
}

// A whole measurement: device, buffers, all timers, a check, both lanes.
double measure_once(bool separate_buffers) {
  CudaDevice device(0, separate_buffers);
  (void)device.properties();
  Doubling rotating(device, 65536, cold);
  const double error = predictor::check(device, rotating, 1);
  for (const double seconds : {3e-6, 200e-6, 20e-3}) {
    Doubling workload(device, 4096, warm);
    workload.seconds = seconds;
    (void)predictor::sample(device, workload, {.round_seconds = 1e-3});
  }
  device.use_lane(1);
  device.follow_first_lane();
  return error;
}

// Calls that only give something back, on whose failure nothing depends.
const std::set<std::string> giving_back{"cudaFree",          "cudaFreeHost",
                                        "cudaStreamDestroy", "cudaEventDestroy",
                                        "cudaGraphDestroy",  "cudaGraphExecDestroy"};

const std::set<std::string> making_arenas{"cudaMalloc", "cudaMemGetInfo", "cudaMemsetAsync"};

} // namespace

TEST_SUITE("cuda_backend") {
  TEST_CASE("every call that fails is an error, whichever it is") {
    constexpr std::size_t first_calls = 12; // of each function; more of them come from loops
    for (const bool separate_buffers : {false, true}) {
      fake::runtime() = {};
      const double error = measure_once(separate_buffers);
      const auto calls = fake::runtime().calls;
      CHECK(calls.size() >= 25);
      for (const auto& [name, count] : calls) {
        if (!separate_buffers && !making_arenas.contains(name)) {
          continue; // the same calls either way
        }
        for (std::size_t at = 1; at <= count; at += at < first_calls ? 1 : count / 3) {
          CAPTURE(name);
          CAPTURE(at);
          fake::runtime() = {};
          fake::runtime().fail_call = name;
          fake::runtime().fail_at = at;
          fake::runtime().fail_with = cudaErrorIllegalAddress;
          // The last one is the destructor's, which makes the device current to free its handles.
          if (giving_back.contains(name) || (name == "cudaSetDevice" && at == count)) {
            CHECK(measure_once(separate_buffers) == error);
          } else if (name == "cudaGetDeviceCount") { // no driver, no device
            CHECK_THROWS_AS((void)measure_once(separate_buffers), predictor::NativeError);
          } else {
            CHECK_THROWS_AS((void)measure_once(separate_buffers), predictor::DeviceFault);
          }
          CHECK(fake::runtime().allocations == 0);
        }
      }
    }
  }

  TEST_CASE("a check sees the timed replay, and unwritten outputs") {
    const auto device = open();
    Doubling right(*device, 4096, cold);
    CHECK(predictor::check(*device, right, 3) < 4e-3);
    CHECK(right.calibration->timer == predictor::Timer::graph);
    Doubling lazy(*device, 4096, cold, false, true);
    CHECK(std::isinf(predictor::check(*device, lazy, 3)));
  }

  TEST_CASE("what works in place is checked after one launch on fresh data") {
    const auto device = open();
    Doubling workload(*device, 4096, cold, true);
    (void)predictor::sample(*device, workload, {});
    CHECK(workload.in_place());
    CHECK(predictor::check(*device, workload, 3) < 4e-3);
    CHECK(predictor::check(*device, workload, 4) < 4e-3);
  }

  TEST_CASE("cold launches rotate over five caches, warm ones stay") {
    const auto device = open();
    Doubling rotating(*device, 65536, cold); // 256 KiB a set
    CHECK(rotating.buffer_sets == 21);
    (void)predictor::sample(*device, rotating, {});
    CHECK(rotating.outputs.size() == 21);
    Doubling staying(*device, 65536, warm);
    (void)predictor::sample(*device, staying, {});
    CHECK(staying.outputs.size() == 1);
  }

  TEST_CASE("every timer measures the launch") {
    const auto device = open();
    for (const double seconds : {3e-6, 200e-6, 20e-3}) {
      Doubling workload(*device, 4096, warm);
      workload.seconds = seconds;
      const auto round = predictor::sample(*device, workload, {.round_seconds = 1e-3});
      CHECK(round.median_seconds == Approx(seconds).epsilon(1e-3));
    }
  }

  TEST_CASE("workloads share the arenas, and survive their growth") {
    const auto device = open();
    Doubling small(*device, 4096, cold);
    CHECK(predictor::check(*device, small, 1) < 4e-3);
    const std::size_t allocations = fake::runtime().allocations;
    Doubling other(*device, 8192, cold);
    CHECK(fake::runtime().allocations == allocations);
    const auto generation = device->memory_generation();
    Doubling large(*device, 200'000'000, warm); // 400 MB each way: more than the first arenas
    CHECK(device->memory_generation() > generation);
    CHECK(predictor::check(*device, small, 2) < 4e-3); // captured again
    CHECK(predictor::check(*device, large, 2) < 4e-3);
  }

  TEST_CASE("too large a workload is refused and the others go on") {
    const auto device = open();
    Doubling small(*device, 4096, cold);
    CHECK(predictor::check(*device, small, 1) < 4e-3);
    CHECK_THROWS_AS(Doubling(*device, 2'000'000'000, warm), predictor::OutOfDeviceMemory);
    CHECK(predictor::check(*device, small, 2) < 4e-3);
  }

  TEST_CASE("a working set far beyond the cache may stand alone where two do not fit") {
    const auto device = open();
    Doubling workload(*device, 300'000'000, cold); // 600 MB each way, 2 GB in all
    CHECK(workload.buffer_sets == 1);
    CHECK(predictor::check(*device, workload, 1) < 4e-3);
  }

  TEST_CASE("separate buffers are as large as their operands, and no arena is made") {
    fake::runtime() = {};
    CudaDevice device(0, true);
    const std::size_t before = fake::runtime().free_bytes;
    Doubling workload(device, 1001, warm);
    CHECK(before - fake::runtime().free_bytes == 2002 + 2002 + 16);
    CHECK(predictor::check(device, workload, 1) < 4e-3);
    Doubling rotating(device, 65536, cold);
    (void)predictor::sample(device, rotating, {});
    CHECK(rotating.outputs.size() == 21);
    CHECK(predictor::check(device, rotating, 1) < 4e-3);
  }

  TEST_CASE("a sticky error is a fault, and a hang ends at its timeout") {
    const auto device = open();
    Doubling workload(*device, 4096, warm);
    (void)predictor::sample(*device, workload, {});
    fake::runtime().next_error = cudaErrorIllegalAddress;
    CHECK_THROWS_AS((void)predictor::sample(*device, workload, {}), predictor::DeviceFault);
    fake::runtime().next_error = 0;
    fake::runtime().hangs = true;
    CHECK_THROWS_AS((void)predictor::sample(*device, workload, {.timeout_seconds = 0.01}),
                    predictor::DeviceTimeout);
    fake::runtime().hangs = false;
  }
}
