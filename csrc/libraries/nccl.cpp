#include "libraries/nccl.hpp"

#include "cuda/check.hpp"
#include "errors.hpp"
#include "format_text.hpp"

namespace predictor {

Nccl::Nccl() : library({"nccl", "PREDICTOR_NCCL", "nvidia/*/lib", "libnccl.so.2"}) {
  library.bind(get_version, "ncclGetVersion");
  library.bind(get_unique_id, "ncclGetUniqueId");
  library.bind(init_rank, "ncclCommInitRankConfig");
  library.bind(destroy, "ncclCommDestroy");
  library.bind(abort, "ncclCommAbort");
  library.bind(async_error, "ncclCommGetAsyncError");
  library.bind(error_text, "ncclGetErrorString");
  library.bind(last_error, "ncclGetLastError");
  library.bind(group_start, "ncclGroupStart");
  library.bind(group_end, "ncclGroupEnd");
  library.bind(all_reduce, "ncclAllReduce");
  library.bind(all_gather, "ncclAllGather");
  library.bind(reduce_scatter, "ncclReduceScatter");
  library.bind(broadcast, "ncclBroadcast");
  library.bind(send, "ncclSend");
  library.bind(receive, "ncclRecv");
}

std::string Nccl::version() const {
  int number = 0; // 22809 is 2.28.9
  check(get_version(&number), "ncclGetVersion");
  return text(number / 10000, '.', number / 100 % 100, '.', number % 100);
}

void Nccl::check(NcclResult result, const char* call, std::source_location where) const {
  if (result == NcclResult::success) {
    return;
  }
  if (result == NcclResult::unhandled_cuda_error) {
    if (const cudaError_t cuda = cudaGetLastError(); cuda != cudaSuccess) {
      raise_cuda_error(cuda, call, where); // the cause says more than the library does
    }
  }
  const char* details = last_error(nullptr);
  const std::string message =
      text("NCCL: ", error_text(result), " (result ", static_cast<int>(result), ") from ", call,
           " at ", where.file_name(), ':', where.line(), details != nullptr ? ": " : "",
           details != nullptr ? details : "");
  switch (result) {
  case NcclResult::invalid_argument:
  case NcclResult::invalid_usage:
    throw NativeError(message);
  default:
    throw DeviceFault(message);
  }
}

} // namespace predictor
