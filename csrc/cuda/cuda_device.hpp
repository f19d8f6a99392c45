// The CUDA backend of the seam.
#pragma once

#include "cuda/arena.hpp"
#include "cuda/check.hpp"
#include "cuda/primitives.hpp"
#include "device.hpp"

#include <array>
#include <vector>

namespace predictor {

struct GemmLibraries;    // operators/gemm.cpp
struct AttentionLibrary; // operators/attention.cpp
struct Groups;           // operators/collectives/groups.hpp

class CudaDevice final : public Device {
public:
  // With `separate_buffers` each operand is an allocation of its own, as large as it is and holding
  // nothing yet, so that a memory checker sees where each begins and ends. Nothing is timed so.
  explicit CudaDevice(int index, bool separate_buffers = false);
  ~CudaDevice() override;
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  [[nodiscard]] std::map<std::string, Property> properties() const override;
  [[nodiscard]] std::map<std::string, LibraryInfo> libraries() override;
  [[nodiscard]] std::uintptr_t stream_handle() const override;
  [[nodiscard]] std::unique_ptr<Workload> prepare(const Request& request) override;
  [[nodiscard]] std::unique_ptr<Workload> prepare_callable(std::function<void()> launch,
                                                           std::size_t launches_per_call,
                                                           double seconds_hint) override;
  void foresee(const std::vector<Request>& coming) override;
  [[nodiscard]] std::string new_group_id() override;
  void join(const Membership& membership) override;
  void leave(const std::string& name) override;
  void abort_groups() noexcept override;
  void use_lane(std::size_t lane) override;
  void follow_first_lane() override;
  void begin_operation() override;

  [[nodiscard]] double host_seconds() override;
  void record(std::size_t event) override;
  void wait_event(std::size_t event, double timeout_seconds) override;
  void wait(double timeout_seconds) override;
  [[nodiscard]] double elapsed_seconds(std::size_t first, std::size_t last) override;
  void close_gate() override;
  void open_gate() noexcept override;
  [[nodiscard]] bool gate_expired() override;
  [[nodiscard]] std::unique_ptr<Graph> capture(const std::function<void()>& enqueue) override;
  void replay(Graph& graph) override;
  [[nodiscard]] std::vector<Activity> record_activity(const std::function<void()>& work) override;
  [[nodiscard]] std::uint64_t memory_generation() const override;
  [[nodiscard]] std::map<std::string, double> host_costs(std::size_t samples) override;
  void inject(const std::string& what, std::int64_t at_call) override;

  // For operators: the stream of the chosen lane.
  [[nodiscard]] cudaStream_t stream() const { return lanes_.at(lane_).get(); }
  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] int sm_count() const { return sm_count_; }
  [[nodiscard]] std::size_t l2_bytes() const { return l2_bytes_; }
  [[nodiscard]] bool separate_buffers() const { return separate_buffers_; }
  [[nodiscard]] Arena& inputs() { return *inputs_; }
  [[nodiscard]] Arena& outputs() { return *outputs_; }
  // Room in both arenas, taking one's slack for the other where memory is short.
  void reserve(std::size_t input_bytes, std::size_t output_bytes);

  // Opened at first use.
  std::shared_ptr<GemmLibraries> gemm_libraries;
  std::shared_ptr<AttentionLibrary> attention_library;
  std::shared_ptr<Groups> groups;

private:
  void poll(const std::function<cudaError_t()>& query, double timeout_seconds) const;

  int index_;
  bool separate_buffers_;
  int sm_count_ = 0;
  std::size_t l2_bytes_ = 0;
  std::array<StreamHandle, lane_count> lanes_;
  std::size_t lane_ = 0;
  EventHandle fork_;
  std::array<EventHandle, event_count> events_;
  HostMemory gate_memory_;
  GateFlags* gate_flags_ = nullptr;        // the host's address
  GateFlags* gate_flags_device_ = nullptr; // the device's
  std::uint32_t gate_ticket_ = 0;
  std::unique_ptr<Arena> inputs_;
  std::unique_ptr<Arena> outputs_;
};

} // namespace predictor
