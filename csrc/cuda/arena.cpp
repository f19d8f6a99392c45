#include "cuda/arena.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>

namespace predictor {
namespace {

constexpr std::size_t granularity = std::size_t{256} << 20;
// Left free for what others allocate: libraries, graphs, checks.
constexpr std::size_t headroom = std::size_t{256} << 20;

bool leaves_headroom(std::size_t bytes) {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return free_bytes >= headroom && bytes <= free_bytes - headroom;
}

} // namespace

void Arena::reserve(std::size_t bytes) {
  if (bytes <= capacity_) {
    return;
  }
  const std::size_t before = capacity_;
  const std::size_t needed = round_up(bytes, granularity);
  release();
  if (try_allocate(std::max(needed, first_bytes_)) || try_allocate(needed)) {
    return;
  }
  if (before > 0) {
    (void)try_allocate(before);
  }
  throw OutOfDeviceMemory(text("an arena of ", needed, " bytes does not fit into the device's ",
                               "free memory; it keeps ", capacity_, " bytes"));
}

void Arena::release() {
  memory_.reset(); // waits for the device
  capacity_ = 0;
  cursor_ = 0;
  ++generation_;
}

bool Arena::try_allocate(std::size_t bytes) {
  if (!leaves_headroom(bytes)) {
    return false;
  }
  try {
    memory_ = allocate_device_memory(bytes);
  } catch (const OutOfDeviceMemory&) {
    return false;
  }
  capacity_ = bytes;
  fill_(memory_.get(), bytes);
  return true;
}

std::size_t Arena::place(std::size_t bytes) {
  if (bytes > capacity_ - std::min(cursor_, capacity_)) {
    cursor_ = 0;
  }
  const std::size_t offset = cursor_;
  cursor_ = round_up(cursor_ + bytes, alignment);
  return offset;
}

} // namespace predictor
