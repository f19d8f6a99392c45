#include "mock/mock_device.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "mock/noise.hpp"
#include "mock/virtual_timeline.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <utility>
#include <vector>

namespace predictor {
namespace {

constexpr double toy_flops_per_second = 100e12;
constexpr double toy_bytes_per_second = 1e12;
constexpr double toy_launch_seconds = 5e-6;
constexpr std::int64_t toy_memory_bytes = 80'000'000'000;
constexpr std::int64_t toy_l2_bytes = 50'000'000;
constexpr double host_launch_seconds = 1e-6;
constexpr double round_noise = 0.003;
constexpr double sample_noise = 0.005;

// `source` says whose noise applies.
struct MockLaunch {
  double seconds = 0.0;
  std::uint64_t source = 0;
};

struct MockGraph final : Graph {
  std::vector<MockLaunch> launches;
};

class MockDevice final : public Device {
public:
  explicit MockDevice(std::uint64_t seed) : seed_(seed) {}

  [[nodiscard]] std::map<std::string, Property> properties() const override;
  [[nodiscard]] std::map<std::string, LibraryInfo> libraries() override { return {}; }
  [[nodiscard]] std::uintptr_t stream_handle() const override { return 0; }
  [[nodiscard]] std::unique_ptr<Workload> prepare(const Request& request) override;
  [[nodiscard]] std::unique_ptr<Workload> prepare_callable(std::function<void()> launch,
                                                           std::size_t launches_per_call,
                                                           double seconds_hint) override;
  [[nodiscard]] std::string new_group_id() override { return text("group ", ++group_ids_); }
  void join(const Membership& membership) override;
  void leave(const std::string& name) override { groups_.erase(name); }
  void abort_groups() noexcept override { groups_.clear(); }
  void use_lane(std::size_t lane) override { lane_ = lane; }
  void follow_first_lane() override { timeline_.fork(); }
  void begin_operation() override;

  [[nodiscard]] double host_seconds() override { return timeline_.host(); }
  void record(std::size_t event) override {
    timeline_.record(event, lane_);
    sample_factor_ = 1.0 + sample_noise * noise_.normal();
  }
  void wait_event(std::size_t event, double timeout_seconds) override {
    watch(timeout_seconds);
    timeline_.wait_event(event);
  }
  void wait(double timeout_seconds) override {
    watch(timeout_seconds);
    timeline_.wait();
  }
  [[nodiscard]] double elapsed_seconds(std::size_t first, std::size_t last) override {
    return timeline_.elapsed(first, last);
  }
  void close_gate() override { timeline_.close_gate(); }
  void open_gate() noexcept override { timeline_.open_gate(); }
  [[nodiscard]] bool gate_expired() override { return false; }
  [[nodiscard]] std::unique_ptr<Graph> capture(const std::function<void()>& enqueue) override;
  void replay(Graph& graph) override;
  [[nodiscard]] std::vector<Activity> record_activity(const std::function<void()>& work) override;
  void inject(const std::string& what, std::int64_t at_call) override;

  // Into the graph that is being captured, or onto the timeline.
  void launch(const MockLaunch& launch);
  // A new round of the workload whose noise is `source`.
  void begin_round(std::uint64_t source, std::uint64_t round);
  [[nodiscard]] std::uint64_t seed() const { return seed_; }

private:
  void run(const MockLaunch& launch);
  void watch(double timeout_seconds);
  [[nodiscard]] bool due(std::string_view what, std::int64_t call);

  struct Injection {
    std::string what;
    std::int64_t at_call = 0;
  };

  std::uint64_t seed_;
  VirtualTimeline timeline_;
  std::size_t lane_ = 0;
  std::int64_t group_ids_ = 0;
  std::map<std::string, Membership, std::less<>> groups_;
  MockGraph* capturing_ = nullptr;
  std::vector<Activity>* recording_ = nullptr;
  Noise noise_{0};
  std::uint64_t noise_source_ = 0;
  double round_factor_ = 1.0;
  double sample_factor_ = 1.0;
  std::vector<Injection> injections_;
  std::int64_t prepare_calls_ = 0;
  std::int64_t sample_calls_ = 0;
  std::int64_t trace_calls_ = 0;
  bool hanging_ = false;
};

class MockWorkload final : public Workload {
public:
  MockWorkload(MockDevice& device, std::string name, double seconds, std::function<void()> callable)
      : device_(device), callable_(std::move(callable)) {
    description = std::move(name);
    launch_ = {seconds, hash_of(description) ^ (device.seed() * 0x9e3779b97f4a7c15ULL)};
  }

  void enqueue(std::size_t) override {
    if (callable_) {
      callable_();
    }
    device_.launch(launch_);
  }

