#include "cuda/workload.hpp"

#include "errors.hpp"
#include "format_text.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace predictor {
namespace {

constexpr double check_timeout_seconds = 60.0;
constexpr int poison_byte = 0xff; // a NaN in every floating type
// Cold launches rotate over so many sets that five L2 caches of data lie between two uses of one.
constexpr double cold_l2_sizes = 5.0;
// Below L2 size / 205 a set, this cap leaves launches partly warm; so small, latency rules anyway.
constexpr std::size_t max_buffer_sets = 1024;
// A set this many times the L2 evicts itself: where memory is short, one is as cold as two.
constexpr double self_evicting_l2_sizes = 20.0;

std::size_t cold_sets(double working_set_bytes, std::size_t l2_bytes) {
  const double per_set = std::max(working_set_bytes, 1.0);
  const double sets = std::ceil(cold_l2_sizes * static_cast<double>(l2_bytes) / per_set) + 1.0;
  return static_cast<std::size_t>(std::clamp(sets, 2.0, static_cast<double>(max_buffer_sets)));
}

std::size_t bytes_of(const Operand& operand) {
  return static_cast<std::size_t>(operand.elements) * size_of(operand.type);
}

std::size_t padded_bytes(const Operand& operand) {
  return round_up(std::max<std::size_t>(bytes_of(operand), 1), Arena::alignment);
}

bool in_input_arena(const Operand& operand) {
  return operand.role == Role::input;
}

// Device memory of `count` doubles or indices, freed when the read is done.
template <typename T>
DeviceMemory device_array(std::size_t count) {
  return allocate_device_memory(std::max<std::size_t>(count, 1) * sizeof(T));
}

std::vector<double> fetch(CudaDevice& device, const DeviceMemory& memory, std::size_t count) {
  device.wait(check_timeout_seconds); // under the watchdog, which a copy is not
  std::vector<double> values(count);
  CUDA_CHECK(
      cudaMemcpy(values.data(), memory.get(), count * sizeof(double), cudaMemcpyDeviceToHost));
  return values;
}

} // namespace

std::vector<double> Inspector::read(std::size_t operand, std::int64_t start, std::int64_t count,
                                    std::int64_t stride) const {
  return read(operand, Lines{.start = start, .count = count, .stride = stride, .width = 1});
}

std::vector<double> Inspector::read(std::size_t operand, const Lines& lines) const {
  const auto size = static_cast<std::size_t>(lines.count * lines.width);
  const DeviceMemory values = device_array<double>(size);
  read_lines(buffers_.get(operand), operands_[operand].type, lines,
             static_cast<double*>(values.get()), device_.stream());
  return fetch(device_, values, size);
}

std::vector<double> Inspector::read(std::size_t operand,
                                    std::span<const std::int64_t> indices) const {
  const DeviceMemory where = device_array<std::int64_t>(indices.size());
  const DeviceMemory values = device_array<double>(indices.size());
  CUDA_CHECK(cudaMemcpyAsync(where.get(), indices.data(), indices.size_bytes(),
                             cudaMemcpyHostToDevice, device_.stream()));
  read_indexed(buffers_.get(operand), operands_[operand].type,
               static_cast<const std::int64_t*>(where.get()),
               static_cast<std::int64_t>(indices.size()), static_cast<double*>(values.get()),
               device_.stream());
  return fetch(device_, values, indices.size());
}

CudaWorkload::CudaWorkload(CudaDevice& device, const Request& request) : device_(device) {
  description = text(request.op, ' ', request.fields.describe());
}

void CudaWorkload::place(std::vector<Operand> operands, const Request& request) {
  operands_ = std::move(operands);
  lay_out(request.cache == Cache::warm ? 1
                                       : cold_sets(request.working_set_bytes, device_.l2_bytes()));
  try {
    acquire();
  } catch (const OutOfDeviceMemory& error) {
    const double l2 = static_cast<double>(device_.l2_bytes());
    if (buffer_sets == 1 || request.working_set_bytes < self_evicting_l2_sizes * l2) {
      throw OutOfDeviceMemory(text(description, ": ", buffer_sets, " buffer sets: ", error.what()));
    }
    lay_out(1);
    acquire();
  }
}

// Shared operands first, then the sets one after the other.
void CudaWorkload::lay_out(std::size_t sets) {
  buffer_sets = sets;
  std::size_t shared[2] = {0, 0};
  std::size_t rotating[2] = {0, 0};
  places_.assign(operands_.size(), {});
  for (std::size_t i = 0; i < operands_.size(); ++i) {
    const std::size_t arena = in_input_arena(operands_[i]) ? 0 : 1;
    std::size_t& used = operands_[i].shared ? shared[arena] : rotating[arena];
    places_[i].offset = used;
    used += padded_bytes(operands_[i]);
  }
  for (std::size_t i = 0; i < operands_.size(); ++i) {
    if (!operands_[i].shared) {
      const std::size_t arena = in_input_arena(operands_[i]) ? 0 : 1;
      places_[i].offset += shared[arena];
      places_[i].stride = rotating[arena];
    }
  }
  input_bytes_ = shared[0] + sets * rotating[0];
  output_bytes_ = shared[1] + sets * rotating[1];
  generation_ = 0;
}

