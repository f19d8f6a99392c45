#include "operators/attention/plan.hpp"

#include "errors.hpp"
#include "format_text.hpp"
#include "libraries/loader.hpp"
#include "operators/attention/ahead.hpp"

#include <cstdlib>
#include <cudnn_frontend.h>
#include <unordered_map>
#include <utility>
#include <vector>

// Where cudnn-frontend, built for dynamic loading, finds cuDNN's functions.
void* cudnn_frontend::cudnn_dlhandle = nullptr;

namespace predictor {
namespace {

namespace fe = cudnn_frontend;

#define PREDICTOR_TEXT(symbol) #symbol
#define PREDICTOR_EXPANDED_TEXT(symbol) PREDICTOR_TEXT(symbol)

const LibraryName cudnn_name{"cudnn", "PREDICTOR_CUDNN", "nvidia/*/lib",
                             "libcudnn.so." PREDICTOR_EXPANDED_TEXT(CUDNN_MAJOR)};
// cudnn-frontend calls the runtime through a library of its own choice, unless told.
const LibraryName cudart_name{"cudart", "PREDICTOR_CUDART", "nvidia/*/lib", "libcudart.so.13"};
constexpr const char* frontend_cudart_variable = "CUDNN_FRONTEND_CUDART_LIB_NAME";

void cudnn_check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) {
    throw NativeError(text("cuDNN: ", fe::detail::get_error_string(status), " (status ",
                           static_cast<int>(status), ") from ", call));
  }
}

// Raises Failure with cuDNN's reason, or what the device itself has to report.
template <typename Failure>
void graph_check(const fe::error_t& error, const char* step, const std::string& description) {
  if (error.is_good()) {
    return;
  }
  if (const cudaError_t cuda = cudaGetLastError(); cuda != cudaSuccess) {
    raise_cuda_error(cuda, step);
  }
  throw Failure(text("cuDNN cannot ", step, " for ", description, ": ", error.err_msg));
}

// Tensors are told apart by numbers above zero.
std::int64_t uid(std::size_t tensor) {
  return static_cast<std::int64_t>(tensor) + 1;
}

using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

// What describes packed documents: their lengths, and where each begins in a tensor.
enum class Ragged : std::size_t { lengths, queries, keys, values, outputs };

std::int64_t ragged_uid(std::size_t which) {
  return uid(t_work) + 1 + static_cast<std::int64_t>(which);
}

} // namespace

class CudnnHandle {
public:
  explicit CudnnHandle(cudaStream_t stream) {
    cudnn_check(fe::detail::create_handle(&handle_), "cudnnCreate");
    cudnn_check(fe::detail::set_stream(handle_, stream), "cudnnSetStream");
  }
  ~CudnnHandle() {
    if (handle_ != nullptr && !device_abandoned()) {
      (void)fe::detail::destroy_handle(handle_);
    }
  }
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;

  [[nodiscard]] cudnnHandle_t get() const { return handle_; }

private:
  cudnnHandle_t handle_ = nullptr;
};

struct AttentionLibrary {
  explicit AttentionLibrary(cudaStream_t stream) : cudnn(cudnn_name), cudart(cudart_name) {
    fe::cudnn_dlhandle = cudnn.handle();
    (void)setenv(frontend_cudart_variable, cudart.path().c_str(), 0); // the user's choice stays
    handle = std::make_shared<CudnnHandle>(stream);
  }

  Library cudnn;
  Library cudart;
  std::shared_ptr<CudnnHandle> handle;
  PlansAhead ahead;
};

AttentionLibrary& attention_library_of(CudaDevice& device) {
  if (!device.attention_library) {
    device.attention_library = std::make_shared<AttentionLibrary>(device.stream());
  }
  return *device.attention_library;
}

LibraryInfo describe(const AttentionLibrary& library) {
  const std::size_t version = fe::detail::get_backend_version(); // 91900 is 9.19.0
  return {.path = library.cudnn.path(),
          .version = text(version / 10000, '.', version / 100 % 100, '.', version % 100),
          .error = ""};
}

cudnnContext* cudnn_handle_of(const AttentionLibrary& library) {
  return library.handle->get();
}

