// Scaled dot-product attention through cuDNN's fused kernels, asked for as PyTorch asks for them:
// one graph, heuristics mode A, tensors q[b, s, h, d] seen as [b, h, s, d], grouped keys and values
// handed over as they are. The forward pass also writes the softmax statistics (training mode).
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/attention/plan.hpp"
#include "operators/attention/reference.hpp"
#include "operators/registry.hpp"

#include <cmath>

namespace predictor {
namespace {

constexpr double timeout_seconds = 60.0; // of the forward pass of a check

void read_choices(const Fields& fields) {
  if (const std::string& impl = fields.text("impl"); impl != "cudnn") {
    throw Unsupported(
        text("attention: impl '", impl, "' is not cudnn; launch it through ", "prepare_callable"));
  }
  if (const std::string& dtype = fields.text("dtype"); dtype != "bf16") {
    throw Unsupported(text("attention: dtype '", dtype, "' is not bf16"));
  }
  if (const std::string& kind = fields.text("kind"); kind != "forward" && kind != "backward") {
    throw Unsupported(text("attention: kind '", kind, "' is neither forward nor backward"));
  }
}

AttentionShape read_shape(const Fields& fields) {
  read_choices(fields);
  AttentionShape shape{.batch = fields.positive("batch"),
                       .heads = fields.positive("num_heads"),
                       .groups = fields.positive("num_query_groups"),
                       .queries = fields.integer("query_length", 0),
                       .keys = fields.positive("seq_length"),
                       .key_dim = fields.positive("head_dim"),
                       .value_dim = fields.integer("value_head_dim", 0),
                       .window = fields.integer("window", 0),
                       .documents = {},
                       .causal = fields.flag("causal", true),
                       .bias = fields.flag("bias", false),
                       .backward = fields.text("kind") == "backward"};
  if (shape.value_dim == 0) {
    shape.value_dim = shape.key_dim;
  }
  if (shape.queries == 0) {
    shape.queries = shape.keys;
  }
  if (shape.value_dim < 0 || shape.window < 0 || shape.queries < 0 || shape.queries > shape.keys) {
    throw NativeError("attention: value_head_dim and window must not be negative, query_length not "
                      "above seq_length");
  }
  if (fields.integer("documents", 1) > 1) {
    shape.documents = fields.counts("document_lengths");
  }
  if (shape.packed() && (shape.bias || shape.queries != shape.keys)) {
    throw Unsupported("attention: packed documents have no bias and as many queries as keys");
  }
  if (shape.queries == 1 && shape.window == 0) {
    shape.causal = false; // the last token sees all
  }
  if (shape.heads % shape.groups != 0) {
    throw Unsupported(text("attention: num_heads (", shape.heads, ") is not divisible by ",
                           "num_query_groups (", shape.groups, ")"));
  }
  if (shape.window > 0 && !shape.causal) {
    throw Unsupported("attention: window is served with causal only");
  }
  if (shape.window >= shape.keys) {
    shape.window = 0; // every token sees all before it
  }
  return shape;
}

class AttentionWorkload final : public CudaWorkload {
public:
  AttentionWorkload(CudaDevice& device, const Request& request)
      : CudaWorkload(device, request), shape_(read_shape(request.fields)),
        library_(attention_library_of(device)) {
    wait_for_attention_plans(library_); // by now it may be this one that is built
    plan_ = attention_plan(library_, shape_, description);
    place(operands(), request);
  }

private:
  void launch(const Buffers& buffers) override { plan_->execute(buffers); }

  // In the order of AttentionTensor; what a pass does not touch has no elements.
  [[nodiscard]] std::vector<Operand> operands() const {
    const std::int64_t queries = shape_.batch * shape_.queries;
    const std::int64_t keys = shape_.batch * shape_.keys;
    const std::int64_t q = queries * shape_.heads * shape_.key_dim;
    const std::int64_t k = keys * shape_.groups * shape_.key_dim;
    const std::int64_t v = keys * shape_.groups * shape_.value_dim;
    const std::int64_t o = queries * shape_.heads * shape_.value_dim;
    const bool backward = shape_.backward;
    // A backward pass is timed on stand-ins for o and the statistics: normals, and what normal
    // scores give. A check runs the forward pass instead.
    const Role from_forward = backward ? Role::prepared : Role::output;
    const double usual = std::log(0.5 * static_cast<double>(shape_.longest_keys()) + 0.5) + 0.5;
    const auto gradient = [&](const char* name, std::int64_t elements) {
      return Operand{.name = name, .elements = backward ? elements : 0, .role = Role::output};
    };
    return {{.name = "q", .elements = q},
            {.name = "k", .elements = k},
            {.name = "v", .elements = v},
            {.name = "bias", .elements = shape_.bias ? queries * shape_.keys : 0},
            {.name = "o", .elements = o, .role = from_forward},
            {.name = "stats",
             .type = DataType::fp32,
             .elements = shape_.statistics(),
             .role = from_forward,
             .fill = Fill::constant(usual)},
            {.name = "do", .elements = backward ? o : 0},
            gradient("dq", q),
            gradient("dk", k),
            gradient("dv", v),
            {.name = "workspace",
             .type = DataType::byte,
             .elements = plan_->workspace_bytes(),
             .role = Role::scratch,
             .shared = true}};
  }

  std::vector<Expected> reference(const Inspector& inspector) override {
    const AttentionReference reference(inspector, shape_);
    if (!shape_.backward) {
      return reference.forward();
    }
    run_forward(inspector.buffers());
    return reference.backward();
  }

  void run_forward(const Buffers& buffers) {
    AttentionShape forward = shape_;
    forward.backward = false;
    const auto plan = attention_plan(library_, forward, description);
    if (plan->workspace_bytes() > plan_->workspace_bytes()) {
      throw Unsupported(text("check: the forward pass of ", description, " needs more workspace ",
                             "than the backward pass has"));
    }
    plan->execute(buffers);
    device().wait(timeout_seconds);
  }

  AttentionShape shape_;
  AttentionLibrary& library_;
  std::shared_ptr<AttentionPlan> plan_;
};

} // namespace

std::unique_ptr<Workload> prepare_attention(CudaDevice& device, const Request& request) {
  return std::make_unique<AttentionWorkload>(device, request);
}

void foresee_attention(CudaDevice& device, const std::vector<Request>& coming) {
  std::vector<AttentionShape> shapes;
  for (const Request& request : coming) {
    try {
      shapes.push_back(read_shape(request.fields));
    } catch (const NativeError&) { // told when the point is prepared
    }
  }
  if (!shapes.empty()) {
    plan_attention_ahead(device, shapes);
  }
}

void add_attention_libraries(CudaDevice& device, std::map<std::string, LibraryInfo>& found) {
  try {
    found["cudnn"] = describe(attention_library_of(device));
  } catch (const LibraryMissing& error) {
    found["cudnn"].error = error.what();
  }
}

} // namespace predictor
