// The seam between measuring and a GPU: stream, events, gate, graphs and clock.
//
// The harness knows only these classes, so the sampler, timers and stopping rule that run on CUDA
// are the very ones that the tests run on the mock and its virtual clock.
#pragma once

#include "errors.hpp"
#include "fields.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace predictor {

// One rank's place in a group of ranks, one device each, that run collectives together.
struct Membership {
  std::string name; // by which workloads ask for the group
  std::string id;   // made by one rank, handed to all
  int ranks = 1;
  int rank = 0;
  int max_ctas = 0; // most thread blocks a collective may take; 0 is the library's choice
};

enum class Timer { graph, gated, events };
enum class Cache { cold, warm };

// What Python asks to have measured. The counts come with it, so that no formula is written twice.
struct Request {
  std::string op;
  Fields fields;
  double flops = 0.0;
  double bytes = 0.0;
  double working_set_bytes = 0.0;
  Cache cache = Cache::cold;
};

// A captured sequence of launches; owned by whoever captured it.
class Graph {
public:
  virtual ~Graph() = default;
};

// One kernel, copy or fill that the device ran.
struct Activity {
  double begin_seconds = 0.0; // on the profiler's clock
  double end_seconds = 0.0;
};

// How a workload is timed: decided once, at its first sample, so that rounds stay comparable.
struct Calibration {
  Timer timer = Timer::events;
  double seconds = 0.0;                // of one enqueue
  std::size_t enqueues_per_sample = 1; // between two events, or in one replay of the graph
  std::unique_ptr<Graph> graph;        // Timer::graph only
  std::uint64_t memory_generation = 0; // of the addresses inside the graph
};

// One thing to launch again and again. Belongs to the device that prepared it, which outlives it.
class Workload {
public:
  virtual ~Workload() = default;

  // Enqueues one call on the device's stream, working on buffer set `index` modulo buffer_sets().
  virtual void enqueue(std::size_t index) = 0;
  // Makes sure of the memory it works on; called first in every operation.
  virtual void acquire() {}
  // Refills what launches change in place; called before every round.
  virtual void begin_round() {}
  // False for callables: they may enqueue what cannot be captured.
  [[nodiscard]] virtual bool capturable() const { return true; }
  // Whether an enqueue returns only when its work is done, so that it must not stand behind a gate.
  [[nodiscard]] virtual bool blocks_host() const { return false; }
  // Whether a launch reads what it writes, so that only a single launch can be checked.
  [[nodiscard]] virtual bool in_place() const { return false; }

  // Correctness: fresh inputs, poisoned outputs and the reference; then, after a launch, the
  // relative Frobenius error over the sampled elements (infinite where poison was left).
  virtual void begin_check(std::uint64_t seed) = 0;
  [[nodiscard]] virtual double finish_check() = 0;

  const class Device* device = nullptr; // that prepared it
  std::string description;
  std::size_t buffer_sets = 1;
  std::size_t launches_per_enqueue = 1;
  std::optional<Calibration> calibration;
};

using Property = std::variant<std::int64_t, double, std::string>;

struct LibraryInfo {
  std::string path;
  std::string version;
  std::string error; // empty when the library was opened
};

class Device {
public:
  static constexpr std::size_t event_count = 64;
  static constexpr std::size_t lane_count = 2;

  virtual ~Device() = default;

  [[nodiscard]] virtual std::map<std::string, Property> properties() const = 0;
  [[nodiscard]] virtual std::map<std::string, LibraryInfo> libraries() = 0;
  [[nodiscard]] virtual std::uintptr_t stream_handle() const = 0;

  [[nodiscard]] virtual std::unique_ptr<Workload> prepare(const Request& request) = 0;
  [[nodiscard]] virtual std::unique_ptr<Workload> prepare_callable(std::function<void()> launch,
                                                                   std::size_t launches_per_call,
                                                                   double seconds_hint) = 0;

  // What prepare() will be asked for soon: of its work, what needs the host alone may begin now,
  // beside whatever is measured.
  virtual void foresee(const std::vector<Request>& coming) { (void)coming; }

  // Groups of ranks. join() returns once every rank of the group has called it; abort_groups()
  // frees the device from collectives whose peers are gone.
  [[nodiscard]] virtual std::string new_group_id() = 0;
  virtual void join(const Membership& membership) = 0;
  virtual void leave(const std::string& name) = 0;
  virtual void abort_groups() noexcept = 0;

  // Lanes are streams that run side by side. Launches, events and waits go to the chosen lane,
  // which is 0 but where two workloads are timed beside each other.
  virtual void use_lane(std::size_t lane) = 0;
  // The chosen lane goes on when lane 0 has done what it holds now.
  virtual void follow_first_lane() = 0;

  // Called on entry of every operation: makes the device current and counts injected failures.
  virtual void begin_operation() {}

  [[nodiscard]] virtual double host_seconds() = 0; // monotonic, the clock of Python's monotonic()
  virtual void record(std::size_t event) = 0;
  // Both return once the device got there; DeviceTimeout after `timeout_seconds`.
  virtual void wait_event(std::size_t event, double timeout_seconds) = 0;
  virtual void wait(double timeout_seconds) = 0;
  // Between two recorded events that were waited for.
  [[nodiscard]] virtual double elapsed_seconds(std::size_t first, std::size_t last) = 0;

  // Work enqueued behind a closed gate starts when it opens, so the host's launch cost is hidden.
  virtual void close_gate() = 0;
  virtual void open_gate() noexcept = 0;
  // After a wait: whether the last gate gave up by itself before it was opened.
  [[nodiscard]] virtual bool gate_expired() = 0;

  [[nodiscard]] virtual std::unique_ptr<Graph> capture(const std::function<void()>& enqueue) = 0;
  virtual void replay(Graph& graph) = 0;

  // What the device ran while `work`, which waits for it, was carried out. May slow every later
  // launch of the process. Raises LibraryMissing without a profiler.
  [[nodiscard]] virtual std::vector<Activity>
  record_activity(const std::function<void()>& work) = 0;

  // Grows whenever device memory moved and captured addresses went stale.
  [[nodiscard]] virtual std::uint64_t memory_generation() const { return 0; }

  // Seconds of the runtime's own calls by quantity, medians of `samples`; see operators/host.py.
  [[nodiscard]] virtual std::map<std::string, double> host_costs(std::size_t samples) {
    (void)samples;
    throw Unsupported("host_costs: only a CUDA device has a runtime to measure");
  }

  // Tests of the runner: fail at the given call; only the mock can.
  virtual void inject(const std::string& what, std::int64_t at_call) = 0;

  std::optional<double> empty_graph_seconds; // measured once by the graph timer
};

// Closes the gate, and opens it on every way out: an exception never leaves the device spinning.
class Gate {
public:
  explicit Gate(Device& device) : device_(device) { device_.close_gate(); }
  ~Gate() { device_.open_gate(); }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

private:
  Device& device_;
};

} // namespace predictor
