// Collectives through the real loader and call sites, on a fake NCCL and a fake runtime.
#include "cuda/cuda_device.hpp"
#include "errors.hpp"
#include "fake_cudart.hpp"
#include "harness/lockstep.hpp"
#include "operators/collectives/pattern.hpp"
#include "operators/registry.hpp"

#include <cmath>
#include <cstdlib>
#include <cuda_bf16.h>
#include <dlfcn.h>
#include <doctest.h>
#include <limits>
#include <stdexcept>
#include <string>

using predictor::CudaDevice;
using predictor::DataType;
using predictor::Fields;
using predictor::Request;
using predictor::Workload;

namespace predictor { // the collectives alone, with their kernels on the host

std::unique_ptr<Workload> prepare_operator(CudaDevice& device, const Request& request) {
  return prepare_collective(device, request);
}

void foresee_operators(CudaDevice&, const std::vector<Request>&) {}

std::map<std::string, LibraryInfo> operator_libraries(CudaDevice& device) {
  std::map<std::string, LibraryInfo> found;
  add_nccl_library(device, found);
  return found;
}

std::map<std::string, double> measure_host_costs(CudaDevice&, std::size_t) {
  return {};
}

void write_pattern(void* data, DataType type, std::int64_t count, const Pattern& pattern, int rank,
                   cudaStream_t) {
  for (std::int64_t i = 0; i < count; ++i) {
    const auto value = static_cast<float>(pattern_value(pattern, rank, i));
    if (type == DataType::fp32) {
      static_cast<float*>(data)[i] = value;
    } else {
      static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16(value);
    }
  }
}

void count_mismatches(const void* data, DataType type, const Pattern& pattern,
                      const Arrangement& arrangement, unsigned long long* mismatches,
                      cudaStream_t) {
  for (std::int64_t i = 0; i < arrangement.count; ++i) {
    const float found = type == DataType::fp32
                            ? static_cast<const float*>(data)[i]
                            : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
    *mismatches += found == static_cast<float>(expected_value(pattern, arrangement, i)) ? 0 : 1;
  }
}

} // namespace predictor

namespace {

using Values = std::map<std::string, Fields::Value, std::less<>>;

template <typename Function>
Function* exported(const char* name) {
  static void* library = dlopen(FAKE_NCCL, RTLD_NOW);
  return reinterpret_cast<Function*>(dlsym(library, name));
}

void on_the_stream(std::function<void()> work) {
  fake::enqueue(20e-6, std::move(work));
}

// All ranks of one group, on devices of one process.
class Ranks {
public:
  explicit Ranks(int count, int max_ctas = 0, bool separate_buffers = false) {
    fake::runtime() = {};
    fake::runtime().free_bytes = std::size_t{4} << 30;
    setenv("PREDICTOR_NCCL", FAKE_NCCL, 1);
    exported<void(void (*)(std::function<void()>))>("fake_nccl_reset")(&on_the_stream);
    for (int rank = 0; rank < count; ++rank) {
      devices.push_back(std::make_unique<CudaDevice>(0, separate_buffers));
    }
    const std::string id = devices.front()->new_group_id();
    for (int rank = 0; rank < count; ++rank) {
      devices[static_cast<std::size_t>(rank)]->join(
          {.name = "all", .id = id, .ranks = count, .rank = rank, .max_ctas = max_ctas});
    }
  }

  [[nodiscard]] std::vector<std::unique_ptr<Workload>> prepare(const std::string& op,
                                                               Values values) {
    values.try_emplace("dtype", std::string("bf16"));
    values["group"] = std::string("all");
    std::vector<std::unique_ptr<Workload>> workloads;
    for (const auto& device : devices) {
      workloads.push_back(device->prepare({.op = op,
                                           .fields = Fields(values),
                                           .working_set_bytes = 1 << 20,
                                           .cache = predictor::Cache::cold}));
    }
    return workloads;
  }

  // Whether every rank finds every element exact.
  [[nodiscard]] bool exact(const std::string& op, const Values& values) {
    const auto workloads = prepare(op, values);
    for (const auto& workload : workloads) {
      workload->begin_check(7);
    }
    for (const auto& workload : workloads) {
      workload->enqueue(0);
    }
    bool exact = true;
    for (const auto& workload : workloads) {
      exact = workload->finish_check() == 0.0 && exact;
    }
    return exact;
  }

