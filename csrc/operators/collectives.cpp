// Collectives through NCCL: all_reduce, all_gather, reduce_scatter, all_to_all, broadcast and
// send_recv on the group that the request names.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/collectives/groups.hpp"
#include "operators/collectives/pattern.hpp"
#include "operators/registry.hpp"

#include <limits>

namespace predictor {
namespace {

constexpr int poison_byte = 0xff; // a NaN in every floating type
constexpr double check_timeout_seconds = 60.0;

struct ElementType {
  DataType data;
  NcclType nccl;
};

ElementType element_type(const std::string& dtype) {
  static const std::map<std::string, ElementType, std::less<>> types{
      {"bf16", {DataType::bf16, NcclType::bfloat16}},
      {"fp16", {DataType::fp16, NcclType::float16}},
      {"fp32", {DataType::fp32, NcclType::float32}},
  };
  const auto found = types.find(dtype);
  if (found == types.end()) {
    throw Unsupported(text("collectives: dtype '", dtype, "' is none of bf16, fp16, fp32"));
  }
  return found->second;
}

// What the fields of a request say, with the rank's own view of it.
struct Call {
  std::string op;
  std::string pattern; // of all_to_all and send_recv
  int rank = 0;
  int ranks = 1;
  bool in_place = false;
  ElementType type{};
  std::int64_t send_elements = 0;    // 0: this rank sends nothing
  std::int64_t receive_elements = 0; // 0: this rank receives nothing
  std::vector<std::int64_t> parts;   // of all_to_all, by destination

  [[nodiscard]] std::int64_t part_offset(int destination) const {
    std::int64_t offset = 0;
    for (int i = 0; i < destination; ++i) {
      offset += parts[static_cast<std::size_t>(i)];
    }
    return offset;
  }
  [[nodiscard]] std::int64_t own_part() const { return parts[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] int next() const { return (rank + 1) % ranks; }
  [[nodiscard]] int previous() const { return (rank + ranks - 1) % ranks; }
};

Call read_call(const Request& request, const Communicator& communicator) {
  Call call;
  call.op = request.op;
  call.rank = communicator.rank();
  call.ranks = communicator.ranks();
  call.in_place = request.fields.flag("in_place", false);
  call.type = element_type(request.fields.text("dtype"));
  const std::int64_t bytes = request.fields.positive("bytes");
  const std::int64_t elements = bytes / static_cast<std::int64_t>(size_of(call.type.data));
  const std::int64_t share = elements / call.ranks;
  if (elements == 0 || share == 0) {
    throw Unsupported(text(call.op, ": ", bytes, " bytes are less than an element a rank"));
  }
  call.send_elements = call.receive_elements = elements;
  if (call.op == "all_gather") {
    call.send_elements = share;
    call.receive_elements = share * call.ranks;
  } else if (call.op == "reduce_scatter") {
    call.send_elements = share * call.ranks;
    call.receive_elements = share;
  } else if (call.op == "all_to_all") {
    call.parts = request.fields.counts("parts");
    if (call.parts.size() != static_cast<std::size_t>(call.ranks)) {
      throw NativeError(
          text("all_to_all: parts name ", call.parts.size(), " ranks, the group has ", call.ranks));
    }
    call.send_elements = call.part_offset(call.ranks);
    call.receive_elements = call.own_part() * call.ranks;
  } else if (call.op == "send_recv") {
    call.pattern = request.fields.text("pattern");
    if (call.pattern == "one_way") {
      call.send_elements = call.rank == 0 ? elements : 0;
      call.receive_elements = call.rank == 1 ? elements : 0;
    }
  }
  return call;
}

// In place, one buffer is both; `send_offset` and `receive_offset` are the rank's part of it.
std::vector<Operand> operands_of(const Call& call) {
  if (call.in_place) {
    return {{.name = "buffer",
             .type = call.type.data,
             .elements = std::max(call.send_elements, call.receive_elements),
             .role = Role::state}};
  }
  return {{.name = "sent", .type = call.type.data, .elements = call.send_elements},
          {.name = "received",
           .type = call.type.data,
           .elements = call.receive_elements,
           .role = Role::output}};
}

class CollectiveWorkload final : public CudaWorkload {
public:
  CollectiveWorkload(CudaDevice& device, const Request& request,
                     std::shared_ptr<Communicator> communicator, const Nccl& nccl)
      : CudaWorkload(device, request), nccl_(nccl), communicator_(std::move(communicator)),
        call_(read_call(request, *communicator_)) {
    place(operands_of(call_), request);
  }

