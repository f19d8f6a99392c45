// What operators of the CUDA backend have in common: operands in the arenas, rotating buffer sets,
// and the check of what a launch wrote.
#pragma once

#include "cuda/cuda_device.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace predictor {

enum class Role {
  input,    // normals that stay in the input arena
  prepared, // filled before every round, then only read
  state,    // filled before every round, then updated in place
  output,   // written in full
  scratch,  // for the launch's own use
};

struct Operand {
  std::string name;
  DataType type = DataType::bf16;
  std::int64_t elements = 0;
  Role role = Role::input;
  Fill fill = Fill::normal(); // of Role::prepared and Role::state
  bool shared = false;        // one for all buffer sets: tables and scratch
};

// The addresses of one buffer set, in the order of the operands.
class Buffers {
public:
  explicit Buffers(std::vector<std::byte*> addresses) : addresses_(std::move(addresses)) {}

  template <typename T = void>
  [[nodiscard]] T* get(std::size_t operand) const {
    return reinterpret_cast<T*>(addresses_[operand]);
  }

private:
  std::vector<std::byte*> addresses_;
};

// What an operand should hold after a launch, at sampled elements.
struct Expected {
  explicit Expected(std::size_t of_operand) : operand(of_operand) {}

  std::size_t operand;
  std::vector<std::int64_t> indices;
  std::vector<double> values;

  void add(std::int64_t index, double value) {
    indices.push_back(index);
    values.push_back(value);
  }
};

// Reads device data for references, in double.
class Inspector {
public:
  Inspector(CudaDevice& device, std::span<const Operand> operands, const Buffers& buffers)
      : device_(device), operands_(operands), buffers_(buffers) {}

  // Elements start, start + stride, … of an operand.
  [[nodiscard]] std::vector<double> read(std::size_t operand, std::int64_t start,
                                         std::int64_t count, std::int64_t stride = 1) const;
  [[nodiscard]] std::vector<double> read(std::size_t operand, const Lines& lines) const;
  [[nodiscard]] std::vector<double> read(std::size_t operand,
                                         std::span<const std::int64_t> indices) const;

  [[nodiscard]] const Buffers& buffers() const { return buffers_; }

private:
  CudaDevice& device_;
  std::span<const Operand> operands_;
  const Buffers& buffers_;
};

class CudaWorkload : public Workload {
public:
  void acquire() final;
  void enqueue(std::size_t index) final;
  void begin_round() final;
  [[nodiscard]] bool in_place() const final;
  void begin_check(std::uint64_t seed) override;
  [[nodiscard]] double finish_check() override;

protected:
  CudaWorkload(CudaDevice& device, const Request& request);

  // To be called once by the constructor of the operator: places the operands.
  void place(std::vector<Operand> operands, const Request& request);

  virtual void launch(const Buffers& buffers) = 0;
  // Called by place(), and whenever the operands moved.
  virtual void placed() {}
  // Called before the launch that is checked, so it sees the state that will be updated.
  [[nodiscard]] virtual std::vector<Expected> reference(const Inspector& inspector) = 0;

  [[nodiscard]] CudaDevice& device() const { return device_; }
  [[nodiscard]] Buffers buffers(std::size_t set) const;

private:
  // Where an operand lies in its arena: `offset` + set * `stride`.
  struct Place {
    std::size_t offset = 0;
    std::size_t stride = 0;
  };

  void lay_out(std::size_t sets);
  void allocate_separately();
  void fill_prepared(std::uint64_t seed);
  [[nodiscard]] double error_of(const Expected& expected) const;

  CudaDevice& device_;
  std::vector<Operand> operands_;
  std::vector<Place> places_;
  std::size_t input_bytes_ = 0;
  std::size_t output_bytes_ = 0;
  std::size_t input_base_ = 0;
  std::size_t output_base_ = 0;
  std::uint64_t generation_ = 0;
  std::vector<DeviceMemory> separate_; // set by set; empty where the operands lie in the arenas
  std::vector<Expected> expected_;
};

} // namespace predictor
