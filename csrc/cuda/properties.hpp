// What the CUDA runtime says of a GPU.
#pragma once

#include <cuda_runtime.h>

namespace predictor {

[[nodiscard]] int device_attribute(cudaDeviceAttr which, int device);

} // namespace predictor
