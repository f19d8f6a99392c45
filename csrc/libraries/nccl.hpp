// NCCL, opened at run time. The few types and prototypes that are called are spelt out here: they
// are part of NCCL's stable C interface since 2.18, and no header is needed to build.
#pragma once

#include "libraries/loader.hpp"

#include <cstddef>
#include <cuda_runtime.h>
#include <source_location>
#include <string>

namespace predictor {

inline constexpr std::size_t nccl_id_bytes = 128;

struct NcclId {
  char bytes[nccl_id_bytes];
};

struct NcclCommOpaque;
using NcclComm = NcclCommOpaque*;

enum class NcclResult : int {
  success = 0,
  unhandled_cuda_error = 1,
  system_error = 2,
  internal_error = 3,
  invalid_argument = 4,
  invalid_usage = 5,
  remote_error = 6,
  in_progress = 7,
};

enum class NcclType : int { int8 = 0, float16 = 6, float32 = 7, bfloat16 = 9 };
enum class NcclOperation : int { sum = 0 };

// ncclConfig_t as of 2.18; later libraries read as much of it as `size` says.
struct NcclConfig {
  std::size_t size = sizeof(NcclConfig);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 21800;
  int blocking = 1;
  int cga_cluster_size = undefined;
  int min_ctas = undefined;
  int max_ctas = undefined;
  const char* net_name = nullptr;
  int split_share = undefined;
  int traffic_class = undefined; // padding in 2.18, a member since 2.25

  static constexpr int undefined = -2147483647 - 1; // NCCL_CONFIG_UNDEF_INT
};

// The functions that this project calls.
struct Nccl {
  Nccl();

  Library library;
  NcclResult (*get_version)(int*) = nullptr;
  NcclResult (*get_unique_id)(NcclId*) = nullptr;
  NcclResult (*init_rank)(NcclComm*, int, NcclId, int, NcclConfig*) = nullptr;
  NcclResult (*destroy)(NcclComm) = nullptr;
  NcclResult (*abort)(NcclComm) = nullptr;
  NcclResult (*async_error)(NcclComm, NcclResult*) = nullptr;
  const char* (*error_text)(NcclResult) = nullptr;
  const char* (*last_error)(NcclComm) = nullptr;
  NcclResult (*group_start)() = nullptr;
  NcclResult (*group_end)() = nullptr;
  NcclResult (*all_reduce)(const void*, void*, std::size_t, NcclType, NcclOperation, NcclComm,
                           cudaStream_t) = nullptr;
  NcclResult (*all_gather)(const void*, void*, std::size_t, NcclType, NcclComm,
                           cudaStream_t) = nullptr;
  NcclResult (*reduce_scatter)(const void*, void*, std::size_t, NcclType, NcclOperation, NcclComm,
                               cudaStream_t) = nullptr;
  NcclResult (*broadcast)(const void*, void*, std::size_t, NcclType, int, NcclComm,
                          cudaStream_t) = nullptr;
  NcclResult (*send)(const void*, std::size_t, NcclType, int, NcclComm, cudaStream_t) = nullptr;
  NcclResult (*receive)(void*, std::size_t, NcclType, int, NcclComm, cudaStream_t) = nullptr;

  [[nodiscard]] std::string version() const;

  // Raises OutOfDeviceMemory, DeviceFault (the communicator is lost) or NativeError.
  void check(NcclResult result, const char* call,
             std::source_location where = std::source_location::current()) const;
};

#define NCCL_CHECK(nccl, call) (nccl).check((nccl).call, #call)

} // namespace predictor
