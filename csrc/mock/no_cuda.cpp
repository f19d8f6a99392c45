// Stands in for csrc/cuda/ in a build without a CUDA compiler.
#include "backends.hpp"
#include "errors.hpp"

namespace predictor {

int cuda_device_count() noexcept {
  return 0;
}

std::shared_ptr<Device> make_cuda_device(int, bool) {
  throw Unsupported("this build has no CUDA backend: install again where nvcc is on PATH, or use "
                    "Device('mock')");
}

} // namespace predictor
