#include "operators/registry.hpp"

#include "backends.hpp"
#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>
#include <iterator>

namespace predictor {

std::unique_ptr<Workload> prepare_operator(CudaDevice& device, const Request& request) {
  using Prepare = std::unique_ptr<Workload> (*)(CudaDevice&, const Request&);
  static const std::map<std::string, Prepare, std::less<>> operators{
      {"gemm", &prepare_gemm},
      {"grouped_gemm", &prepare_grouped_gemm},
      {"attention", &prepare_attention},
      {"memory_bound", &prepare_memory_bound},
      {"optimizer", &prepare_optimizer},
      {"memcpy", &prepare_memcpy},
      {"all_reduce", &prepare_collective},
      {"all_gather", &prepare_collective},
      {"reduce_scatter", &prepare_collective},
      {"all_to_all", &prepare_collective},
      {"broadcast", &prepare_collective},
      {"send_recv", &prepare_collective},
  };
  const auto found = operators.find(request.op);
  if (found == operators.end()) {
    std::string known;
    for (const auto& [name, prepare] : operators) {
      known += ' ' + name;
    }
    throw Unsupported(
        text("operator '", request.op, "' has no native workload; there are:", known));
  }
  return found->second(device, request);
}

void foresee_operators(CudaDevice& device, const std::vector<Request>& coming) {
  std::vector<Request> attention;
  std::copy_if(coming.begin(), coming.end(), std::back_inserter(attention),
               [](const Request& request) { return request.op == "attention"; });
  try {
    foresee_attention(device, attention);
  } catch (const NativeError&) { // a missing library, say
  }
}

std::map<std::string, LibraryInfo> operator_libraries(CudaDevice& device) {
  std::map<std::string, LibraryInfo> found;
  add_gemm_libraries(device, found);
  add_attention_libraries(device, found);
  add_nccl_library(device, found);
  return found;
}

#if !PREDICTOR_WITH_GEMM
std::unique_ptr<Workload> prepare_gemm(CudaDevice&, const Request&) {
  throw Unsupported("gemm: this build found no cuBLAS headers; install the nvidia-cublas wheel and "
                    "build again");
}

std::unique_ptr<Workload> prepare_grouped_gemm(CudaDevice& device, const Request& request) {
  return prepare_gemm(device, request);
}

void add_gemm_libraries(CudaDevice&, std::map<std::string, LibraryInfo>&) {}
#endif

#if !PREDICTOR_WITH_ATTENTION
std::unique_ptr<Workload> prepare_attention(CudaDevice&, const Request&) {
  throw Unsupported("attention: this build found no headers of cuDNN and cudnn-frontend; install "
                    "the wheels nvidia-cudnn-cu13 and nvidia-cudnn-frontend and build again");
}

void foresee_attention(CudaDevice&, const std::vector<Request>&) {}

void add_attention_libraries(CudaDevice&, std::map<std::string, LibraryInfo>&) {}
#endif

} // namespace predictor
