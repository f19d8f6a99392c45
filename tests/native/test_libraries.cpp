// Products and attention through the real loader and call sites, on fake libraries and a fake
// runtime: what becomes of a call that fails.
#include "cuda/cuda_device.hpp"
#include "errors.hpp"
#include "fake_cudart.hpp"
#include "operators/registry.hpp"

#include <cstdlib>
#include <dlfcn.h>
#include <doctest.h>
#include <string>

using predictor::CudaDevice;
using predictor::Fields;
using predictor::NativeError;
using predictor::Request;
using predictor::Workload;

namespace predictor { // what runs through a library of matrices alone

std::unique_ptr<Workload> prepare_operator(CudaDevice& device, const Request& request) {
  if (request.op == "attention") {
    return prepare_attention(device, request);
  }
  return request.op == "gemm" ? prepare_gemm(device, request)
                              : prepare_grouped_gemm(device, request);
}

void foresee_operators(CudaDevice& device, const std::vector<Request>& coming) {
  foresee_attention(device, coming);
}

std::map<std::string, LibraryInfo> operator_libraries(CudaDevice& device) {
  std::map<std::string, LibraryInfo> found;
  add_gemm_libraries(device, found);
  add_attention_libraries(device, found);
  return found;
}

std::map<std::string, double> measure_host_costs(CudaDevice&, std::size_t) {
  return {};
}
std::string new_nccl_id(CudaDevice&) {
  return {};
}
void join_group(CudaDevice&, const Membership&) {}
void leave_group(CudaDevice&, const std::string&) {}
void abort_all_groups(CudaDevice&) noexcept {}

} // namespace predictor

namespace {

using Values = std::map<std::string, Fields::Value, std::less<>>;

// A fake library, by its path.
class Fake {
public:
  explicit Fake(const char* path) : library_(dlopen(path, RTLD_NOW)) {}

  void reset() const { exported<void()>("fake_reset")(); }
  void fail_at(const char* name, int at, int status) const {
    exported<void(const char*, int, int)>("fake_fail_at")(name, at, status);
  }
  [[nodiscard]] int calls(const char* name) const {
    return exported<int(const char*)>("fake_calls")(name);
  }

private:
  template <typename Function>
  Function* exported(const char* name) const {
    return reinterpret_cast<Function*>(dlsym(library_, name));
  }

  void* library_;
};

Values with(Values values, const Values& others) {
  for (const auto& [name, value] : others) {
    values.insert_or_assign(name, value);
  }
  return values;
}

const Values gemm{{"m", std::int64_t{64}},
                  {"n", std::int64_t{64}},
                  {"k", std::int64_t{64}},
                  {"kind", std::string("forward")},
                  {"dtype", std::string("bf16")},
                  {"fill", std::string("normal")},
                  {"algorithm", std::string("heuristic")},
                  {"api", std::string("cublaslt")}};
const Values experts{{"counts", std::vector<std::int64_t>{16, 48}},
                     {"tokens", std::int64_t{64}},
                     {"experts", std::int64_t{2}},
                     {"n", std::int64_t{64}},
                     {"k", std::int64_t{64}},
                     {"kind", std::string("forward")},
                     {"dtype", std::string("bf16")},
                     {"impl", std::string("looped")}};
const Values attention{{"batch", std::int64_t{2}},
                       {"num_heads", std::int64_t{4}},
                       {"num_query_groups", std::int64_t{4}},
                       {"seq_length", std::int64_t{64}},
                       {"head_dim", std::int64_t{64}},
                       {"dtype", std::string("bf16")},
                       {"kind", std::string("forward")},
                       {"impl", std::string("cudnn")}};

// Prepares a workload and launches it once.
void launch(CudaDevice& device, const std::string& op, const Values& values) {
  const auto workload = device.prepare({.op = op,
                                        .fields = Fields(values),
                                        .working_set_bytes = 1 << 20,
                                        .cache = predictor::Cache::warm});
  workload->acquire();
  workload->begin_round();
  workload->enqueue(0);
  device.wait(1.0);
}

void use_cublas() {
  fake::runtime() = {};
  fake::runtime().free_bytes = std::size_t{4} << 30;
  CudaDevice device(0, true);
  (void)device.libraries();
  launch(device, "gemm", with(gemm, {{"api", std::string("cublas")}}));
  launch(device, "gemm", with(gemm, {{"bias", true}, {"gelu", true}}));
  launch(device, "gemm", with(gemm, {{"dtype", std::string("fp8")}}));
  launch(device, "gemm", with(gemm, {{"algorithm", std::string("best")}}));
  for (const char* impl : {"looped", "multi_stream", "cublas_grouped"}) {
    launch(device, "grouped_gemm", with(experts, {{"impl", std::string(impl)}}));
  }
}

void use_cudnn() {
  fake::runtime() = {};
  fake::runtime().free_bytes = std::size_t{4} << 30;
  CudaDevice device(0, true);
  launch(device, "attention", attention);
  launch(device, "attention", with(attention, {{"kind", std::string("backward")}}));
  launch(device, "grouped_gemm", with(experts, {{"impl", std::string("cudnn_moe")}}));
}

// Attention whose plans are built while something else could be measured.
void use_cudnn_ahead() {
  fake::runtime() = {};
  fake::runtime().free_bytes = std::size_t{4} << 30;
  CudaDevice device(0, true);
  device.foresee({{.op = "attention",
                   .fields = Fields(with(attention, {{"kind", std::string("backward")}}))}});
  launch(device, "attention", with(attention, {{"kind", std::string("backward")}}));
  launch(device, "attention", attention);
}

// What a failing call ends in; empty where it does not matter.
std::string told(void (*use)()) {
  try {
    use();
  } catch (const NativeError& error) {
    return error.what();
  }
  return {};
}

struct Call {
  const char* function; // of the library
  const char* named;    // in the error
};

} // namespace

