// Which devices this build can open.
#pragma once

#include "device.hpp"
#include "mock/mock_device.hpp"

#include <memory>

#ifndef PREDICTOR_WITH_CUDA
#define PREDICTOR_WITH_CUDA 0
#endif
#ifndef PREDICTOR_WITH_GEMM
#define PREDICTOR_WITH_GEMM 0
#endif
#ifndef PREDICTOR_WITH_ATTENTION
#define PREDICTOR_WITH_ATTENTION 0
#endif

namespace predictor {

inline constexpr bool built_with_cuda = PREDICTOR_WITH_CUDA;
inline constexpr bool built_with_gemm = PREDICTOR_WITH_GEMM;
inline constexpr bool built_with_attention = PREDICTOR_WITH_ATTENTION;

// 0 without CUDA, a driver or a GPU.
[[nodiscard]] int cuda_device_count() noexcept;

// Raises Unsupported in a build without CUDA, NativeError for an index that is not there.
[[nodiscard]] std::shared_ptr<Device> make_cuda_device(int index, bool separate_buffers);

} // namespace predictor
