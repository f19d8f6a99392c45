// What the runtime's own calls cost: the host's clock around chains of them, and, where the GPU's
// time is asked for, events around a chain that was queued behind a gate.
#include "cuda/cuda_device.hpp"
#include "harness/statistics.hpp"
#include "operators/registry.hpp"

#include <array>
#include <functional>
#include <vector>

namespace predictor {
namespace {

constexpr double timeout_seconds = 10.0;
constexpr std::size_t chain = 256; // well below the driver's queue of 1024 entries
constexpr std::size_t long_graph = 512;
constexpr std::size_t hops = 64;

__global__ void empty_kernel() {}

void launch_empty(cudaStream_t stream) {
  empty_kernel<<<1, 1, 0, stream>>>();
  CUDA_CHECK(cudaGetLastError());
}

class HostCosts {
public:
  HostCosts(CudaDevice& device, std::size_t samples) : device_(device), samples_(samples) {
    cudaStream_t stream = nullptr;
    CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    other_.reset(stream);
    for (EventHandle& handle : events_) {
      cudaEvent_t event = nullptr;
      CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
      handle.reset(event);
    }
  }

  [[nodiscard]] std::map<std::string, double> measure() {
    const cudaStream_t stream = device_.stream();
    const auto one = nodes(1);
    const auto many = nodes(long_graph);
    const double replay = on_host([&] { device_.replay(*one); });
    const double long_replay = on_host([&] { device_.replay(*many); }, 8);
    const double same = on_device([&] { chain_of(stream, stream); });
    const double across = on_device([&] { chain_of(stream, other_.get()); });
    return {
        {"launch", on_host([&] { launch_empty(stream); })},
        {"event_record", on_host([&] { CUDA_CHECK(cudaEventRecord(events_[0].get(), stream)); })},
        {"stream_wait",
         on_host([&] { CUDA_CHECK(cudaStreamWaitEvent(stream, events_[0].get(), 0)); })},
        {"graph_launch", replay},
        {"graph_launch_node", (long_replay - replay) / static_cast<double>(long_graph - 1)},
        {"graph_node",
         (on_device([&] { device_.replay(*many); }) - on_device([&] { device_.replay(*one); })) /
             static_cast<double>(long_graph - 1)},
        {"stream_hop", (across - same) / static_cast<double>(2 * hops)},
    };
  }

private:
  [[nodiscard]] std::unique_ptr<Graph> nodes(std::size_t count) {
    return device_.capture([&] {
      for (std::size_t i = 0; i < count; ++i) {
        launch_empty(device_.stream());
      }
    });
  }

  // Host seconds of a call, the median of samples over a chain of them, the first being warm-up.
  [[nodiscard]] double on_host(const std::function<void()>& call, std::size_t calls = chain) {
    std::vector<double> seconds;
    for (std::size_t sample = 0; sample <= samples_; ++sample) {
      const double begin = device_.host_seconds();
      for (std::size_t i = 0; i < calls; ++i) {
        call();
      }
      seconds.push_back((device_.host_seconds() - begin) / static_cast<double>(calls));
      device_.wait(timeout_seconds);
    }
    seconds.erase(seconds.begin());
    return summarise(seconds).median;
  }

  // Device seconds of work that is queued before it begins.
  [[nodiscard]] double on_device(const std::function<void()>& work) {
    std::vector<double> seconds;
    for (std::size_t sample = 0; sample <= samples_; ++sample) {
      {
        const Gate gate(device_);
        device_.record(0);
        work();
        device_.record(1);
      }
      device_.wait(timeout_seconds);
      seconds.push_back(device_.elapsed_seconds(0, 1));
    }
    seconds.erase(seconds.begin());
    return summarise(seconds).median;
  }

  // Kernels in turn on two streams, each waiting for the one before by an event; on one stream the
  // same without the events.
  void chain_of(cudaStream_t first, cudaStream_t second) {
    for (std::size_t i = 0; i < hops; ++i) {
      launch_empty(first);
      pass(first, second, 0);
      launch_empty(second);
      pass(second, first, 1);
    }
  }

  void pass(cudaStream_t from, cudaStream_t to, std::size_t event) {
    if (from == to) {
      return;
    }
    CUDA_CHECK(cudaEventRecord(events_[event].get(), from));
    CUDA_CHECK(cudaStreamWaitEvent(to, events_[event].get(), 0));
  }

  CudaDevice& device_;
  std::size_t samples_;
  StreamHandle other_;
  std::array<EventHandle, 2> events_;
};

} // namespace

std::map<std::string, double> measure_host_costs(CudaDevice& device, std::size_t samples) {
  return HostCosts(device, samples).measure();
}

} // namespace predictor