  std::vector<std::unique_ptr<CudaDevice>> devices;
};

constexpr std::int64_t size = 4096;

// Everything that is asked of NCCL; the first error ends it.
void use_all() {
  Ranks ranks(2, 0, true);
  const predictor::LibraryInfo nccl = ranks.devices[0]->libraries().at("nccl");
  if (!nccl.error.empty()) {
    throw predictor::NativeError(nccl.error);
  }
  const auto require = [&ranks](const std::string& op, const Values& values) {
    if (!ranks.exact(op, values)) {
      throw std::logic_error(op + " is wrong");
    }
  };
  for (const char* op : {"all_reduce", "all_gather", "reduce_scatter", "broadcast"}) {
    require(op, {{"bytes", size}, {"in_place", false}});
  }
  require("all_to_all",
          {{"bytes", size}, {"parts", std::vector<std::int64_t>{size / 4, size / 4}}});
  require("send_recv", {{"bytes", size}, {"pattern", std::string("ring")}});
  ranks.devices[0]->leave("all");
}

std::vector<std::int64_t> even(int ranks) {
  return std::vector<std::int64_t>(static_cast<std::size_t>(ranks), size / 2 / ranks);
}

} // namespace

TEST_SUITE("collectives") {
  TEST_CASE("every collective is exact, in place and out of place") {
    for (const int count : {2, 4}) {
      Ranks ranks(count);
      for (const char* dtype : {"bf16", "fp32"}) {
        for (const bool in_place : {false, true}) {
          for (const char* op : {"all_reduce", "all_gather", "reduce_scatter", "broadcast"}) {
            CAPTURE(op);
            CAPTURE(count);
            CAPTURE(in_place);
            CHECK(ranks.exact(
                op, {{"bytes", size}, {"dtype", std::string(dtype)}, {"in_place", in_place}}));
          }
        }
      }
    }
  }

  TEST_CASE("an all-to-all sends each rank its part, even or not") {
    Ranks ranks(4);
    CHECK(ranks.exact("all_to_all", {{"bytes", size}, {"parts", even(4)}}));
    CHECK(ranks.exact("all_to_all",
                      {{"bytes", size}, {"parts", std::vector<std::int64_t>{900, 700, 448, 0}}}));
    CHECK_THROWS_AS((void)ranks.prepare("all_to_all", {{"bytes", size}, {"parts", even(2)}}),
                    predictor::NativeError);
  }

  TEST_CASE("messages go one way, both ways and round") {
    Ranks pair(2);
    for (const char* pattern : {"one_way", "both_ways", "ring"}) {
      CAPTURE(pattern);
      CHECK(pair.exact("send_recv", {{"bytes", size}, {"pattern", std::string(pattern)}}));
    }
    Ranks four(4);
    CHECK(four.exact("send_recv", {{"bytes", size}, {"pattern", std::string("ring")}}));
  }

  TEST_CASE("what was not sent is found") {
    Ranks ranks(2);
    exported<void()>("fake_nccl_drop")();
    for (const char* op : {"all_reduce", "all_gather", "reduce_scatter", "broadcast"}) {
      CAPTURE(op);
      CHECK_FALSE(ranks.exact(op, {{"bytes", size}, {"in_place", false}}));
    }
    CHECK_FALSE(ranks.exact("all_to_all", {{"bytes", size}, {"parts", even(2)}}));
    CHECK_FALSE(ranks.exact("send_recv", {{"bytes", size}, {"pattern", std::string("one_way")}}));
  }

  TEST_CASE("patterns differ by rank, place and seed, and their sums are exact in bf16") {
    const predictor::Pattern pattern{.seed = 3, .ranks = 64};
    int largest = 0;
    int same = 0;
    for (std::int64_t i = 0; i < 1000; ++i) {
      largest = std::max(largest, std::abs(predictor::expected_value(
                                      pattern, {.count = 1000, .summed = true}, i)));
      same += predictor::pattern_value(pattern, 0, i) == predictor::pattern_value(pattern, 1, i);
    }
    CHECK(largest <= 256);
    CHECK(same < 250);
    CHECK(predictor::largest_value(2) == 8);
    CHECK(predictor::largest_value(1024) == 1);
  }

  TEST_CASE("lockstep samples as often as agreed, by graph and one by one") {
    for (const auto timer : {predictor::Timer::graph, predictor::Timer::gated}) {
      Ranks ranks(1);
      const auto workload = ranks.prepare("all_reduce", {{"bytes", size}, {"in_place", true}});
      const auto aligner = ranks.prepare("all_reduce", {{"bytes", std::int64_t{64}}});
      CHECK(predictor::probe(*ranks.devices[0], *workload[0], *aligner[0], 4, 1.0) ==
            doctest::Approx(20e-6));
      const auto round = predictor::sample_lockstep(
          *ranks.devices[0], *workload[0], *aligner[0],
          {.timer = timer, .seconds = 20e-6, .enqueues_per_sample = 5, .samples = 70});
      CHECK(round.samples_seconds.size() == 70);
      CHECK(round.launches == 350);
      CHECK(round.samples_seconds[69] == doctest::Approx(20e-6));
    }
  }

  TEST_CASE("a hang aborts the groups, a lost peer is a fault, misuse is an error") {
    Ranks ranks(2);
    const auto workloads = ranks.prepare("all_reduce", {{"bytes", size}, {"in_place", true}});
    exported<void(int)>("fake_nccl_fail")(6);
    CHECK_THROWS_AS(workloads[0]->enqueue(0), predictor::DeviceFault);
    exported<void(int)>("fake_nccl_fail")(4);
    CHECK_THROWS_WITH_AS(workloads[0]->enqueue(0), doctest::Contains("fake error"),
                         predictor::NativeError);
    const auto aligner = ranks.prepare("all_reduce", {{"bytes", std::int64_t{64}}});
    fake::runtime().next_error = 700; // illegal address
    CHECK_THROWS_AS((void)predictor::probe(*ranks.devices[0], *workloads[0], *aligner[0], 1, 0.01),
                    predictor::DeviceFault);
    fake::runtime().next_error = 0;
    CHECK(exported<int()>("fake_nccl_aborted")() == 1);
  }

  TEST_CASE("every call that fails is an error, whichever it is") {
    const auto fail_at = exported<void(const char*, int, int)>("fake_fail_at");
    const auto calls = exported<int(const char*)>("fake_calls");
    use_all();
    for (const char* name : {"ncclGetVersion", "ncclGetUniqueId", "ncclCommInitRankConfig",
                             "ncclAllReduce", "ncclAllGather", "ncclReduceScatter", "ncclBroadcast",
                             "ncclGroupStart", "ncclSend", "ncclRecv", "ncclGroupEnd"}) {
      const int count = calls(name);
      CHECK(count > 0);
      for (int at = 1; at <= count; ++at) {
        CAPTURE(name);
        CAPTURE(at);
        fail_at(name, at, 3);
        CHECK_THROWS_AS(use_all(), predictor::NativeError);
        fail_at("", 0, 0);
        use_all();
      }
    }
    fail_at("ncclCommDestroy", 1, 3); // gives something back
    CHECK_NOTHROW(use_all());
    fail_at("", 0, 0);
  }

  TEST_CASE("groups are asked for by name, left, and limited in thread blocks") {
    Ranks ranks(2, 8);
    CHECK(exported<int()>("fake_nccl_max_ctas")() == 8);
    CHECK_THROWS_WITH_AS(
        (void)ranks.devices[0]->prepare(
            {.op = "all_reduce",
             .fields = Fields({{"bytes", size}, {"group", std::string("other")}})}),
        doctest::Contains("has not joined"), predictor::NativeError);
    ranks.devices[0]->leave("all");
    CHECK(exported<int()>("fake_nccl_destroyed")() == 1);
    CHECK(ranks.devices[1]->libraries().at("nccl").version == "2.28.9");
  }

  TEST_CASE("a missing NCCL is named") {
    Ranks ranks(1);
    setenv("PREDICTOR_NCCL", "/nowhere/libnccl.so.2", 1);
    CudaDevice device(0);
    CHECK(device.libraries().at("nccl").error.find("set PREDICTOR_NCCL") != std::string::npos);
    CHECK_THROWS_AS((void)device.new_group_id(), predictor::LibraryMissing);
  }
}
