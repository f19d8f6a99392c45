// Memory-bound operators: looks the kernel up and makes a workload of it.
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/memory_bound/kernel.hpp"
#include "operators/registry.hpp"

#include <algorithm>
#include <limits>

namespace predictor {
namespace {

class MemoryBoundWorkload final : public CudaWorkload {
public:
  MemoryBoundWorkload(CudaDevice& device, const Request& request, const MemoryBoundKernel& kernel)
      : CudaWorkload(device, request), kernel_(kernel),
        extent_{request.fields.positive("rows"), request.fields.positive("cols")} {
    place(kernel_.operands(extent_, device.sm_count()), request);
  }

private:
  void launch(const Buffers& buffers) override {
    kernel_.launch(buffers, extent_, device().sm_count(), device().stream());
  }

  std::vector<Expected> reference(const Inspector& inspector) override {
    return kernel_.reference(inspector, extent_);
  }

  MemoryBoundKernel kernel_;
  Extent extent_;
};

const MemoryBoundKernel& find_kernel(const std::string& name) {
  std::string known;
  for (const KernelTable* table :
       {&map_kernels(), &norm_kernels(), &loss_kernels(), &embedding_kernels(), &dropout_kernels(),
        &transpose_kernels(), &softmax_kernels(), &routing_kernels()}) {
    if (const auto found = table->find(name); found != table->end()) {
      return found->second;
    }
    for (const auto& [other, kernel] : *table) {
      known += ' ' + other;
    }
  }
  throw Unsupported(text("memory_bound: no native kernel '", name, "'; there are:", known));
}

} // namespace

void require_indexable(const char* kernel, Extent extent) {
  if (extent.elements() > std::numeric_limits<std::uint32_t>::max() / 2) {
    throw Unsupported(text(kernel, ": rows (", extent.rows, ") x cols (", extent.cols,
                           ") must stay below 2^31 elements"));
  }
}

std::vector<std::int64_t> sampled_rows(std::int64_t rows) {
  std::vector<std::int64_t> chosen{0, 1, rows / 3, rows / 2, 2 * rows / 3, rows - 2, rows - 1};
  std::erase_if(chosen, [&](std::int64_t row) { return row < 0 || row >= rows; });
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  return chosen;
}

std::unique_ptr<Workload> prepare_memory_bound(CudaDevice& device, const Request& request) {
  if (const std::string& impl = request.fields.text("impl"); impl != "native") {
    throw Unsupported(text("memory_bound: impl '", impl, "' is not native; launch it through ",
                           "prepare_callable"));
  }
  if (const std::string& dtype = request.fields.text("dtype"); dtype != "bf16") {
    throw Unsupported(text("memory_bound: dtype '", dtype, "'; native kernels are bf16"));
  }
  return std::make_unique<MemoryBoundWorkload>(device, request,
                                               find_kernel(request.fields.text("kernel")));
}

} // namespace predictor