// The graph as PyTorch builds it, and the plan that heuristics mode A chooses for it.
class AttentionPlan::Graph {
public:
  Graph(std::shared_ptr<CudnnHandle> handle, const AttentionShape& shape, std::string description)
      : handle_(std::move(handle)), shape_(shape), description_(std::move(description)) {
    graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (shape.packed()) {
      add_documents();
    }
    if (shape.backward) {
      add_backward();
    } else {
      add_forward();
    }
    check(graph_.validate(), "validate the graph");
    check(graph_.build_operation_graph(handle_->get()), "build the graph");
    check(graph_.create_execution_plans({fe::HeurMode_t::A}), "plan the graph");
    check(graph_.check_support(), "support the graph");
    check(graph_.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE), "build the plan");
    check(graph_.get_workspace_size(workspace_bytes_), "size the workspace");
  }

  [[nodiscard]] std::int64_t workspace_bytes() const { return workspace_bytes_; }

  void execute(const Buffers& buffers) {
    std::unordered_map<std::int64_t, void*> addresses;
    for (const std::size_t tensor : used_) {
      addresses[uid(tensor)] = buffers.get(tensor);
    }
    for (std::size_t i = 0; i < ragged_.size(); ++i) {
      addresses[ragged_uid(i)] = ragged_[i].get();
    }
    graph_check<NativeError>(graph_.execute(handle_->get(), addresses, buffers.get(t_work)),
                             "run the plan", description_);
  }

