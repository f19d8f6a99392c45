#include "cuda/cuda_device.hpp"

#include "backends.hpp"
#include "cuda/properties.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "libraries/cupti.hpp"
#include "operators/registry.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

namespace predictor {
namespace {

constexpr double gate_timeout_seconds = 1.0;
constexpr double spin_seconds = 2e-3; // of polling before the host thread starts to sleep
constexpr std::size_t largest_first_arena = std::size_t{12} << 30;

// Calls somebody else's launches; they own their memory.
class CallableWorkload final : public Workload {
public:
  explicit CallableWorkload(std::function<void()> launch) : launch_(std::move(launch)) {
    description = "callable";
  }
  void enqueue(std::size_t) override { launch_(); }
  [[nodiscard]] bool capturable() const override { return false; }
  void begin_check(std::uint64_t) override {
    throw Unsupported("check: a callable has no reference to be checked against");
  }
  [[nodiscard]] double finish_check() override { return 0.0; }

private:
  std::function<void()> launch_;
};

} // namespace

CudaDevice::CudaDevice(int index, bool separate_buffers)
    : index_(index), separate_buffers_(separate_buffers) {
  if (const int count = cuda_device_count(); index < 0 || index >= count) {
    throw NativeError(
        text("device index (", index, ") is out of range: CUDA sees ", count, " GPUs here"));
  }
  CUDA_CHECK(cudaSetDevice(index_));
  sm_count_ = device_attribute(cudaDevAttrMultiProcessorCount, index_);
  l2_bytes_ = static_cast<std::size_t>(device_attribute(cudaDevAttrL2CacheSize, index_));
  for (StreamHandle& lane : lanes_) {
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    lane.reset(stream);
  }
  cudaEvent_t fork = nullptr;
  CUDA_CHECK(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming));
  fork_.reset(fork);
  for (EventHandle& handle : events_) {
    cudaEvent_t event = nullptr;
    CUDA_CHECK(cudaEventCreate(&event));
    handle.reset(event);
  }
  void* flags = nullptr;
  CUDA_CHECK(cudaHostAlloc(&flags, sizeof(GateFlags), cudaHostAllocMapped));
  gate_memory_.reset(flags);
  gate_flags_ = new (flags) GateFlags{};
  void* mapped = nullptr;
  CUDA_CHECK(cudaHostGetDevicePointer(&mapped, flags, 0));
  gate_flags_device_ = static_cast<GateFlags*>(mapped);

  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  const std::size_t first =
      std::min(free_bytes / 8, largest_first_arena) / Arena::alignment * Arena::alignment;
  const auto fill_inputs = [this](void* data, std::size_t bytes) {
    fill(data, DataType::bf16, static_cast<std::int64_t>(bytes / 2), Fill::normal(), 1,
         this->stream());
  };
  const auto fill_outputs = [this](void* data, std::size_t bytes) {
    CUDA_CHECK(cudaMemsetAsync(data, 0, bytes, this->stream()));
  };
  inputs_ = std::make_unique<Arena>(first, fill_inputs);
  outputs_ = std::make_unique<Arena>(first, fill_outputs);
}

CudaDevice::~CudaDevice() {
  (void)cudaSetDevice(index_);
  groups.reset();
  attention_library.reset(); // the libraries' handles go before the stream that they use
  gemm_libraries.reset();
}

std::map<std::string, LibraryInfo> CudaDevice::libraries() {
  return operator_libraries(*this);
}

std::uintptr_t CudaDevice::stream_handle() const {
  return reinterpret_cast<std::uintptr_t>(lanes_.front().get());
}

std::unique_ptr<Workload> CudaDevice::prepare(const Request& request) {
  begin_operation();
  return prepare_operator(*this, request);
}

void CudaDevice::foresee(const std::vector<Request>& coming) {
  begin_operation();
  foresee_operators(*this, coming);
}

std::unique_ptr<Workload> CudaDevice::prepare_callable(std::function<void()> launch,
                                                       std::size_t launches_per_call, double) {
  auto workload = std::make_unique<CallableWorkload>(std::move(launch));
  workload->launches_per_enqueue = launches_per_call;
  return workload;
}