  void begin_round() override { device_.begin_round(launch_.source, ++rounds_); }
  [[nodiscard]] bool capturable() const override { return !callable_; }
  void begin_check(std::uint64_t) override {}
  [[nodiscard]] double finish_check() override { return 0.0; }

private:
  MockDevice& device_;
  std::function<void()> callable_;
  MockLaunch launch_;
  std::uint64_t rounds_ = 0;
};

std::map<std::string, Property> MockDevice::properties() const {
  return {{"name", std::string("mock")},
          {"sm_count", std::int64_t{100}},
          {"l2_bytes", toy_l2_bytes},
          {"memory_bytes", toy_memory_bytes},
          {"compute_capability", std::string("0.0")},
          {"pci_bus_id", std::string("0000:00:00.0")},
          {"uuid", std::string("GPU-mock")},
          {"max_sm_clock_hz", 1e9},
          {"driver_version", std::string("0.0")},
          {"runtime_version", std::string("0.0")}};
}

std::unique_ptr<Workload> MockDevice::prepare(const Request& request) {
  if (due("oom", ++prepare_calls_) ||
      request.working_set_bytes > static_cast<double>(toy_memory_bytes)) {
    throw OutOfDeviceMemory(text(request.op, " (", request.fields.describe(), ") needs ",
                                 request.working_set_bytes, " bytes; the mock device has ",
                                 toy_memory_bytes));
  }
  if (const std::string group = request.fields.text("group", "");
      !group.empty() && !groups_.contains(group)) {
    throw NativeError(text(request.op, ": this rank has not joined the group '", group, "'"));
  }
  const double work =
      std::max(request.flops / toy_flops_per_second, request.bytes / toy_bytes_per_second);
  return std::make_unique<MockWorkload>(*this, text(request.op, ' ', request.fields.describe()),
                                        toy_launch_seconds + work, nullptr);
}

std::unique_ptr<Workload> MockDevice::prepare_callable(std::function<void()> launch,
                                                       std::size_t launches_per_call,
                                                       double seconds_hint) {
  const double launches = static_cast<double>(launches_per_call);
  const double seconds = seconds_hint > 0 ? seconds_hint : toy_launch_seconds * launches;
  auto workload = std::make_unique<MockWorkload>(*this, "callable", seconds, std::move(launch));
  workload->launches_per_enqueue = launches_per_call;
  return workload;
}

void MockDevice::join(const Membership& membership) {
  if (membership.rank < 0 || membership.rank >= membership.ranks) {
    throw NativeError(text("join: rank ", membership.rank, " of ", membership.ranks));
  }
  groups_[membership.name] = membership;
}

void MockDevice::begin_operation() {
  lane_ = 0;
  ++sample_calls_;
  hanging_ = due("hang", sample_calls_);
  if (due("fault", sample_calls_)) {
    throw DeviceFault("injected fault: the device is lost, end this process");
  }
  if (due("throw", sample_calls_)) {
    throw NativeError("injected error");
  }
}

std::unique_ptr<Graph> MockDevice::capture(const std::function<void()>& enqueue) {
  auto graph = std::make_unique<MockGraph>();
  capturing_ = graph.get();
  try {
    enqueue();
  } catch (...) {
    capturing_ = nullptr;
    throw;
  }
  capturing_ = nullptr;
  return graph;
}

void MockDevice::replay(Graph& graph) {
  timeline_.pass_on_host(host_launch_seconds);
  for (const MockLaunch& launch : static_cast<MockGraph&>(graph).launches) {
    run(launch);
  }
}

void MockDevice::launch(const MockLaunch& launch) {
  if (capturing_ != nullptr) {
    capturing_->launches.push_back(launch);
    return;
  }
  timeline_.pass_on_host(host_launch_seconds);
  run(launch);
}

// Calibration, before the first round, is free of noise.
void MockDevice::run(const MockLaunch& launch) {
  const bool noisy = launch.source == noise_source_;
  const double seconds = launch.seconds * (noisy ? round_factor_ * sample_factor_ : 1.0);
  if (recording_ != nullptr) {
    recording_->push_back({0.0, seconds});
  }
  timeline_.run(seconds, lane_);
}

std::vector<Activity> MockDevice::record_activity(const std::function<void()>& work) {
  std::vector<Activity> found;
  recording_ = due("blind", ++trace_calls_) ? nullptr : &found;
  try {
    work();
  } catch (...) {
    recording_ = nullptr;
    throw;
  }
  recording_ = nullptr;
  return found;
}

void MockDevice::begin_round(std::uint64_t source, std::uint64_t round) {
  noise_ = Noise(source + round);
  noise_source_ = source;
  round_factor_ = 1.0 + round_noise * noise_.normal();
  sample_factor_ = 1.0;
}

void MockDevice::watch(double timeout_seconds) {
  if (hanging_) {
    timeline_.pass_on_host(timeout_seconds);
    throw DeviceTimeout(text("no answer from the device in ", timeout_seconds,
                             " s (injected hang); end this process"));
  }
}

bool MockDevice::due(std::string_view what, std::int64_t call) {
  return std::any_of(injections_.begin(), injections_.end(), [&](const Injection& injection) {
    return injection.what == what && injection.at_call == call;
  });
}

void MockDevice::inject(const std::string& what, std::int64_t at_call) {
  static constexpr std::array<std::string_view, 5> known{"oom", "fault", "hang", "throw", "blind"};
  if (std::find(known.begin(), known.end(), what) == known.end()) {
    throw NativeError(text("inject: '", what, "' is none of oom, fault, hang, throw, blind"));
  }
  injections_.push_back({what, at_call});
}

} // namespace

std::shared_ptr<Device> make_mock_device(std::uint64_t seed) {
  return std::make_shared<MockDevice>(seed);
}

} // namespace predictor
