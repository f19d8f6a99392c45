// Copies by the driver. The device's end lies in the arenas; the host's end, and another device's,
// is memory of the workload's own.
#include "cuda/workload.hpp"
#include "errors.hpp"
#include "format_text.hpp"
#include "operators/registry.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace predictor {
namespace {

constexpr std::int64_t sampled_bytes = 4096; // of each window that is checked

enum class Direction { h2d, d2h, d2d, peer };

Direction read_direction(const Fields& fields) {
  const std::string& name = fields.text("direction");
  if (name == "h2d" || name == "d2h") {
    return name == "h2d" ? Direction::h2d : Direction::d2h;
  }
  if (name == "d2d" || name == "peer") {
    return name == "d2d" ? Direction::d2d : Direction::peer;
  }
  throw Unsupported(text("memcpy: direction '", name, "' is none of h2d, d2h, d2d, peer"));
}

// Host memory, page-locked or not, touched so that its pages are there.
class HostBuffer {
public:
  HostBuffer(std::size_t bytes, bool pinned) {
    if (pinned) {
      void* memory = nullptr;
      CUDA_CHECK(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault));
      pinned_.reset(memory);
      data_ = static_cast<unsigned char*>(memory);
    } else {
      pageable_.resize(bytes);
      data_ = pageable_.data();
    }
    for (std::size_t i = 0; i < bytes; ++i) {
      data_[i] = static_cast<unsigned char>(i * 2654435761U >> 16);
    }
  }

  [[nodiscard]] unsigned char* data() const { return data_; }

private:
  HostMemory pinned_;
  std::vector<unsigned char> pageable_;
  unsigned char* data_ = nullptr;
};

// Memory on the next device, which the own one may access directly.
class PeerBuffer {
public:
  PeerBuffer(int own, std::size_t bytes) : own_(own), peer_(next_of(own)) {
    int possible = 0;
    CUDA_CHECK(cudaDeviceCanAccessPeer(&possible, own_, peer_));
    if (possible == 0) {
      throw Unsupported(text("memcpy: device ", own_, " cannot access device ", peer_));
    }
    if (const cudaError_t status = cudaDeviceEnablePeerAccess(peer_, 0);
        status != cudaErrorPeerAccessAlreadyEnabled) {
      CUDA_CHECK(status);
    }
    (void)cudaGetLastError(); // "already enabled" is no error
    const Current current(own_, peer_);
    memory_ = allocate_device_memory(bytes);
  }

  [[nodiscard]] unsigned char* data() const { return static_cast<unsigned char*>(memory_.get()); }

private:
  // Makes the other device current for a while.
  class Current {
  public:
    Current(int own, int other) : own_(own) { CUDA_CHECK(cudaSetDevice(other)); }
    ~Current() { (void)cudaSetDevice(own_); }
    Current(const Current&) = delete;
    Current& operator=(const Current&) = delete;

  private:
    int own_;
  };

  static int next_of(int own) {
    int count = 0;
    CUDA_CHECK(cudaGetDeviceCount(&count));
    if (count < 2) {
      throw Unsupported("memcpy: direction 'peer' needs two GPUs, and one is visible");
    }
    return (own + 1) % count;
  }

  int own_;
  int peer_;
  DeviceMemory memory_;
};

class MemcpyWorkload final : public CudaWorkload {
public:
  MemcpyWorkload(CudaDevice& device, const Request& request)
      : CudaWorkload(device, request), direction_(read_direction(request.fields)),
        pinned_(request.fields.flag("pinned", true)), count_(request.fields.positive("bytes")) {
    if (direction_ == Direction::h2d || direction_ == Direction::d2h) {
      host_ = std::make_unique<HostBuffer>(size(), pinned_);
    } else if (direction_ == Direction::peer) {
      int own = 0;
      CUDA_CHECK(cudaGetDevice(&own));
      peer_ = std::make_unique<PeerBuffer>(own, size());
    }
    const bool reads = direction_ != Direction::h2d;
    const bool writes = direction_ == Direction::h2d || direction_ == Direction::d2d;
    Request placed = request;
    if (direction_ != Direction::d2d) {
      placed.cache = Cache::warm; // one end is far slower than any cache: one buffer set
    }
    place({{.name = "from", .type = DataType::byte, .elements = reads ? count_ : 0},
           {.name = "to",
            .type = DataType::byte,
            .elements = writes ? count_ : 0,
            .role = Role::output}},
          placed);
  }