TEST_SUITE("libraries") {
  TEST_CASE("every call to cuBLAS and cuBLASLt that fails is an error that names it") {
    const Fake cublas(FAKE_CUBLAS);
    setenv("PREDICTOR_CUBLAS", FAKE_CUBLAS, 1);
    setenv("PREDICTOR_CUBLASLT", FAKE_CUBLAS, 1);
    for (const auto& [function, named] :
         {Call{"cublasCreate_v2", "->create("}, Call{"cublasGetVersion_v2", ".get_version("},
          Call{"cublasSetStream_v2", "->set_stream("},
          Call{"cublasSetWorkspace_v2", "->set_workspace("}, Call{"cublasGemmEx", ".gemm_ex("},
          Call{"cublasGemmGroupedBatchedEx", ".gemm_grouped_batched_ex("},
          Call{"cublasLtCreate", "->create("}, Call{"cublasLtMatmulDescCreate", ".desc_create("},
          Call{"cublasLtMatmulDescSetAttribute", ".desc_set("},
          Call{"cublasLtMatrixLayoutCreate", ".layout_create("},
          Call{"cublasLtMatmulPreferenceCreate", ".preference_create("},
          Call{"cublasLtMatmulPreferenceSetAttribute", ".preference_set("},
          Call{"cublasLtMatmulAlgoGetHeuristic", ".heuristic("},
          Call{"cublasLtMatmul", ".matmul("}}) {
      cublas.reset();
      use_cublas();
      const int count = cublas.calls(function);
      CHECK(count > 0);
      for (int at = 1; at <= count; ++at) {
        CAPTURE(function);
        CAPTURE(at);
        cublas.fail_at(function, at, 14); // internal error
        cublas.reset();
        CHECK(told(&use_cublas).find(named) != std::string::npos);
        cublas.fail_at("", 0, 0);
        CHECK(fake::runtime().allocations == 0);
      }
    }
    for (const char* giving_back :
         {"cublasDestroy_v2", "cublasLtDestroy", "cublasLtMatmulDescDestroy",
          "cublasLtMatrixLayoutDestroy", "cublasLtMatmulPreferenceDestroy"}) {
      cublas.fail_at(giving_back, 1, 14);
      cublas.reset();
      CHECK(told(&use_cublas).empty());
      CHECK(cublas.calls(giving_back) > 0);
    }
    cublas.fail_at("", 0, 0);
  }

  TEST_CASE("what a library says decides what becomes of the point") {
    const Fake cublas(FAKE_CUBLAS);
    setenv("PREDICTOR_CUBLASLT", FAKE_CUBLAS, 1);
    const auto fail_with = [&cublas](int status) {
      cublas.fail_at("cublasLtMatmul", 1, status);
      cublas.reset();
    };
    fail_with(3); // no memory
    CHECK_THROWS_AS(use_cublas(), predictor::OutOfDeviceMemory);
    fail_with(13); // the launch failed
    CHECK_THROWS_AS(use_cublas(), predictor::DeviceFault);
    fail_with(15); // not supported
    CHECK_THROWS_AS(use_cublas(), predictor::Unsupported);
    cublas.fail_at("", 0, 0);
  }

  TEST_CASE("every call to cuDNN that fails is an error that says so") {
    const Fake cudnn(FAKE_CUDNN);
    setenv("PREDICTOR_CUDNN", FAKE_CUDNN, 1);
    setenv("PREDICTOR_CUDART", FAKE_CUDNN, 1);
    cudnn.reset();
    use_cudnn();
    const int launches = cudnn.calls("cudnnBackendExecute");
    CHECK(launches == 3);
    constexpr int first_calls = 60; // each of them; of those that build later graphs, some
    for (const std::string function :
         {"cudnnCreate", "cudnnSetStream", "cudnnBackendCreateDescriptor",
          "cudnnBackendSetAttribute", "cudnnBackendGetAttribute", "cudnnBackendFinalize",
          "cudnnBackendExecute"}) {
      const int count = cudnn.calls(function.c_str());
      CHECK(count > 0);
      for (int at = 1; at <= count; at += at < first_calls ? 1 : 7) {
        CAPTURE(function);
        CAPTURE(at);
        cudnn.fail_at(function.c_str(), at, 4000); // internal error
        cudnn.reset();
        const std::string error = told(&use_cudnn);
        // cudnn-frontend makes room for more plans than there are, and asks for what it may lack.
        const bool spared =
            function == "cudnnBackendCreateDescriptor" || function == "cudnnBackendGetAttribute";
        if (spared && error.empty()) {
          CHECK(cudnn.calls("cudnnBackendExecute") == launches);
        } else {
          CHECK(error.find("cuDNN") != std::string::npos);
        }
        CHECK(fake::runtime().allocations == 0);
      }
      cudnn.fail_at("", 0, 0);
      cudnn.reset();
      CHECK(told(&use_cudnn).empty());
    }
    for (const char* giving_back : {"cudnnDestroy", "cudnnBackendDestroyDescriptor"}) {
      cudnn.fail_at(giving_back, 1, 4000);
      cudnn.reset();
      CHECK(told(&use_cudnn).empty());
      CHECK(cudnn.calls(giving_back) > 0);
    }
    cudnn.fail_at("", 0, 0);
  }

  TEST_CASE("plans that are foreseen are built once, also the one that a check needs") {
    const Fake cudnn(FAKE_CUDNN);
    setenv("PREDICTOR_CUDNN", FAKE_CUDNN, 1);
    setenv("PREDICTOR_CUDART", FAKE_CUDNN, 1);
    cudnn.fail_at("", 0, 0);
    const auto plans = [&cudnn](void (*use)()) {
      cudnn.reset();
      use();
      return cudnn.calls("cudnnBackendFinalize");
    };
    const int foreseen = plans(&use_cudnn_ahead);
    CHECK(cudnn.calls("cudnnBackendExecute") == 2);
    CHECK(cudnn.calls("cudnnCreate") == 2); // two threads must not share a handle
    CHECK(foreseen == plans([] {
            fake::runtime() = {};
            fake::runtime().free_bytes = std::size_t{4} << 30;
            CudaDevice device(0, true);
            launch(device, "attention", with(attention, {{"kind", std::string("backward")}}));
            launch(device, "attention", attention);
          }));
  }

  TEST_CASE("a plan that could not be built ahead is built when it is needed") {
    const Fake cudnn(FAKE_CUDNN);
    setenv("PREDICTOR_CUDNN", FAKE_CUDNN, 1);
    setenv("PREDICTOR_CUDART", FAKE_CUDNN, 1);
    cudnn.fail_at("cudnnBackendFinalize", 1, 4000);
    cudnn.reset();
    CHECK(told(&use_cudnn_ahead).empty());
    CHECK(cudnn.calls("cudnnBackendExecute") == 2);
    cudnn.fail_at("", 0, 0);
  }
}
