// Launches of the CUDA backend as graphs.
#include "cuda/cuda_device.hpp"

namespace predictor {
namespace {

struct CudaGraph final : Graph {
  GraphExecHandle executable;
};

// Ends the capture on every way out; a stream left capturing would refuse all later work.
class Capture {
public:
  explicit Capture(cudaStream_t stream) : stream_(stream) {
    CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
  }
  ~Capture() {
    if (open_) {
      cudaGraph_t graph = nullptr;
      (void)cudaStreamEndCapture(stream_, &graph);
      const GraphHandle discarded(graph);
      (void)cudaGetLastError();
    }
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  [[nodiscard]] GraphHandle finish() {
    open_ = false;
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
    return GraphHandle(graph);
  }

private:
  cudaStream_t stream_;
  bool open_ = true;
};

} // namespace

std::unique_ptr<Graph> CudaDevice::capture(const std::function<void()>& enqueue) {
  Capture running(stream());
  enqueue();
  const GraphHandle captured = running.finish();
  cudaGraphExec_t executable = nullptr;
  CUDA_CHECK(cudaGraphInstantiate(&executable, captured.get(), 0));
  auto graph = std::make_unique<CudaGraph>();
  graph->executable.reset(executable);
  return graph;
}

void CudaDevice::replay(Graph& graph) {
  CUDA_CHECK(cudaGraphLaunch(static_cast<CudaGraph&>(graph).executable.get(), stream()));
}

} // namespace predictor