  ~CollectiveWorkload() override {
    calibration.reset(); // a communicator must outlive the graphs that hold its collectives
  }
  CollectiveWorkload(const CollectiveWorkload&) = delete;
  CollectiveWorkload& operator=(const CollectiveWorkload&) = delete;

  // Exact patterns in set 0, which the timed replay covers; poison where results will be.
  void begin_check(std::uint64_t seed) override {
    pattern_ = {.seed = seed + 1, .ranks = call_.ranks};
    const Ends ends = ends_of(buffers(0));
    const std::size_t size = size_of(call_.type.data);
    if (call_.receive_elements > 0) {
      CUDA_CHECK(cudaMemsetAsync(ends.receive, poison_byte,
                                 static_cast<std::size_t>(call_.receive_elements) * size,
                                 device().stream()));
    }
    const bool sends = call_.op != "broadcast" || call_.rank == 0;
    if (sends && call_.send_elements > 0) {
      write_pattern(ends.send, call_.type.data, call_.send_elements, pattern_, call_.rank,
                    device().stream());
    }
  }

  // 0 where every element is exact, infinite otherwise: collectives do not round small integers.
  [[nodiscard]] double finish_check() override {
    const Ends ends = ends_of(buffers(0));
    const Arrangement arrangement = arrangement_of();
    const DeviceMemory counter = allocate_device_memory(sizeof(unsigned long long));
    CUDA_CHECK(cudaMemsetAsync(counter.get(), 0, sizeof(unsigned long long), device().stream()));
    if (arrangement.count > 0) {
      count_mismatches(ends.receive, call_.type.data, pattern_, arrangement,
                       static_cast<unsigned long long*>(counter.get()), device().stream());
    }
    device().wait(check_timeout_seconds);
    unsigned long long mismatches = 0;
    CUDA_CHECK(cudaMemcpy(&mismatches, counter.get(), sizeof(mismatches), cudaMemcpyDeviceToHost));
    if (!call_.in_place && call_.send_elements > 0) { // what lies in the input arena is normal
      fill(ends.send, DataType::bf16,
           call_.send_elements * static_cast<std::int64_t>(size_of(call_.type.data)) / 2,
           Fill::normal(), pattern_.seed, device().stream());
    }
    return mismatches == 0 ? 0.0 : std::numeric_limits<double>::infinity();
  }

private:
  struct Ends {
    std::byte* send;
    std::byte* receive;
  };

  [[nodiscard]] Ends ends_of(const Buffers& buffers) const {
    auto* const first = buffers.get<std::byte>(0);
    if (!call_.in_place) {
      return {first, buffers.get<std::byte>(1)};
    }
    const std::int64_t own = std::min(call_.send_elements, call_.receive_elements) * call_.rank *
                             static_cast<std::int64_t>(size_of(call_.type.data));
    return {call_.op == "all_gather" ? first + own : first,
            call_.op == "reduce_scatter" ? first + own : first};
  }