// Inputs are filled as the arena of inputs is; all else stays as the driver gives it.
void CudaWorkload::allocate_separately() {
  if (!separate_.empty()) {
    return;
  }
  std::vector<DeviceMemory> memory;
  for (std::size_t set = 0; set < buffer_sets; ++set) {
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      if (set > 0 && operands_[i].shared) {
        memory.emplace_back(); // the first set's serves all
        continue;
      }
      const std::size_t bytes = bytes_of(operands_[i]);
      memory.push_back(allocate_device_memory(std::max<std::size_t>(bytes, 1)));
      if (in_input_arena(operands_[i])) {
        CUDA_CHECK(cudaMemsetAsync(memory.back().get(), 0, bytes, device_.stream()));
        fill(memory.back().get(), DataType::bf16, static_cast<std::int64_t>(bytes / 2),
             Fill::normal(), 1 + memory.size(), device_.stream());
      }
    }
  }
  separate_ = std::move(memory);
  placed();
}

void CudaWorkload::acquire() {
  if (device_.separate_buffers()) {
    allocate_separately();
    return;
  }
  if (generation_ != 0 && generation_ == device_.memory_generation()) {
    return;
  }
  device_.reserve(input_bytes_, output_bytes_);
  input_base_ = device_.inputs().place(input_bytes_);
  output_base_ = device_.outputs().place(output_bytes_);
  generation_ = device_.memory_generation();
  placed();
}

Buffers CudaWorkload::buffers(std::size_t set) const {
  std::vector<std::byte*> addresses(operands_.size());
  for (std::size_t i = 0; i < operands_.size(); ++i) {
    if (!separate_.empty()) {
      const std::size_t first = operands_[i].shared ? 0 : set * operands_.size();
      addresses[i] = static_cast<std::byte*>(separate_[first + i].get());
      continue;
    }
    std::byte* base = in_input_arena(operands_[i]) ? device_.inputs().data() + input_base_
                                                   : device_.outputs().data() + output_base_;
    addresses[i] = base + places_[i].offset + set * places_[i].stride;
  }
  return Buffers(std::move(addresses));
}

void CudaWorkload::enqueue(std::size_t index) {
  launch(buffers(index % buffer_sets));
}

void CudaWorkload::begin_round() {
  fill_prepared(1);
}

bool CudaWorkload::in_place() const {
  return std::any_of(operands_.begin(), operands_.end(),
                     [](const Operand& operand) { return operand.role == Role::state; });
}

void CudaWorkload::fill_prepared(std::uint64_t seed) {
  for (std::size_t set = 0; set < buffer_sets; ++set) {
    const Buffers addresses = buffers(set);
    for (std::size_t i = 0; i < operands_.size(); ++i) {
      const Operand& operand = operands_[i];
      const bool filled = operand.role == Role::prepared || operand.role == Role::state;
      if (filled && (set == 0 || !operand.shared)) {
        fill(addresses.get(i), operand.type, operand.elements, operand.fill,
             seed + 1009 * i + 7919 * set, device_.stream());
      }
    }
  }
}

void CudaWorkload::begin_check(std::uint64_t seed) {
  fill_prepared(seed + 2);
  const Buffers addresses = buffers(0);
  for (std::size_t i = 0; i < operands_.size(); ++i) {
    const Operand& operand = operands_[i];
    const std::size_t bytes = bytes_of(operand);
    if (operand.role == Role::input) {
      // As bf16 whatever the type, as everything in the input arena.
      fill(addresses.get(i), DataType::bf16, static_cast<std::int64_t>(bytes / 2), Fill::normal(),
           seed + 104729 * (i + 1), device_.stream());
    } else if (operand.role == Role::output) {
      CUDA_CHECK(cudaMemsetAsync(addresses.get(i), poison_byte, bytes, device_.stream()));
    }
  }
  expected_ = reference(Inspector(device_, operands_, addresses));
}

double CudaWorkload::finish_check() {
  double worst = 0.0;
  for (const Expected& expected : expected_) {
    worst = std::max(worst, error_of(expected));
  }
  expected_.clear();
  return worst;
}

double CudaWorkload::error_of(const Expected& expected) const {
  const Buffers addresses = buffers(0);
  const std::vector<double> found =
      Inspector(device_, operands_, addresses).read(expected.operand, expected.indices);
  double difference = 0.0;
  double norm = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double deviation = found[i] - expected.values[i];
    difference += deviation * deviation;
    norm += expected.values[i] * expected.values[i];
  }
  if (!std::isfinite(difference) || !std::isfinite(norm)) {
    return std::numeric_limits<double>::infinity();
  }
  return norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

} // namespace predictor
