// One growing device allocation that all workloads share, so that preparing one costs no fill.
#pragma once

#include "cuda/check.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>

namespace predictor {

class Arena {
public:
  static constexpr std::size_t alignment = 256;

  // `fill` is called with each new allocation; where memory allows, none is smaller than
  // `first_bytes`.
  Arena(std::size_t first_bytes, std::function<void(void*, std::size_t)> fill)
      : first_bytes_(first_bytes), fill_(std::move(fill)) {}

  // Makes room for `bytes`. Growing moves the arena and raises the generation. Raises
  // OutOfDeviceMemory with the arena as large as it was, or empty where even that is taken.
  void reserve(std::size_t bytes);

  // Gives the memory back; the next reserve() allocates it anew.
  void release();

  // An offset for `bytes` of a new workload: walks through the arena, so that neighbours in a
  // sweep do not find each other's data in the cache.
  [[nodiscard]] std::size_t place(std::size_t bytes);

  [[nodiscard]] std::byte* data() const { return static_cast<std::byte*>(memory_.get()); }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] std::uint64_t generation() const { return generation_; }

private:
  [[nodiscard]] bool try_allocate(std::size_t bytes);

  std::size_t first_bytes_;
  std::function<void(void*, std::size_t)> fill_;
  DeviceMemory memory_;
  std::size_t capacity_ = 0;
  std::size_t cursor_ = 0;
  std::uint64_t generation_ = 0;
};

[[nodiscard]] constexpr std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

} // namespace predictor