  // The host waits for a copy of pageable memory: behind a gate it would wait for ever.
  [[nodiscard]] bool blocks_host() const override { return host_ != nullptr && !pinned_; }
  [[nodiscard]] bool capturable() const override { return !blocks_host(); }

  [[nodiscard]] double finish_check() override {
    if (direction_ != Direction::d2h && direction_ != Direction::peer) {
      return CudaWorkload::finish_check();
    }
    double worst = 0.0;
    std::vector<unsigned char> found(static_cast<std::size_t>(window()));
    for (std::size_t w = 0; w < begins().size(); ++w) {
      const auto begin = static_cast<std::size_t>(begins()[w]);
      if (direction_ == Direction::d2h) {
        std::memcpy(found.data(), host_->data() + begin, found.size());
      } else {
        CUDA_CHECK(
            cudaMemcpy(found.data(), peer_->data() + begin, found.size(), cudaMemcpyDeviceToHost));
      }
      for (std::size_t i = 0; i < found.size(); ++i) {
        const bool same = static_cast<double>(found[i]) == wanted_[w][i];
        worst = same ? worst : std::numeric_limits<double>::infinity();
      }
    }
    return worst;
  }

private:
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(count_); }
  [[nodiscard]] std::int64_t window() const { return std::min(count_, sampled_bytes); }
  [[nodiscard]] std::vector<std::int64_t> begins() const {
    return {0, (count_ - window()) / 2, count_ - window()};
  }

  void launch(const Buffers& buffers) override {
    const cudaStream_t stream = device().stream();
    switch (direction_) {
    case Direction::h2d:
      CUDA_CHECK(
          cudaMemcpyAsync(buffers.get(1), host_->data(), size(), cudaMemcpyHostToDevice, stream));
      return;
    case Direction::d2h:
      CUDA_CHECK(
          cudaMemcpyAsync(host_->data(), buffers.get(0), size(), cudaMemcpyDeviceToHost, stream));
      return;
    case Direction::d2d:
      CUDA_CHECK(cudaMemcpyAsync(buffers.get(1), buffers.get(0), size(), cudaMemcpyDeviceToDevice,
                                 stream));
      return;
    case Direction::peer:
      CUDA_CHECK(cudaMemcpyAsync(peer_->data(), buffers.get(0), size(), cudaMemcpyDefault, stream));
      return;
    }
  }

  std::vector<Expected> reference(const Inspector& inspector) override {
    wanted_.clear();
    Expected expected(1);
    for (const std::int64_t begin : begins()) {
      if (direction_ == Direction::h2d) {
        for (std::int64_t i = begin; i < begin + window(); ++i) {
          expected.add(i, static_cast<double>(host_->data()[i]));
        }
        continue;
      }
      wanted_.push_back(inspector.read(0, begin, window()));
      for (std::int64_t i = 0; i < window() && direction_ == Direction::d2d; ++i) {
        expected.add(begin + i, wanted_.back()[static_cast<std::size_t>(i)]);
      }
    }
    if (host_ && direction_ == Direction::d2h) {
      std::memset(host_->data(), 0, size());
    }
    if (expected.indices.empty()) {
      return {};
    }
    return {expected};
  }

  Direction direction_;
  bool pinned_;
  std::int64_t count_;
  std::unique_ptr<HostBuffer> host_;
  std::unique_ptr<PeerBuffer> peer_;
  std::vector<std::vector<double>> wanted_;
};

} // namespace

std::unique_ptr<Workload> prepare_memcpy(CudaDevice& device, const Request& request) {
  return std::make_unique<MemcpyWorkload>(device, request);
}

} // namespace predictor