private:
  // A step of building: what fails there is not supported.
  void check(const fe::error_t& error, const char* step) const {
    graph_check<Unsupported>(error, step, description_);
  }

  // A tensor [sequences, heads, tokens, dim] stored as [sequences, tokens, heads, dim]; documents
  // lie one after the other, each from its ragged offset on.
  struct Form {
    std::int64_t tokens, heads, dim;
    Ragged offsets;
  };
  [[nodiscard]] Form queries() const {
    return {shape_.longest_queries(), shape_.heads, shape_.key_dim, Ragged::queries};
  }
  [[nodiscard]] Form keys() const {
    return {shape_.longest_keys(), shape_.groups, shape_.key_dim, Ragged::keys};
  }
  [[nodiscard]] Form values() const {
    return {shape_.longest_keys(), shape_.groups, shape_.value_dim, Ragged::values};
  }
  [[nodiscard]] Form outputs() const {
    return {shape_.longest_queries(), shape_.heads, shape_.value_dim, Ragged::outputs};
  }

  void lay_out(const TensorPointer& tensor, const Form& form) const {
    tensor->set_dim({shape_.sequences(), form.heads, form.tokens, form.dim})
        .set_stride({form.tokens * form.heads * form.dim, form.dim, form.heads * form.dim, 1})
        .set_data_type(fe::DataType_t::BFLOAT16);
    if (shape_.packed()) {
      tensor->set_ragged_offset(ragged_tensors_[static_cast<std::size_t>(form.offsets)]);
    }
  }

  // Lengths of all documents of the batch and where each begins in q, k, v and o, in elements.
  void add_documents() {
    const std::int64_t count = shape_.sequences();
    std::vector<std::int32_t> lengths;
    std::vector<std::int64_t> begins{0};
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t length =
          shape_.documents[static_cast<std::size_t>(i) % shape_.documents.size()];
      lengths.push_back(static_cast<std::int32_t>(length));
      begins.push_back(begins.back() + length);
    }
    ragged_.push_back(on_device(lengths));
    ragged_tensors_.push_back(small_tensor("lengths", count, fe::DataType_t::INT32));
    for (const std::int64_t width :
         {shape_.heads * shape_.key_dim, shape_.groups * shape_.key_dim,
          shape_.groups * shape_.value_dim, shape_.heads * shape_.value_dim}) {
      std::vector<std::int64_t> offsets = begins;
      for (std::int64_t& offset : offsets) {
        offset *= width;
      }
      ragged_.push_back(on_device(offsets));
      ragged_tensors_.push_back(small_tensor("offsets", count + 1, fe::DataType_t::INT64));
    }
  }

  template <typename T>
  [[nodiscard]] static DeviceMemory on_device(const std::vector<T>& values) {
    DeviceMemory memory = allocate_device_memory(values.size() * sizeof(T));
    CUDA_CHECK(
        cudaMemcpy(memory.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return memory;
  }

  TensorPointer small_tensor(const char* name, std::int64_t count, fe::DataType_t type) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(ragged_uid(ragged_tensors_.size()))
                             .set_dim({count, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(type));
  }

  TensorPointer input(AttentionTensor which, const char* name, const Form& form) {
    used_.push_back(which);
    const TensorPointer tensor =
        graph_.tensor(fe::graph::Tensor_attributes().set_name(name).set_uid(uid(which)));
    lay_out(tensor, form);
    return tensor;
  }

  void output(const TensorPointer& tensor, AttentionTensor which, const Form& form) {
    used_.push_back(which);
    tensor->set_output(true).set_uid(uid(which));
    lay_out(tensor, form);
  }

  [[nodiscard]] std::vector<std::int64_t> stats_dims() const {
    return {shape_.sequences(), shape_.heads, shape_.longest_queries(), 1};
  }
  [[nodiscard]] std::vector<std::int64_t> stats_strides() const {
    return {shape_.heads * shape_.longest_queries(), shape_.longest_queries(), 1, 1};
  }

  template <typename Options>
  void set_masks(Options& options) {
    options.set_attn_scale(static_cast<float>(shape_.scale()));
    if (shape_.causal && shape_.queries == shape_.keys) {
      options.set_causal_mask(true);
    } else if (shape_.causal) {
      options.set_causal_mask_bottom_right(true);
    }
    if (shape_.window > 0) {
      options.set_sliding_window_length(static_cast<int>(shape_.window));
    }
    if (shape_.packed()) {
      const TensorPointer& lengths = ragged_tensors_[static_cast<std::size_t>(Ragged::lengths)];
      options.set_padding_mask(true).set_seq_len_q(lengths).set_seq_len_kv(lengths);
    }
    if (shape_.bias) {
      used_.push_back(t_bias);
      const std::int64_t q = shape_.queries;
      const std::int64_t k = shape_.keys;
      options.set_bias(graph_.tensor(fe::graph::Tensor_attributes()
                                         .set_name("bias")
                                         .set_uid(uid(t_bias))
                                         .set_dim({shape_.batch, 1, q, k})
                                         .set_stride({q * k, q * k, k, 1})
                                         .set_data_type(fe::DataType_t::BFLOAT16)));
    }
  }

  void add_forward() {
    const auto q = input(t_q, "q", queries());
    const auto k = input(t_k, "k", keys());
    const auto v = input(t_v, "v", values());
    auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
    set_masks(options);
    const auto [o, stats] = graph_.sdpa(q, k, v, options);
    output(o, t_o, outputs());
    used_.push_back(t_stats);
    stats->set_output(true)
        .set_uid(uid(t_stats))
        .set_dim(stats_dims())
        .set_stride(stats_strides())
        .set_data_type(fe::DataType_t::FLOAT);
  }

  void add_backward() {
    const auto q = input(t_q, "q", queries());
    const auto k = input(t_k, "k", keys());
    const auto v = input(t_v, "v", values());
    const auto o = input(t_o, "o", outputs());
    const auto d_o = input(t_do, "do", outputs());
    used_.push_back(t_stats);
    const auto stats = graph_.tensor(fe::graph::Tensor_attributes()
                                         .set_name("stats")
                                         .set_uid(uid(t_stats))
                                         .set_dim(stats_dims())
                                         .set_stride(stats_strides())
                                         .set_data_type(fe::DataType_t::FLOAT));
    auto options = fe::graph::SDPA_backward_attributes().set_name("attention_backward");
    set_masks(options);
    const auto [dq, dk, dv] = graph_.sdpa_backward(q, k, v, o, d_o, stats, options);
    output(dq, t_dq, queries());
    output(dk, t_dk, keys());
    output(dv, t_dv, values());
  }

  std::shared_ptr<CudnnHandle> handle_;
  AttentionShape shape_;
  std::string description_;
  fe::graph::Graph graph_;
  std::vector<std::size_t> used_;
  std::vector<TensorPointer> ragged_tensors_; // in the order of Ragged
  std::vector<DeviceMemory> ragged_;
  std::int64_t workspace_bytes_ = 0;
};

AttentionPlan::AttentionPlan(std::shared_ptr<CudnnHandle> handle, const AttentionShape& shape,
                             std::string description)
    : graph_(std::make_unique<Graph>(std::move(handle), shape, std::move(description))) {}

AttentionPlan::~AttentionPlan() = default;

std::int64_t AttentionPlan::workspace_bytes() const {
  return graph_->workspace_bytes();
}

void AttentionPlan::execute(const Buffers& buffers) {
  graph_->execute(buffers);
}

std::shared_ptr<AttentionPlan> attention_plan(AttentionLibrary& library,
                                              const AttentionShape& shape,
                                              const std::string& description) {
  if (auto built = library.ahead.find(shape)) {
    return built;
  }
  return std::make_shared<AttentionPlan>(library.handle, shape, description);
}

void plan_attention_ahead(CudaDevice& device, const std::vector<AttentionShape>& shapes) {
  AttentionLibrary& library = attention_library_of(device);
  std::vector<AttentionShape> wanted;
  for (AttentionShape shape : shapes) {
    if (shape.packed()) {
      continue; // its plan holds device memory, which is not to be had beside a measurement
    }
    wanted.push_back(shape);
    if (std::exchange(shape.backward, false)) {
      wanted.push_back(shape); // a check runs the forward pass first
    }
  }
  const auto handle = std::make_shared<CudnnHandle>(device.stream());
  library.ahead.begin(wanted, [handle, index = device.index()](const AttentionShape& shape) {
    CUDA_CHECK(cudaSetDevice(index));
    return std::make_shared<AttentionPlan>(handle, shape, "a plan ahead");
  });
}

void wait_for_attention_plans(AttentionLibrary& library) {
  library.ahead.wait();
}

} // namespace predictor
