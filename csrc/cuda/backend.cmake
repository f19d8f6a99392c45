# The CUDA backend: included by the top CMakeLists.txt where a CUDA compiler was found.
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
find_package(CUDAToolkit REQUIRED)
set(PREDICTOR_WITH_CUDA 1)

# Headers of the libraries come from their wheels: nvidia/*/include beside the build Python.
set(candidates ${PREDICTOR_NVIDIA_INCLUDE})
if(NOT candidates)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
      "import glob, sys; print(';'.join(f for p in sys.path if p for f in sorted(glob.glob(p + '/nvidia/*/include')) + glob.glob(p + '/include')))"
    OUTPUT_VARIABLE candidates OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
find_path(CUBLAS_INCLUDE cublasLt.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${candidates})
find_path(NVRTC_INCLUDE nvrtc.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${candidates})
find_path(CUDNN_INCLUDE cudnn.h HINTS ${candidates})
find_path(CUDNN_FRONTEND_INCLUDE cudnn_frontend.h HINTS ${candidates})

add_library(predictor_backend STATIC
  csrc/cuda/arena.cpp
  csrc/cuda/capture.cpp
  csrc/cuda/check.cpp
  csrc/cuda/cuda_device.cpp
  csrc/cuda/primitives.cu
  csrc/cuda/properties.cpp
  csrc/cuda/workload.cpp
  csrc/libraries/nccl.cpp
  csrc/operators/collectives.cpp
  csrc/operators/collectives/groups.cpp
  csrc/operators/collectives/pattern.cu
  csrc/operators/host.cu
  csrc/operators/memcpy.cpp
  csrc/operators/memory_bound.cpp
  csrc/operators/memory_bound/dropout.cu
  csrc/operators/memory_bound/elementwise.cu
  csrc/operators/memory_bound/embeddings.cu
  csrc/operators/memory_bound/losses.cu
  csrc/operators/memory_bound/norms.cu
  csrc/operators/memory_bound/routing.cu
  csrc/operators/memory_bound/softmax.cu
  csrc/operators/memory_bound/transposes.cu
  csrc/operators/optimizer.cu
  csrc/operators/registry.cpp)
target_compile_options(predictor_backend PRIVATE
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra;-Werror=all-warnings>")
target_link_libraries(predictor_backend PUBLIC predictor_harness CUDA::cudart_static)

if(CUBLAS_INCLUDE)
  set(PREDICTOR_WITH_GEMM 1)
  target_sources(predictor_backend PRIVATE
    csrc/libraries/cublas.cpp
    csrc/operators/gemm.cpp
    csrc/operators/gemm/libraries.cpp
    csrc/operators/gemm/lt_product.cpp
    csrc/operators/gemm/reference.cpp
    csrc/operators/gemm/shape.cpp
    csrc/operators/grouped_gemm.cpp
    csrc/operators/grouped_gemm/cublas.cpp
    csrc/operators/grouped_gemm/shape.cpp)
  # After the toolkit's own headers, which wheels hold in other versions too.
  target_compile_options(predictor_backend PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:SHELL:-idirafter ${CUBLAS_INCLUDE}>")
endif()

set(attention_headers FALSE)
if(CUDNN_INCLUDE AND CUDNN_FRONTEND_INCLUDE AND NVRTC_INCLUDE)
  set(attention_headers TRUE)
endif()
if(PREDICTOR_ATTENTION STREQUAL "ON" AND NOT attention_headers)
  message(FATAL_ERROR "PREDICTOR_ATTENTION=ON needs cudnn.h, cudnn_frontend.h and nvrtc.h; name "
                      "their folders by -DPREDICTOR_NVIDIA_INCLUDE=")
endif()
if(NOT PREDICTOR_ATTENTION STREQUAL "OFF" AND attention_headers)
  set(PREDICTOR_WITH_ATTENTION 1)
  target_sources(predictor_backend PRIVATE
    csrc/operators/attention.cpp
    csrc/operators/attention/reference.cpp
    csrc/operators/grouped_gemm/cudnn.cpp
    $<TARGET_OBJECTS:predictor_cudnn_plans>)
  # Objects of their own at -O1: cudnn-frontend is nearly the whole build otherwise.
  add_library(predictor_cudnn_plans OBJECT
    csrc/operators/attention/ahead.cpp
    csrc/operators/attention/plan.cpp
    csrc/operators/grouped_gemm/cudnn_plan.cpp)
  target_compile_definitions(predictor_cudnn_plans PRIVATE
    NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING
    CUDNN_FRONTEND_SKIP_JSON_LIB)
  target_include_directories(predictor_cudnn_plans PRIVATE csrc)
  target_include_directories(predictor_cudnn_plans SYSTEM PRIVATE
    ${CUDAToolkit_INCLUDE_DIRS} ${CUDNN_FRONTEND_INCLUDE} ${CUDNN_INCLUDE})
  target_compile_options(predictor_cudnn_plans PRIVATE
    -O1 -Wall -Wextra -Werror "SHELL:-idirafter ${NVRTC_INCLUDE}")
endif()

target_compile_definitions(predictor_backend PRIVATE
  PREDICTOR_WITH_CUDA=${PREDICTOR_WITH_CUDA}
  PREDICTOR_WITH_GEMM=${PREDICTOR_WITH_GEMM}
  PREDICTOR_WITH_ATTENTION=${PREDICTOR_WITH_ATTENTION})