std::string CudaDevice::new_group_id() {
  begin_operation();
  return new_nccl_id(*this);
}

void CudaDevice::join(const Membership& membership) {
  begin_operation();
  join_group(*this, membership);
}

void CudaDevice::leave(const std::string& name) {
  begin_operation();
  leave_group(*this, name);
}

void CudaDevice::abort_groups() noexcept {
  abort_all_groups(*this);
}

void CudaDevice::use_lane(std::size_t lane) {
  lane_ = std::min(lane, lane_count - 1);
}

void CudaDevice::follow_first_lane() {
  CUDA_CHECK(cudaEventRecord(fork_.get(), lanes_.front().get()));
  CUDA_CHECK(cudaStreamWaitEvent(stream(), fork_.get(), 0));
}

void CudaDevice::begin_operation() {
  lane_ = 0;
  CUDA_CHECK(cudaSetDevice(index_));
}

double CudaDevice::host_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void CudaDevice::record(std::size_t event) {
  CUDA_CHECK(cudaEventRecord(events_.at(event).get(), stream()));
}

void CudaDevice::wait_event(std::size_t event, double timeout_seconds) {
  poll([&] { return cudaEventQuery(events_.at(event).get()); }, timeout_seconds);
}

void CudaDevice::wait(double timeout_seconds) {
  poll([&] { return cudaStreamQuery(stream()); }, timeout_seconds);
}

void CudaDevice::poll(const std::function<cudaError_t()>& query, double timeout_seconds) const {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  for (;;) {
    const cudaError_t status = query();
    if (status == cudaSuccess) {
      return;
    }
    if (status != cudaErrorNotReady) {
      raise_cuda_error(status, "waiting for the device");
    }
    (void)cudaGetLastError(); // "not ready" is no error
    const double waited = std::chrono::duration<double>(Clock::now() - begin).count();
    if (waited > timeout_seconds) {
      abandon_device();
      throw DeviceTimeout(
          text("no answer from the device in ", timeout_seconds, " s; end this process"));
    }
    if (waited < spin_seconds) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
}

double CudaDevice::elapsed_seconds(std::size_t first, std::size_t last) {
  float milliseconds = 0.0f;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events_.at(first).get(), events_.at(last).get()));
  return 1e-3 * static_cast<double>(milliseconds);
}

void CudaDevice::close_gate() {
  launch_gate(gate_flags_device_, ++gate_ticket_, gate_timeout_seconds, stream());
}

void CudaDevice::open_gate() noexcept {
  std::atomic_ref<std::uint32_t>(gate_flags_->opened).store(gate_ticket_);
}

bool CudaDevice::gate_expired() {
  return std::atomic_ref<std::uint32_t>(gate_flags_->expired).load() == gate_ticket_ &&
         gate_ticket_ != 0;
}

std::vector<Activity> CudaDevice::record_activity(const std::function<void()>& work) {
  return record_activity_with_cupti(work);
}

std::uint64_t CudaDevice::memory_generation() const {
  return inputs_->generation() + outputs_->generation();
}

std::map<std::string, double> CudaDevice::host_costs(std::size_t samples) {
  begin_operation();
  return measure_host_costs(*this, samples);
}

void CudaDevice::inject(const std::string&, std::int64_t) {
  throw Unsupported("inject: only the mock device fails on demand");
}

void CudaDevice::reserve(std::size_t input_bytes, std::size_t output_bytes) {
  try {
    inputs_->reserve(input_bytes);
    outputs_->reserve(output_bytes);
  } catch (const OutOfDeviceMemory&) {
    inputs_->release();
    outputs_->release();
    // The larger first, while all memory is free.
    Arena& first = input_bytes > output_bytes ? *inputs_ : *outputs_;
    Arena& second = input_bytes > output_bytes ? *outputs_ : *inputs_;
    first.reserve(std::max(input_bytes, output_bytes));
    second.reserve(std::min(input_bytes, output_bytes));
  }
}

int cuda_device_count() noexcept {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  (void)cudaGetLastError();
  return status == cudaSuccess ? count : 0;
}

std::shared_ptr<Device> make_cuda_device(int index, bool separate_buffers) {
  return std::make_shared<CudaDevice>(index, separate_buffers);
}

} // namespace predictor
