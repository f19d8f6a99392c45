// The operators of the CUDA backend, one line each in registry.cpp.
#pragma once

#include "device.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace predictor {

class CudaDevice;

// Raises Unsupported naming what this build, or this project, does not serve.
[[nodiscard]] std::unique_ptr<Workload> prepare_operator(CudaDevice& device,
                                                         const Request& request);

// Begins what of prepare_operator()'s work needs no device: attention's plans. Failures are told
// by prepare_operator().
void foresee_operators(CudaDevice& device, const std::vector<Request>& coming);

// Every library that an operator may open, opened where possible.
[[nodiscard]] std::map<std::string, LibraryInfo> operator_libraries(CudaDevice& device);

[[nodiscard]] std::unique_ptr<Workload> prepare_gemm(CudaDevice& device, const Request& request);
[[nodiscard]] std::unique_ptr<Workload> prepare_grouped_gemm(CudaDevice& device,
                                                             const Request& request);
[[nodiscard]] std::unique_ptr<Workload> prepare_attention(CudaDevice& device,
                                                          const Request& request);
[[nodiscard]] std::unique_ptr<Workload> prepare_memory_bound(CudaDevice& device,
                                                             const Request& request);
[[nodiscard]] std::unique_ptr<Workload> prepare_optimizer(CudaDevice& device,
                                                          const Request& request);

[[nodiscard]] std::unique_ptr<Workload> prepare_memcpy(CudaDevice& device, const Request& request);

// Seconds of the runtime's calls by quantity, medians of `samples`.
[[nodiscard]] std::map<std::string, double> measure_host_costs(CudaDevice& device,
                                                               std::size_t samples);

[[nodiscard]] std::unique_ptr<Workload> prepare_collective(CudaDevice& device,
                                                           const Request& request);

// Groups of ranks, through NCCL; each raises LibraryMissing where there is none.
[[nodiscard]] std::string new_nccl_id(CudaDevice& device);
void join_group(CudaDevice& device, const Membership& membership);
void leave_group(CudaDevice& device, const std::string& name);
void abort_all_groups(CudaDevice& device) noexcept;

void foresee_attention(CudaDevice& device, const std::vector<Request>& coming);

void add_nccl_library(CudaDevice& device, std::map<std::string, LibraryInfo>& found);
void add_gemm_libraries(CudaDevice& device, std::map<std::string, LibraryInfo>& found);
void add_attention_libraries(CudaDevice& device, std::map<std::string, LibraryInfo>& found);

} // namespace predictor