  void launch(const Buffers& buffers) override {
    const auto [send, receive] = ends_of(buffers);
    const NcclComm handle = communicator_->handle();
    const cudaStream_t stream = device().stream();
    const NcclType type = call_.type.nccl;
    const auto sent = static_cast<std::size_t>(call_.send_elements);
    const auto received = static_cast<std::size_t>(call_.receive_elements);
    if (call_.op == "all_reduce") {
      NCCL_CHECK(nccl_, all_reduce(send, receive, sent, type, NcclOperation::sum, handle, stream));
    } else if (call_.op == "all_gather") {
      NCCL_CHECK(nccl_, all_gather(send, receive, sent, type, handle, stream));
    } else if (call_.op == "reduce_scatter") {
      NCCL_CHECK(nccl_,
                 reduce_scatter(send, receive, received, type, NcclOperation::sum, handle, stream));
    } else if (call_.op == "broadcast") {
      NCCL_CHECK(nccl_, broadcast(send, receive, sent, type, 0, handle, stream));
    } else {
      NCCL_CHECK(nccl_, group_start());
      call_.op == "all_to_all" ? exchange(send, receive) : pass_on(send, receive);
      NCCL_CHECK(nccl_, group_end());
    }
  }

  void exchange(std::byte* send, std::byte* receive) const {
    const std::size_t size = size_of(call_.type.data);
    const auto own = static_cast<std::size_t>(call_.own_part());
    for (int peer = 0; peer < call_.ranks; ++peer) {
      const auto part = static_cast<std::size_t>(call_.parts[static_cast<std::size_t>(peer)]);
      const auto offset = static_cast<std::size_t>(call_.part_offset(peer));
      const NcclType type = call_.type.nccl;
      NCCL_CHECK(nccl_, send(send + offset * size, part, type, peer, communicator_->handle(),
                             device().stream()));
      NCCL_CHECK(nccl_, receive(receive + static_cast<std::size_t>(peer) * own * size, own, type,
                                peer, communicator_->handle(), device().stream()));
    }
  }

  // A message to the next rank, from the last; of a pair, each is the other's next and last.
  void pass_on(std::byte* send, std::byte* receive) const {
    const NcclType type = call_.type.nccl;
    if (call_.send_elements > 0) {
      NCCL_CHECK(nccl_, send(send, static_cast<std::size_t>(call_.send_elements), type,
                             call_.next(), communicator_->handle(), device().stream()));
    }
    if (call_.receive_elements > 0) {
      NCCL_CHECK(nccl_, receive(receive, static_cast<std::size_t>(call_.receive_elements), type,
                                call_.previous(), communicator_->handle(), device().stream()));
    }
  }

  [[nodiscard]] Arrangement arrangement_of() const {
    Arrangement arrangement{.count = call_.receive_elements,
                            .part = std::max<std::int64_t>(call_.receive_elements, 1)};
    if (call_.op == "all_reduce" || call_.op == "reduce_scatter") {
      arrangement.summed = true;
      arrangement.offset = call_.op == "reduce_scatter" ? call_.rank * call_.receive_elements : 0;
    } else if (call_.op == "all_gather") {
      arrangement.part = call_.send_elements;
    } else if (call_.op == "all_to_all") {
      arrangement.part = std::max<std::int64_t>(call_.own_part(), 1);
      arrangement.offset = call_.part_offset(call_.rank);
    } else if (call_.op == "send_recv") {
      arrangement.first_source = call_.previous();
    }
    return arrangement;
  }

  std::vector<Expected> reference(const Inspector&) override { return {}; }

  const Nccl& nccl_;
  std::shared_ptr<Communicator> communicator_;
  Call call_;
  Pattern pattern_;
};

} // namespace

std::unique_ptr<Workload> prepare_collective(CudaDevice& device, const Request& request) {
  Groups& groups = groups_of(device);
  const std::string& name = request.fields.text("group");
  const auto found = groups.communicators.find(name);
  if (found == groups.communicators.end()) {
    throw NativeError(text(request.op, ": this rank has not joined the group '", name, "'"));
  }
  return std::make_unique<CollectiveWorkload>(device, request, found->second, groups.open());
}

} // namespace predictor
