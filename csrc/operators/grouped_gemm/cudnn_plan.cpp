#include "operators/grouped_gemm/cudnn_plan.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <cudnn_frontend.h>
#include <unordered_map>
#include <utility>
#include <vector>

namespace predictor {
namespace {

namespace fe = cudnn_frontend;
using TensorPointer = std::shared_ptr<fe::graph::Tensor_attributes>;

enum Uid : std::int64_t { u_x = 1, u_w, u_y, u_first_rows };

} // namespace

class MoePlan::Graph {
public:
  Graph(cudnnHandle_t handle, const MoeShape& shape, std::string description)
      : handle_(handle), shape_(shape), description_(std::move(description)) {
    graph_.set_io_data_type(type())
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    add_product();
    require<Unsupported>(graph_.validate(), "validate the graph");
    require<Unsupported>(graph_.build_operation_graph(handle_), "build the graph");
    require<Unsupported>(graph_.create_execution_plans({fe::HeurMode_t::A}), "plan the graph");
    require<Unsupported>(graph_.check_support(), "support the graph");
    require<Unsupported>(graph_.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE),
                         "build the plan");
    require<Unsupported>(graph_.get_workspace_size(workspace_bytes_), "size the workspace");
  }

  [[nodiscard]] std::int64_t workspace_bytes() const { return workspace_bytes_; }

  void execute(const MoeAddresses& at) {
    std::unordered_map<std::int64_t, void*> addresses{
        {u_x, at.x_or_dx}, {u_w, at.w_or_dw}, {u_y, at.y_or_dy}, {u_first_rows, at.first_rows}};
    require<NativeError>(graph_.execute(handle_, addresses, at.workspace), "run the plan");
  }

private:
  template <typename Failure>
  void require(const fe::error_t& error, const char* step) const {
    if (error.is_good()) {
      return;
    }
    if (const cudaError_t cuda = cudaGetLastError(); cuda != cudaSuccess) {
      raise_cuda_error(cuda, step);
    }
    throw Failure(text("cuDNN cannot ", step, " for ", description_, ": ", error.err_msg));
  }

  [[nodiscard]] fe::DataType_t type() const {
    return shape_.fp16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16;
  }

  // Rows of all experts, [1, tokens, cols].
  [[nodiscard]] std::vector<std::int64_t> row_dims(std::int64_t cols) const {
    return {1, shape_.tokens, cols};
  }
  [[nodiscard]] std::vector<std::int64_t> row_strides(std::int64_t cols) const {
    return {shape_.tokens * cols, cols, 1};
  }
  // Weights are stored [experts, n, k]; cuDNN multiplies by [experts, reduced, out].
  [[nodiscard]] std::vector<std::int64_t> k_by_n() const {
    return {shape_.experts, shape_.k, shape_.n};
  }
  [[nodiscard]] std::vector<std::int64_t> k_by_n_strides() const {
    return {shape_.n * shape_.k, 1, shape_.k};
  }
  [[nodiscard]] std::vector<std::int64_t> n_by_k() const {
    return {shape_.experts, shape_.n, shape_.k};
  }
  [[nodiscard]] std::vector<std::int64_t> n_by_k_strides() const {
    return {shape_.n * shape_.k, shape_.k, 1};
  }

  TensorPointer input(const char* name, Uid uid, std::vector<std::int64_t> dims,
                      std::vector<std::int64_t> strides, fe::DataType_t data_type) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(name)
                             .set_uid(uid)
                             .set_dim(std::move(dims))
                             .set_stride(std::move(strides))
                             .set_data_type(data_type));
  }

  TensorPointer rows(const char* name, Uid uid, std::int64_t cols) {
    return input(name, uid, row_dims(cols), row_strides(cols), type());
  }

  void output(const TensorPointer& tensor, Uid uid, std::vector<std::int64_t> dims,
              std::vector<std::int64_t> strides) {
    tensor->set_output(true)
        .set_uid(uid)
        .set_dim(std::move(dims))
        .set_stride(std::move(strides))
        .set_data_type(type());
  }

  void add_product() {
    const auto first_rows =
        input("first_rows", u_first_rows, {shape_.experts, 1, 1}, {1, 1, 1}, fe::DataType_t::INT32);
    if (shape_.kind == MoeShape::Kind::wgrad) {
      const auto dw = graph_.moe_grouped_matmul_bwd(
          rows("dy", u_y, shape_.n), rows("x", u_x, shape_.k), first_rows,
          fe::graph::Moe_grouped_matmul_bwd_attributes().set_name("grouped_wgrad"));
      output(dw, u_w, k_by_n(), k_by_n_strides());
      return;
    }
    const auto options = fe::graph::Moe_grouped_matmul_attributes()
                             .set_mode(fe::MoeGroupedMatmulMode_t::NONE)
                             .set_name("grouped_gemm");
    if (shape_.kind == MoeShape::Kind::forward) {
      const auto w = input("w", u_w, k_by_n(), k_by_n_strides(), type());
      const auto y = graph_.moe_grouped_matmul(rows("x", u_x, shape_.k), w, first_rows, nullptr,
                                               nullptr, options);
      output(y, u_y, row_dims(shape_.n), row_strides(shape_.n));
      return;
    }
    const auto w = input("w", u_w, n_by_k(), n_by_k_strides(), type());
    const auto dx = graph_.moe_grouped_matmul(rows("dy", u_y, shape_.n), w, first_rows, nullptr,
                                              nullptr, options);
    output(dx, u_x, row_dims(shape_.k), row_strides(shape_.k));
  }

  cudnnHandle_t handle_;
  MoeShape shape_;
  std::string description_;
  fe::graph::Graph graph_;
  std::int64_t workspace_bytes_ = 0;
};

MoePlan::MoePlan(AttentionLibrary& library, const MoeShape& shape, std::string description)
    : graph_(std::make_unique<Graph>(cudnn_handle_of(library), shape, std::move(description))) {}

MoePlan::~MoePlan() = default;

std::int64_t MoePlan::workspace_bytes() const {
  return graph_->workspace_bytes();
}

void MoePlan::execute(const MoeAddresses& addresses) {
  graph_->execute(addresses);
}

} // namespace predictor
